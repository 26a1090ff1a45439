"""How each promise fared, counted from pytest's own reports. Whatever is not passed is not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..records import Outcome

_PHASES = ("setup", "call", "teardown")


@dataclass(frozen=True, slots=True)
class Finding:
    """How one promise fared."""

    name: str
    outcome: Outcome
    detail: str = ""


@dataclass(slots=True)
class _Item:
    """One run of a promise's function: a parametrised promise has several."""

    passed: list[str] = field(default_factory=list)
    failed: tuple[Outcome, str] | None = None

    @property
    def kept(self) -> bool:
        return self.failed is None and tuple(self.passed) == _PHASES


class Ledger:
    """Collects the phases of every item of every promise."""

    def __init__(self, promises: Sequence[str]) -> None:
        self._items: dict[str, dict[str, _Item]] = {name: {} for name in promises}

    def passed(self, promise: str, item: str, phase: str) -> None:
        """Note a phase that pytest reports as passed."""
        self._item(promise, item).passed.append(phase)

    def failed(self, promise: str, item: str, outcome: Outcome, detail: str = "") -> None:
        """Note that an item is broken; its first outcome stays, except under `ended`."""
        found = self._item(promise, item)
        if found.failed is None:
            found.failed = (outcome, detail)

    def ended(self, promise: str, item: str, outcome: Outcome, detail: str) -> None:
        """Note that the worker ended in this item, whatever the item itself made of it."""
        self._item(promise, item).failed = (outcome, detail)

    def has_broken(self) -> bool:
        """Tell whether any item has failed."""
        return any(item.failed for items in self._items.values() for item in items.values())

    def finding(self, promise: str) -> Finding:
        """Return how a promise fared: its first item that is not kept speaks for it."""
        items = self._items[promise].values()
        if not items:
            return Finding(promise, Outcome.NOT_REACHED)
        for item in items:
            if not item.kept:
                return Finding(promise, *(item.failed or (Outcome.NOT_REACHED, "")))
        return Finding(promise, Outcome.KEPT)

    def findings(self) -> list[Finding]:
        """Return how every promise fared, in the order of the manifest."""
        return [self.finding(name) for name in self._items]

    def _item(self, promise: str, item: str) -> _Item:
        return self._items[promise].setdefault(item, _Item())
