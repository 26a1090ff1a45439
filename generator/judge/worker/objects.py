"""What stays in the worker: objects behind handles, names behind paths, and how both are told."""

from __future__ import annotations

import builtins
import enum
import inspect
import types
from collections.abc import Sequence
from typing import Any

import torch

from .frames import Json
from .wire import Decoder, Encoder, Reader, Unsendable, WireError, is_plain

SPECIAL_METHODS = {
    "__call__": "call",
    "__len__": "len",
    "__getitem__": "getitem",
    "__setitem__": "setitem",
    "__delitem__": "delitem",
    "__contains__": "contains",
    "__iter__": "iter",
    "__next__": "next",
}
"""The special methods that a handle may offer, and the names of the operations behind them."""


class Objects:
    """The objects that were handed out, and the module whose names are paths."""

    def __init__(self) -> None:
        self.module = types.ModuleType("nothing_loaded")
        self._held: dict[int, Any] = {}
        self._next = 1
        self.readers: dict[str, Reader] = {
            "ref": self._read_ref,
            "method": self._read_method,
            "path": self._read_path,
            "module": lambda _, __, ___: self.module,
            "record": self._read_record,
        }

    def hold(self, value: Any) -> int:
        """Keep an object until it is released; return its number."""
        number, self._next = self._next, self._next + 1
        self._held[number] = value
        return number

    def held(self, number: int) -> Any:
        """Return the object of that number."""
        return self._held[number]

    def release(self, numbers: list[int]) -> None:
        """Forget objects that nobody refers to any more."""
        for number in numbers:
            self._held.pop(number, None)

    def look_up(self, path: str) -> Any:
        """Return what a dotted path of the module names. Raises AttributeError."""
        found: Any = self.module
        for name in path.split("."):
            found = getattr(found, name)
        return found

    def describe(self, value: Any, encoder: Encoder, depth: int) -> Json:
        """Encode what is no plain value. Raises Unsendable for a tensor that is not plain."""
        if isinstance(value, torch.Tensor) and not is_plain(value):
            raise Unsendable(f"a {type(value).__name__} on {value.device.type} cannot be sent")
        if isinstance(value, enum.Enum):
            return self._describe_member(value, encoder, depth)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            names = list(value._fields)
            items = [encoder.encode(item, depth + 1) for item in value]
            return ["record", self.path_of(type(value)) or type(value).__name__, names, *items]
        path = self.path_of(value)
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["error", path, describe_error(value)]
        if path is None:
            return self.reference(value)
        return ["class" if isinstance(value, type) else "function", path]

    def reference(self, value: Any) -> Json:
        """Hand out a handle, whatever the value is."""
        kind = type(value)
        ours = {path: base for base in kind.__mro__ if (path := self.path_of(base))}
        special = [op for name, op in SPECIAL_METHODS.items() if hasattr(kind, name)]
        methods = _methods(value, list(ours.values()))
        return ["ref", self.hold(value), kind.__name__, list(ours), special, methods]

    def path_of(self, value: Any) -> str | None:
        """Return the path of a function or class of the module; None for anything else."""
        if not isinstance(value, type | types.FunctionType | types.MethodType):
            return None
        if isinstance(value, types.MethodType) and not isinstance(value.__self__, type):
            return None
        path = value.__qualname__
        if value.__module__ != self.module.__name__ or "<" in path:
            return None
        try:
            found = self.look_up(path)
        except AttributeError:
            return None
        same = found == value if isinstance(value, types.MethodType) else found is value
        return path if same else None

    def _describe_member(self, member: enum.Enum, encoder: Encoder, depth: int) -> Json:
        if isinstance(member, int | str):  # equal to its value, so its value says it all
            return encoder.encode(member.value, depth)
        path = self.path_of(type(member))
        if path is None:
            return self.reference(member)
        return ["member", path, member.name, encoder.encode(member.value, depth + 1)]

    def _read_ref(self, _: Decoder, fields: list[Any], __: int) -> Any:
        (number,) = fields
        return self.held(number)

    def _read_method(self, _: Decoder, fields: list[Any], __: int) -> Any:
        number, name = fields
        return getattr(self.held(number), name)

    def _read_path(self, _: Decoder, fields: list[Any], __: int) -> Any:
        (path,) = fields
        return self.look_up(path)

    def _read_record(self, decoder: Decoder, fields: list[Any], depth: int) -> Any:
        path, _, *items = fields
        values = decoder.read_all(items, depth)
        try:
            record = self.look_up(path)
        except AttributeError:
            return tuple(values)
        if not (isinstance(record, type) and issubclass(record, tuple)):
            raise WireError("a record of a class that is none")
        return tuple.__new__(record, values)


def _methods(value: Any, classes: Sequence[type]) -> list[str]:
    """Return the public names that are methods of these classes: they need not be asked for."""
    own = getattr(value, "__dict__", ())
    return [
        name
        for name in dict.fromkeys(name for kind in classes for name in vars(kind))
        if not name.startswith("_")
        and name not in own
        and isinstance(inspect.getattr_static(value, name, None), types.FunctionType)
    ]


def describe_error(kind: type[BaseException]) -> Json:
    """Describe an exception class: `[name, names of its bases]` for itself and each class above.

    A built-in exception has no bases told: its name says them.
    """
    return [
        [_error_name(base), None if _is_builtin(base) else [_error_name(b) for b in base.__bases__]]
        for base in kind.__mro__
        if base is not object
    ]


def _is_builtin(kind: type) -> bool:
    return getattr(builtins, kind.__name__, None) is kind


def _error_name(kind: type) -> str:
    return kind.__name__ if _is_builtin(kind) else f"{kind.__module__}:{kind.__qualname__}"
