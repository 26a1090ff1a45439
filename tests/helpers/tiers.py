"""What runs each time, and what only `--thorough` repeats: more seeds, subjects and rungs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def leading(count: int, values: Iterable[object]) -> list[Any]:
    """Return parameters of which only the first `count` run each time."""
    return [
        value if number < count else pytest.param(value, marks=pytest.mark.thorough)
        for number, value in enumerate(values)
    ]


def spread(count: int, values: Iterable[object]) -> list[Any]:
    """Return parameters of which `count`, evenly apart, run each time."""
    everything = list(values)
    step = max(1, len(everything) // count)
    return [
        value if number % step == 0 else pytest.param(value, marks=pytest.mark.thorough)
        for number, value in enumerate(everything)
    ]
