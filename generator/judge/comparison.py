"""How promises compare: `torch.testing.assert_close`, on the device that the values come from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch.testing import _comparison

from .devices import CPU

ROOM = {torch.float16: 2.0, torch.bfloat16: 2.0, torch.float32: 8.0, torch.float64: 8.0}
"""By how much a GPU may miss a tolerance that was set on a CPU.

It adds in another order and rounds functions otherwise: some units in the last place, where a
tolerance of 1e-5 is some eighty units of float32. In sixteen bits the tolerance is a unit already.
"""

# The court never meets a distributed tensor; to look for one imports sympy, for most of a second.
if hasattr(_comparison, "_HAS_DTENSOR"):
    _comparison._HAS_DTENSOR = False

_Approximate: Any = type(pytest.approx(1.0))
_is_close = _Approximate.__eq__


def _is_close_and_there(expected: Any, actual: object) -> bool:
    if isinstance(actual, torch.Tensor | np.ndarray) and 0 in actual.shape:
        return False
    return bool(_is_close(expected, actual))


# `pytest.approx` of a number finds an array close if all its elements are, and so an empty one.
_Approximate.__eq__ = _is_close_and_there

_assert_close = torch.testing.assert_close


@contextmanager
def for_device(device: str) -> Iterator[None]:
    """Give `assert_close` the room that values from this device need."""
    if device == CPU:
        yield
    else:
        with mock.patch.object(torch.testing, "assert_close", _roomy(_assert_close)):
            yield


def _roomy(compare: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(compare)
    def roomy(
        actual: Any,
        expected: Any,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        **options: Any,
    ) -> None:
        room = ROOM.get(getattr(expected, "dtype", torch.float64), 1.0)
        if rtol is None and atol is None:
            rtol, atol = _defaults(actual, expected)
        if rtol is not None and atol is not None:
            rtol, atol = rtol * room, atol * room
        compare(actual, expected, rtol=rtol, atol=atol, **options)

    return roomy


def _defaults(actual: Any, expected: Any) -> tuple[float | None, float | None]:
    """Return torch's own tolerances for two tensors; None leaves other values to it."""
    if not (isinstance(actual, torch.Tensor) and isinstance(expected, torch.Tensor)):
        return None, None
    rtol, atol = _comparison.default_tolerances(actual, expected)
    return rtol, atol
