"""Plan many weeks from the table alone, and prove by counting that nothing comes back in a year."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from ..errors import UsageError
from . import history
from .draw import YEAR, Slot, draw
from .order import Order
from .table import Pair, Table
from .week import Week


@dataclass(frozen=True, slots=True)
class PlannedWeek:
    """What would be drawn for a week."""

    week: Week
    slots: tuple[Slot, ...]

    @property
    def pairs(self) -> frozenset[Pair]:
        """What its packs would hold."""
        return frozenset(
            (slot.drawn.subject, mutator)
            for slot in self.slots
            for mutator in (slot.drawn.mutator, *slot.drawn.companions[: slot.bugs - 1])
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """Weeks one after the other."""

    weeks: tuple[PlannedWeek, ...]
    binding: str = ""
    """Which constraint ended the plan before its time; empty where none did."""


def plan(table: Table, first: Order, weeks: int, earlier: Mapping[Week, frozenset[Pair]]) -> Plan:
    """Return what would be drawn week by week, each with regard to the year before it.

    The weeks after the first are ordered alike.
    """
    known = {week: pairs for week, pairs in earlier.items() if week < first.week}
    planned: list[PlannedWeek] = []
    for week in map(first.week.plus, range(weeks)):
        try:
            slots = draw(table, replace(first, week=week), history.met(known, week))
        except UsageError as error:
            return Plan(tuple(planned), str(error))
        planned.append(PlannedWeek(week, slots))
        known[week] = planned[-1].pairs
    return Plan(tuple(planned))


def repeats(planned: Plan, earlier: Mapping[Week, frozenset[Pair]]) -> tuple[str, ...]:
    """Return which pairs come back within a year, a sentence each: counted, not reasoned.

    They may come back from the packs before the plan, too.
    """
    if not planned.weeks:
        return ()
    first = planned.weeks[0].week
    packs = {week: pairs for week, pairs in earlier.items() if week < first}
    packs |= {each.week: each.pairs for each in planned.weeks}
    held: dict[Pair, list[Week]] = defaultdict(list)
    for week in sorted(packs):
        for pair in packs[week]:
            held[pair].append(week)
    return tuple(
        f"{mutator} in {subject} is in {before.name} and again in {after.name}"
        for (subject, mutator), found in sorted(held.items())
        for before, after in pairwise(found)
        if after >= first and before >= after.minus(YEAR)
    )
