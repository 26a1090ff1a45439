"""Records of ours from plain JSON values, each checked against its annotation."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

Record = TypeVar("Record")


def record(kind: type[Record], value: object) -> Record:
    """Build a record; unknown keys are let be.

    Raises TypeError, ValueError or KeyError where the value is none of that kind.
    """
    if not isinstance(value, dict):
        raise TypeError(f"{kind.__name__} must be an object")
    hints = get_type_hints(kind)
    arguments = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in value or field.default is MISSING:
            arguments[field.name] = _value(hints[field.name], value[field.name])
    return kind(**arguments)


def _value(kind: Any, value: object) -> object:
    if isinstance(kind, UnionType):
        others = [each for each in get_args(kind) if each is not NoneType]
        return None if value is None else _value(others[0], value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise TypeError("a list was expected")
        return tuple(_value(get_args(kind)[0], item) for item in value)
    if is_dataclass(kind):
        return record(kind, value)  # type: ignore[arg-type]
    if issubclass(kind, StrEnum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} was expected")
    return value
