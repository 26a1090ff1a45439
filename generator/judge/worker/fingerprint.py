"""Whether a call changed an argument: a copy of all that it could change, to compare after."""

from __future__ import annotations

import marshal
from typing import Any

import numpy as np
import torch

from . import wire

Key = int | str
"""Position or keyword of an argument."""

_NO_REFERENCES = 0
"""The version of `marshal` whose bytes tell of values alone, not of who shares them."""


def changed(before: dict[Key, Any], after: dict[Key, Any]) -> tuple[Key, ...]:
    """Return the keys whose fingerprints differ."""
    return tuple(key for key in before if before[key] != after[key])


def fingerprints(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[Key, Any]:
    """Return the fingerprint of every argument."""
    arguments: list[tuple[Key, Any]] = [*enumerate(args), *kwargs.items()]
    return {key: fingerprint(value) for key, value in arguments}


def fingerprint(value: Any) -> Any:
    """Copy what a call could change in place: bytes of tensors and arrays, containers within.

    Bytes, because a tensor's version counter does not see a write through `.data` or numpy. Any
    other object counts as itself: a cache is meant to change.
    """
    match value:
        case torch.Tensor() if wire.is_plain(value):
            return (value.dtype, tuple(value.shape), bytes(wire.tensor_bytes(value)))
        case np.ndarray() if not value.dtype.hasobject:
            return (value.dtype.str, value.shape, value.tobytes())
        case list() | tuple() | dict():
            return _container(value)
        case set() | frozenset():
            return (type(value), frozenset(value))
        case bool() | int() | float() | complex() | str() | bytes():
            return (type(value), repr(value))
    return id(value)


def _container(value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> Any:
    """Copy a container: at once where it holds plain values only, else part by part."""
    try:
        return marshal.dumps(value, _NO_REFERENCES)
    except ValueError:
        items = (
            [part for pair in value.items() for part in pair] if isinstance(value, dict) else value
        )
        return (type(value), [fingerprint(item) for item in items])
