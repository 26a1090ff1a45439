"""A year of weeks from the catalogue as it is, and nothing that comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from halfhour.generator.pack.draw import YEAR
from halfhour.generator.pack.order import Order
from halfhour.generator.pack.plan import Plan, PlannedWeek, plan, repeats
from halfhour.generator.pack.table import read_table
from halfhour.generator.pack.week import Week

WEEK = Week(2026, 48)
TABLE = read_table()


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("first", ["2026-W48", "2027-W21"])
def test_a_year_of_weeks_holds_with_the_catalogue_as_it_is(first: str, seed: int) -> None:
    planned = plan(TABLE, Order(Week.named(first), seed=seed), 52, {})

    assert planned.binding == ""
    assert len(planned.weeks) == 52
    held = [pair for each in planned.weeks for pair in each.pairs]
    assert len(held) == len(set(held)) == 5 * 52


def test_so_do_three_years_where_the_first_comes_back_in_the_second() -> None:
    planned = plan(TABLE, Order(WEEK), 3 * 52, {})

    assert planned.binding == ""
    assert repeats(planned, {}) == ()
    held = [pair for each in planned.weeks for pair in each.pairs]
    assert len(set(held)) < len(held)


def test_weeks_follow_each_other_across_the_year() -> None:
    planned = plan(TABLE, Order(WEEK), 8, {})

    assert [each.week.name for each in planned.weeks][4:7] == ["2026-W52", "2026-W53", "2027-W01"]


def test_packs_of_the_year_before_are_kept_clear_of() -> None:
    free = plan(TABLE, Order(WEEK), 1, {}).weeks[0]

    near = plan(TABLE, Order(WEEK), 1, {WEEK.minus(YEAR): free.pairs}).weeks[0]
    far = plan(TABLE, Order(WEEK), 1, {WEEK.minus(YEAR + 1): free.pairs}).weeks[0]
    later = plan(TABLE, Order(WEEK), 1, {WEEK: free.pairs, WEEK.plus(1): free.pairs}).weeks[0]

    assert not near.pairs & free.pairs
    assert far.pairs == later.pairs == free.pairs


def test_a_plan_that_cannot_go_on_says_what_binds() -> None:
    planned = plan(TABLE, Order(WEEK, count=10), 52, {})

    assert 0 < len(planned.weeks) < 52
    assert "the history binds" in planned.binding
    assert WEEK.plus(len(planned.weeks)).name in planned.binding


# the proof does not trust the draw


def test_a_pair_that_comes_back_is_found() -> None:
    first = plan(TABLE, Order(WEEK), 1, {}).weeks[0]
    forged = Plan((first, replace(first, week=WEEK.plus(YEAR))))

    found = repeats(forged, {})

    assert len(found) == 5
    assert all("is in 2026-W48 and again in 2027-W47" in sentence for sentence in found)


def test_after_a_year_it_may_come_back() -> None:
    first = plan(TABLE, Order(WEEK), 1, {}).weeks[0]
    later = PlannedWeek(WEEK.plus(YEAR + 1), first.slots)

    assert repeats(Plan((first, later)), {}) == ()


def test_a_pair_of_an_earlier_pack_is_found() -> None:
    first = plan(TABLE, Order(WEEK), 1, {}).weeks[0]
    before = WEEK.minus(3)

    assert len(repeats(Plan((first,)), {before: first.pairs})) == 5
    assert repeats(Plan((first,)), {WEEK.minus(YEAR + 1): first.pairs}) == ()


def test_packs_before_the_plan_are_not_its_fault() -> None:
    pairs = frozenset({("a_file", "a_bug")})

    earlier = {WEEK.minus(5): pairs, WEEK.minus(4): pairs}

    assert repeats(plan(TABLE, Order(WEEK), 1, {}), earlier) == ()
