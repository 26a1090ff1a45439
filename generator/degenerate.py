"""Files that only look like work: a correct file of which one function answers nonsense.

Each is the correct text with an appendix that replaces a function by itself with another answer.
Promises that such a file keeps are too weak. The appendix counts the answers that it really
changed: a function that answers None has no nonsense to give.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from .records import Promise, Subject, Trial

ANSWERS = {
    "zeros": "every number is 0",
    "ones": "every number is 1",
    "constant": "every number is 7",
    "nan": "every float is NaN",
    "scaled": "every float is 1.001 times too large",
    "dtype": "tensors have another dtype",
    "dimension": "tensors and lists have one more dimension in front",
    "input": "its first argument comes back",
}
"""What a function answers instead, by name."""

COUNTER = Promise("test_that_no_answer_was_changed", "No answer was changed.")
"""Not of the subject: it breaks where the appendix has changed an answer."""

_COUNTER_TEST = f"""

def {COUNTER.name}(subject):
    assert subject.changed_answers() == 0
"""

_APPENDIX = """

def changed_answers() -> int:
    return _changed[0]


_changed = [0]


def _spoil(function, how):
    import copy
    import dataclasses
    import functools
    import inspect

    import numpy as np
    import torch

    floats = (float, np.floating)

    def number(value, to):
        if isinstance(value, bool | np.bool_):
            return bool(to)
        if isinstance(value, str | bytes):
            return value if how != "zeros" else value[:0]
        return type(value)(to)

    def leaf(value):
        if isinstance(value, torch.Tensor):
            return tensor(value)
        if isinstance(value, np.ndarray):
            if value.dtype.kind not in "biufc":
                return value
            mapped = tensor(torch.from_numpy(np.ascontiguousarray(value))).numpy()
            return mapped
        if how in ("zeros", "ones", "constant"):
            return number(value, {"zeros": 0, "ones": 1, "constant": 7}[how])
        if isinstance(value, floats) and how == "nan":
            return type(value)("nan")
        if isinstance(value, floats) and how == "scaled":
            return type(value)(value * 1.001)
        return value

    def tensor(value):
        match how:
            case "zeros":
                return torch.zeros_like(value)
            case "ones":
                return torch.ones_like(value)
            case "constant":
                return torch.full_like(value, 7)
            case "nan" if value.is_floating_point():
                return torch.full_like(value, float("nan"))
            case "scaled" if value.is_floating_point():
                return value * 1.001
            case "dtype" if value.dtype is torch.float64:
                return value.float()
            case "dtype" if value.is_floating_point():
                return value.double()
            case "dtype":
                return value.to(torch.int32 if value.dtype is torch.int64 else torch.int64)
            case "dimension":
                return value[None]
        return value

    def spoilt(value):
        if isinstance(value, bool | int | float | str | bytes | np.generic | np.ndarray):
            return leaf(value)
        if isinstance(value, torch.Tensor):
            return leaf(value)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*map(spoilt, value))
        if type(value) in (list, tuple):
            mapped = type(value)(map(spoilt, value))
            return [mapped] if how == "dimension" and type(value) is list else mapped
        if type(value) is dict:
            return {key: spoilt(item) for key, item in value.items()}
        if dataclasses.is_dataclass(value) and type(value).__dataclass_params__.frozen:
            other = copy.copy(value)
            for field in dataclasses.fields(value):
                object.__setattr__(other, field.name, spoilt(getattr(value, field.name)))
            return other
        return value

    def same(a, b):
        if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
            return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
        if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
            return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
        if type(a) is not type(b):
            return False
        if isinstance(a, list | tuple):
            return len(a) == len(b) and all(map(same, a, b))
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
        if dataclasses.is_dataclass(a):
            names = [field.name for field in dataclasses.fields(a)]
            return all(same(getattr(a, name), getattr(b, name)) for name in names)
        return a is b or bool(a == b)

    def instead(value, args, kwargs):
        if value is None:
            return value
        if how == "input":
            given = [*args, *kwargs.values()]
            like = [each for each in given if type(each) is type(value)]
            other = (like or given or [value])[0]
        else:
            other = spoilt(value)
        _changed[0] += not same(value, other)
        return other

    skip = 1 if "." in function.__qualname__ else 0

    @functools.wraps(function)
    def answered(*args, **kwargs):
        return instead(function(*args, **kwargs), args[skip:], kwargs)

    @functools.wraps(function)
    def yielded(*args, **kwargs):
        for value in function(*args, **kwargs):
            yield instead(value, args[skip:], kwargs)

    return yielded if inspect.isgeneratorfunction(function) else answered


def _replace(path, how):
    *owners, name = path.split(".")
    owner = globals() if not owners else globals()[owners[0]]
    found = owner[name] if not owners else vars(owner)[name]
    if isinstance(found, staticmethod | classmethod):
        new = type(found)(_spoil(found.__func__, how))
    elif isinstance(found, property):
        new = property(_spoil(found.fget, how), found.fset)
    else:
        new = _spoil(found, how)
    if owners:
        setattr(owner, name, new)
    else:
        owner[name] = new


"""


@dataclass(frozen=True, slots=True)
class Degenerate:
    """A file of which one function answers nonsense."""

    function: str
    answer: str
    """A key of `ANSWERS`."""
    source: str


def degenerate_files(subject: Subject) -> Iterator[Degenerate]:
    """Yield every public function and method with every answer, in reading order."""
    top = ast.parse(subject.source).body
    classes = {node.name for node in top if isinstance(node, ast.ClassDef)}
    for path in subject.public_names:
        if path in classes:
            continue
        for answer in ANSWERS:
            source = f"{subject.source}{_APPENDIX}_replace({path!r}, {answer!r})\n"
            yield Degenerate(path, answer, source)


def degenerate_trial(subject: Subject, file: Degenerate, seed: int) -> Trial:
    """Return the trial of such a file: the subject's promises, and COUNTER last."""
    return Trial(
        name=subject.name,
        source=file.source,
        tests=subject.hidden_tests + _COUNTER_TEST,
        promises=(*subject.promises, COUNTER),
        public_names=subject.public_names,
        seed=seed,
        hasty=True,
    )
