"""Follows what the interpreter does in one file while tests run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from .items import Item

_CLASSES = {"f": "float", "i": "int", "u": "int", "b": "bool", "c": "complex"}


class Tracer:
    """Collects what a `Profile` says of one file."""

    def __init__(self, file_name: str) -> None:
        self.depths: dict[str, dict[int, int]] = {}
        self.kinds: dict[str, str] = {}
        self._file_name = file_name
        self._here: dict[int, int] = {}

    def begin(self, item: Item) -> None:
        """Count what follows for the promise of this item."""
        self._here = self.depths.setdefault(item.promise, {})

    @contextmanager
    def following(self) -> Iterator[None]:
        """Trace what runs within."""
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
            elif event == "return":
                self._look_at(frame)
            return at_line

        return at_line

    def _look_at(self, frame: FrameType) -> None:
        """Note of what kind the local variables are at the end of a function."""
        for name, value in frame.f_locals.items():
            variable = f"{frame.f_code.co_qualname}.{name}"
            found = kind(value)
            if found and self.kinds.setdefault(variable, found) != found:
                self.kinds[variable] = ""

    def _depth(self, frame: FrameType) -> int:
        depth = 1
        above = frame.f_back
        while above is not None:
            depth += above.f_code.co_filename == self._file_name
            above = above.f_back
        return depth


def kind(value: object) -> str:
    """Return a value's kind: `float3` for a tensor of three dimensions, `int`, `list`; "" for None.

    An array of numpy counts as a tensor; the widths of its numbers do not count.
    """
    if isinstance(value, torch.Tensor):
        return f"{_class_of(value)}{value.dim()}"
    if isinstance(value, np.ndarray):
        return f"{_CLASSES.get(value.dtype.kind, 'object')}{value.ndim}"
    return "" if value is None else type(value).__name__


def _class_of(tensor: torch.Tensor) -> str:
    if tensor.dtype is torch.bool:
        return "bool"
    if tensor.is_complex():
        return "complex"
    return "float" if tensor.is_floating_point() else "int"
