"""Which weeks there are, and how they are named."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from halfhour.generator.errors import UsageError
from halfhour.generator.pack.week import Week

THURSDAY = date(2026, 11, 26)


@pytest.mark.parametrize(
    ("text", "name", "monday"),
    [
        ("2026-W48", "2026-W48", date(2026, 11, 23)),
        ("this", "2026-W48", date(2026, 11, 23)),
        ("next", "2026-W49", date(2026, 11, 30)),
        ("2026-W53", "2026-W53", date(2026, 12, 28)),
        ("2027-W01", "2027-W01", date(2027, 1, 4)),
    ],
)
def test_a_week_is_named_or_this_one_or_the_next(text: str, name: str, monday: date) -> None:
    week = Week.parse(text, THURSDAY)

    assert (week.name, week.monday) == (name, monday)


def test_the_first_days_of_january_may_lie_in_the_year_before() -> None:
    assert Week.parse("this", date(2027, 1, 3)).name == "2026-W53"
    assert Week.parse("next", date(2027, 1, 3)).name == "2027-W01"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026-W54", "2026 has 53 weeks, 2026-W01 to 2026-W53"),
        ("2025-W53", "2025 has 52 weeks"),
        ("2026-W00", "2026-W00 is no week"),
        ("2026W48", "write it as 2026-W48"),
        ("2026-48", "write it as 2026-W48"),
        ("26-W48", "write it as 2026-W48"),
        ("0000-W01", "write it as 2026-W48"),
        ("", "write it as 2026-W48"),
        ("2026-W4\N{FULLWIDTH DIGIT EIGHT}", "write it as 2026-W48"),
        ("2026-W48\n", "write it as 2026-W48"),
        ("last", "or this, or next"),
    ],
)
def test_what_is_no_week_is_told(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Week.parse(text, THURSDAY)


def test_weeks_are_counted_across_years() -> None:
    first = Week.named("2026-W40")
    names = [first.plus(n).name for n in range(20)]

    assert names[13:15] == ["2026-W53", "2027-W01"]
    assert first.plus(19).minus(19) == first
    assert sorted(map(Week.named, reversed(names))) == [Week.named(name) for name in names]
    assert first.plus(1).monday - first.monday == timedelta(days=7)
