"""What is asked for of a week."""

from __future__ import annotations

from dataclasses import dataclass

from .week import Week

PUBLIC_SEED = 0
"""The default: everyone's."""


@dataclass(frozen=True, slots=True)
class Order:
    """The same order, table and packs before give the same bytes."""

    week: Week
    seed: int = PUBLIC_SEED
    count: int = 5
    bugs: int = 1
    """In each puzzle of a high level."""
    judged: bool = False
    """Whether the answers are sealed in what candidates get."""
