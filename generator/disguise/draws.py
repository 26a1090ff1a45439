"""Choices that depend on nothing but the seed, the file and the place: no stream is shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ..records import digest

Choice = TypeVar("Choice")


@dataclass(frozen=True, slots=True)
class Draws:
    """What a seed decides in one file."""

    seed: int
    text: str
    """Digest of the file."""

    def number(self, *place: str) -> int:
        """Return a number of 64 bits for a place."""
        return int(digest("disguise", str(self.seed), self.text, *place)[:16], 16)

    def happens(self, percent: int, *place: str) -> bool:
        """Say whether something happens that does in so many of a hundred places."""
        return self.number(*place) % 100 < percent

    def shuffled(self, items: Sequence[Choice], *place: str) -> list[Choice]:
        """Return the items in an order of their own."""
        numbers = [self.number(*place, str(i)) for i in range(len(items))]
        return [items[i] for i in sorted(range(len(items)), key=numbers.__getitem__)]
