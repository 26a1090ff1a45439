"""What the calls of the promises answer, so that two files can be told apart though no promise
does."""

from __future__ import annotations

import reprlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..judge.worker.fingerprint import fingerprint

if TYPE_CHECKING:
    from .items import Item

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlist = _SHORT.maxtuple = 12


@dataclass(slots=True)
class Recorder:
    """The calls of one run in their order."""

    calls: list[tuple[str, str, str, Any]] = field(default_factory=list)
    """Item, call, answer in words, answer to compare."""
    _item: str = ""

    def begin(self, item: Item) -> None:
        """Note what follows under this item."""
        self._item = item.name

    def note(
        self, function: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        """Note one call from outside."""
        given = [words(value) for value in args]
        given += [f"{name}={words(value)}" for name, value in kwargs.items()]
        call = f"{function}({', '.join(given)})"
        self.calls.append((self._item, call, words(result), _comparable(result)))


def first_difference(correct: Recorder, other: Recorder) -> str:
    """Say which call is answered otherwise; empty where none is."""
    for (item, call, right, a), (_, other_call, wrong, b) in zip(
        correct.calls, other.calls, strict=False
    ):
        if call != other_call:
            return f"in {item} another call follows: {other_call} instead of {call}"
        if a != b:
            return f"{call} gives {wrong} instead of {right} (called in {item})"
    return ""


def words(value: Any) -> str:
    """Say a value in a line: small tensors by their numbers, larger ones by shape and dtype."""
    match value:
        case torch.Tensor() if value.numel() <= 12:
            return f"tensor({_numbers(value)})"
        case torch.Tensor():
            kind = str(value.dtype).removeprefix("torch.")
            return f"<{kind} {'x'.join(map(str, value.shape))}>"
        case np.ndarray() if value.size > 12:
            return f"<{value.dtype} {'x'.join(map(str, value.shape))}>"
        case list() | tuple() if any(isinstance(v, torch.Tensor | np.ndarray) for v in value):
            inside = ", ".join(words(item) for item in value[:6])
            return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    text = _SHORT.repr(value)
    return text if " at 0x" not in text else f"<{type(value).__name__}>"


def _numbers(value: torch.Tensor) -> str:
    numbers = value.detach().tolist()
    return str(
        torch.round(value.detach().double(), decimals=4).tolist()
        if value.is_floating_point()
        else numbers
    )


def _comparable(value: Any) -> Any:
    """Return what can be compared across two runs: no object counts by its identity."""
    match value:
        case torch.Tensor() | np.ndarray() | bool() | int() | float() | str() | bytes() | None:
            return fingerprint(value) if value is not None else None
        case list() | tuple():
            return (type(value).__name__, [_comparable(item) for item in value])
        case dict():
            return [(_comparable(k), _comparable(v)) for k, v in value.items()]
    return type(value).__name__
