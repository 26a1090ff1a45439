"""Which lines of the correct file each promise runs, and how deep below the call of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .items import Item

Depths = dict[str, dict[int, int]]
"""Per promise the lines it runs, each with the fewest frames of the file that lead there."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One traced run of all promises on the correct file."""

    depths: Mapping[str, Mapping[int, int]]

    @property
    def lines(self) -> frozenset[int]:
        """Every line that some promise runs."""
        return frozenset(line for lines in self.depths.values() for line in lines)

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return what `from_json` takes."""
        return {
            name: {str(line): depth for line, depth in lines.items()}
            for name, lines in self.depths.items()
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Mapping[str, int]]) -> Profile:
        """Return the profile that `as_json` wrote down."""
        return cls({n: {int(k): v for k, v in lines.items()} for n, lines in found.items()})


class Tracer:
    """Follows what the interpreter does in one file while tests run."""

    def __init__(self, file_name: str) -> None:
        self.depths: Depths = {}
        self._file_name = file_name
        self._here: dict[int, int] = {}

    def begin(self, item: Item) -> None:
        """Count what follows for the promise of this item."""
        self._here = self.depths.setdefault(item.promise, {})

    @contextmanager
    def following(self) -> Iterator[None]:
        """Trace what runs within."""
        import sys

        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if frame.f_code.co_filename != self._file_name or event != "call":
            return None
        depth = self._depth(frame)
        lines = self._here

        def at_line(frame: FrameType, event: str, _: Any) -> Callable[..., Any]:
            if event == "line":
                known = lines.get(frame.f_lineno)
                if known is None or depth < known:
                    lines[frame.f_lineno] = depth
            return at_line

        return at_line

    def _depth(self, frame: FrameType) -> int:
        depth = 1
        above = frame.f_back
        while above is not None:
            depth += above.f_code.co_filename == self._file_name
            above = above.f_back
        return depth
