"""What two answers differ in, as the shortest expression that a script can print."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch

_FEW = 16
"""Items of a list that are printed together."""
_FEW_NUMBERS = 8
"""Numbers of a tensor that are printed together."""
_CLOSE = 1e-3
"""Two numbers nearer than this, beside their size, count as the same: rounding is no bug."""
_LONGEST = 200
_DEPTH = 5


def difference(correct: Any, other: Any, text: str, depth: int = _DEPTH) -> str | None:
    """Return what is told apart in two values that the expression `text` stands for, or None."""
    if depth == 0 or correct is other:
        return None
    if isinstance(correct, torch.Tensor) and isinstance(other, torch.Tensor):
        return _of_tensors(correct, other, text)
    if _is_plain(correct) and _is_plain(other):
        if _same(correct, other):
            return None
        if isinstance(correct, bytes) and isinstance(other, bytes) and len(correct) > _FEW:
            return f"{text}.hex()[:8]"
        return _rounded(correct, other, text)
    if type(correct).__name__ != type(other).__name__:
        return f"type({text}).__name__"
    match correct:
        case dict():
            if list(map(repr, correct)) != list(map(repr, other)):
                return f"list({text})"
            pairs = [(f"{text}[{key!r}]", correct[key], other[key]) for key in correct]
        case list() | tuple() if not hasattr(correct, "_fields"):
            if len(correct) != len(other):
                return f"len({text})"
            pairs = [
                (f"{text}[{at}]", a, b)
                for at, (a, b) in enumerate(zip(correct, other, strict=True))
            ]
        case _:
            pairs = [
                (f"{text}.{name}", getattr(correct, name), getattr(other, name))
                for name in open_names(correct)
                if hasattr(correct, name) and hasattr(other, name)
            ]
    for inner, a, b in pairs:
        found = difference(a, b, inner, depth - 1)
        if found is not None:
            return found
    return None


def open_names(value: Any) -> Iterator[str]:
    """Yield the public names that an object tells of itself by: fields and properties."""
    if isinstance(value, torch.nn.Module) or inspect.isroutine(value) or isinstance(value, type):
        return
    kind = type(value)
    if kind.__module__.partition(".")[0] in {"builtins", "torch", "numpy"}:
        return
    if hasattr(value, "_fields"):
        yield from value._fields
    properties = [n for k in kind.__mro__ for n, v in vars(k).items() if isinstance(v, property)]
    fields = [f.name for f in dataclasses.fields(value)] if dataclasses.is_dataclass(value) else []
    for name in dict.fromkeys((*properties, *fields, *getattr(value, "__dict__", ()))):
        if not name.startswith("_"):
            yield name


def _of_tensors(correct: torch.Tensor, other: torch.Tensor, text: str) -> str | None:
    with_history = correct.requires_grad or other.requires_grad
    correct, other = correct.detach(), other.detach()
    if correct.device != other.device:
        return f"{text}.device"
    if correct.is_meta:
        return None
    if correct.shape != other.shape:
        text = f"{text}.detach()" if with_history else text
        small = max(correct.numel(), other.numel()) <= _FEW_NUMBERS
        return text if small else f"tuple({text}.shape)"
    apart = _apart(correct, other)
    if not bool(apart.any()):
        return f"{text}.dtype" if correct.dtype != other.dtype else None
    index: list[str] = []
    while correct.numel() > _FEW_NUMBERS:
        rows = apart.flatten(1).any(1) if apart.dim() > 1 else apart
        at = int(rows.nonzero()[0])
        if correct.dim() == 1:
            start = max(0, min(at - 2, len(correct) - 8))
            index.append(f"{start}:{start + 8}")
            break
        correct, other, apart = correct[at], other[at], apart[at]
        index.append(str(at))
    text = f"{text}[{', '.join(index)}]" if index else text
    return f"{text}.detach()" if with_history else text


def _apart(correct: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if not correct.is_floating_point() and not other.is_floating_point():
        return correct != other
    a, b = correct.double(), other.double()
    return ~torch.isclose(a, b, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)


def _is_plain(value: Any) -> bool:
    """Tell whether a value is printed whole."""
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return len(value) <= _LONGEST if isinstance(value, str | bytes) else True
    if isinstance(value, dict):
        return len(value) <= _FEW // 2 and all(map(_is_plain, (*value, *value.values())))
    if isinstance(value, list | tuple | set) and not hasattr(value, "_fields"):
        if any(isinstance(each, bytes) and len(each) > _FEW for each in value):
            return False
        return len(value) <= _FEW and all(map(_is_plain, value)) and len(repr(value)) <= _LONGEST
    return isinstance(value, torch.dtype)


def _same(correct: Any, other: Any) -> bool:
    if isinstance(correct, float) and isinstance(other, float):
        if math.isnan(correct) or math.isnan(other):
            return math.isnan(correct) and math.isnan(other)
        return math.isclose(correct, other, rel_tol=_CLOSE, abs_tol=_CLOSE)
    if isinstance(correct, list | tuple) and isinstance(other, list | tuple):
        return len(correct) == len(other) and all(map(_same, correct, other))
    if isinstance(correct, dict) and isinstance(other, dict):
        return list(correct) == list(other) and all(
            _same(correct[key], other[key]) for key in correct
        )
    return type(correct) is type(other) and bool(correct == other)


def _rounded(correct: Any, other: Any, text: str) -> str:
    """Return the expression with its numbers rounded, where that is said shortly."""
    if isinstance(correct, float) and isinstance(other, float):
        return f"round({text}, 4)"
    both = [correct, other]
    if any(isinstance(value, str) and not value.strip() for value in both):
        return f"repr({text})"  # what is empty would print nothing
    if all(isinstance(value, set) for value in both):
        return f"sorted({text})"
    if all(
        isinstance(value, list | tuple) and all(isinstance(each, float) for each in value)
        for value in both
    ) and any(both):
        return f"[round(number, 4) for number in {text}]"
    return text
