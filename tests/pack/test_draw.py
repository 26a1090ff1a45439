"""A week is drawn by its seed: levels rise, topics and files differ, and nothing comes back."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

import pytest

from halfhour.generator.errors import UsageError
from halfhour.generator.pack.draw import Candidate, Slot, draw, fill, levels
from halfhour.generator.pack.order import Order
from halfhour.generator.pack.table import Certified, Table, read_table
from halfhour.generator.pack.week import Week

WEEK = Week(2026, 48)
TABLE = read_table()


def a_table(rows: Iterable[tuple[str, str, str, int]]) -> Table:
    """Return a table of (subject, mutator, topic, level)."""
    puzzles = (Certified(s, m, t, n, 10 + n, level, "") for n, (s, m, t, level) in enumerate(rows))
    return Table("1", "2", (), tuple(puzzles))


FIVE = [(f"file_{n}", f"bug_{n}", f"topic_{n}", n) for n in range(1, 6)]


def pairs(slots: Collection[Slot]) -> list[tuple[str, str]]:
    return [slot.drawn.pair for slot in slots]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, (3,)),
        (2, (2, 4)),
        (3, (1, 3, 5)),
        (4, (1, 2, 4, 5)),
        (5, (1, 2, 3, 4, 5)),
        (7, (1, 2, 2, 3, 4, 4, 5)),
        (10, (1, 1, 2, 2, 3, 3, 4, 4, 5, 5)),
    ],
)
def test_levels_rise_from_the_lowest_to_the_highest(count: int, expected: tuple[int, ...]) -> None:
    assert levels(count) == expected


@pytest.mark.parametrize("count", [1, 5, 10])
def test_topics_and_files_differ(count: int) -> None:
    slots = draw(TABLE, Order(WEEK, count=count))

    assert len({slot.drawn.topic for slot in slots}) == count
    assert len({slot.drawn.subject for slot in slots}) == count
    assert [slot.level for slot in slots] == list(levels(count))


def test_every_candidate_is_certified_at_the_level_of_its_slot() -> None:
    for slot in draw(TABLE, Order(WEEK)):
        assert slot.candidates
        assert all(slot.level in TABLE.levels[each.pair] for each in slot.candidates)
        assert len({each.pair for each in slot.candidates}) == len(slot.candidates)


def test_who_takes_the_place_of_a_candidate_stands_beside_the_others_drawn() -> None:
    slots = draw(TABLE, Order(WEEK))

    for slot in slots:
        others = [other.drawn for other in slots if other != slot]
        for each in slot.candidates:
            assert each.subject not in {other.subject for other in others}
            assert each.topic not in {other.topic for other in others}


def test_the_draw_follows_from_week_and_seed() -> None:
    assert draw(TABLE, Order(WEEK, seed=7)) == draw(TABLE, Order(WEEK, seed=7))
    drawn = {
        tuple(pairs(draw(TABLE, Order(week, seed=seed))))
        for week in (WEEK, WEEK.plus(1))
        for seed in range(5)
    }

    assert len(drawn) == 10


def test_what_was_met_is_not_drawn() -> None:
    first = draw(TABLE, Order(WEEK))
    second = draw(TABLE, Order(WEEK), pairs(first))

    candidates = {each.pair for slot in second for each in slot.candidates}
    assert not set(pairs(first)) & candidates


def test_other_levels_are_left_what_only_they_can_have() -> None:
    """Of two bugs for a slot, that is drawn of which no other level has need."""
    both = [("file_5", "both", "topic_5", 4), ("file_5", "both", "topic_5", 5)]
    table = a_table([*FIVE, *both, ("file_6", "other", "topic_6", 4)])
    drawn = [draw(table, Order(WEEK, seed=seed))[4].drawn.mutator for seed in range(60)]

    assert drawn.count("bug_5") > 45


def test_of_topics_and_files_with_much_left_more_is_drawn() -> None:
    many = [(f"file_{5 + n % 2}", f"many_{n}", "topic_5", 5) for n in range(9)]
    table = a_table([*FIVE[:4], *many, ("file_7", "rare", "topic_7", 5)])
    drawn = [draw(table, Order(WEEK, seed=seed))[4].drawn.mutator for seed in range(60)]

    assert drawn.count("rare") < 3


# more bugs


def test_more_bugs_come_from_the_same_file_from_level_four_on() -> None:
    slots = draw(TABLE, Order(WEEK, bugs=3))

    assert [slot.bugs for slot in slots] == [1, 1, 1, 3, 3]
    for slot in slots:
        for each in slot.candidates:
            assert (len(each.companions) >= 2) == (slot.bugs == 3)
            assert each.mutator not in each.companions
            assert all((each.subject, other) in TABLE.levels for other in each.companions)


def test_companions_were_not_met_either() -> None:
    slot = draw(TABLE, Order(WEEK, bugs=2))[4]
    met = {(slot.drawn.subject, name) for name in slot.drawn.companions}

    for again in draw(TABLE, Order(WEEK, bugs=2), met):
        for each in again.candidates:
            assert not {(each.subject, name) for name in each.companions} & met


# what binds


def binding(table: Table, order: Order, met: Collection[tuple[str, str]] = ()) -> str:
    with pytest.raises(UsageError) as caught:
        draw(table, order, met)
    return str(caught.value)


def test_the_level_binds() -> None:
    assert "the level binds, for 1 of level 3 are wanted and 0 certified" in binding(
        a_table([row for row in FIVE if row[3] != 3]), Order(WEEK)
    )


def test_the_history_binds() -> None:
    said = binding(a_table(FIVE), Order(WEEK), [("file_3", "bug_3")])

    assert said.startswith("5 puzzles for 2026-W48 cannot be drawn: the history binds")
    assert "only 0 of 1 bugs of level 3 were in no pack" in said
    assert "--history" in said
    assert "--count" in said


def test_the_topic_binds() -> None:
    rows = [*FIVE[:4], ("file_5", "bug_5", "topic_1", 5)]

    assert "the topic binds" in binding(a_table(rows), Order(WEEK))


def test_the_subject_binds() -> None:
    rows = [*FIVE[:4], ("file_1", "bug_5", "topic_5", 5)]

    assert "the subject binds" in binding(a_table(rows), Order(WEEK))


def test_topic_and_subject_bind_together() -> None:
    rows = [*FIVE[:4], ("file_1", "bug_5", "topic_1", 5)]

    assert "topic and subject bind together" in binding(a_table(rows), Order(WEEK))


def test_more_bugs_than_a_file_has_bind_the_level() -> None:
    said = binding(a_table(FIVE), Order(WEEK, bugs=2))

    assert "the level binds" in said
    assert "--bugs" in said


def test_fewer_puzzles_may_be_drawn_where_more_cannot() -> None:
    table = a_table([row for row in FIVE if row[3] != 3])

    assert [slot.level for slot in draw(table, Order(WEEK, count=2))] == [2, 4]


# filling the slots


def a_slot(level: int, *candidates: Candidate) -> Slot:
    return Slot(level, 1, candidates)


ONE = Candidate("file_1", "bug_1", "topic_1")
TWO = Candidate("file_2", "bug_2", "topic_2")
THREE = Candidate("file_3", "bug_3", "topic_3")


def test_a_candidate_that_makes_nothing_is_passed_over() -> None:
    slots = [a_slot(1, ONE, TWO), a_slot(2, THREE)]

    made = fill(slots, lambda slot, each: None if each == ONE else (slot.level, each))

    assert made == ((1, TWO), (2, THREE))


@pytest.mark.parametrize("same", ["subject", "topic"])
def test_a_file_or_topic_that_is_in_the_pack_is_passed_over(same: str) -> None:
    twin = replace(TWO, **{same: getattr(ONE, same)})

    assert fill([a_slot(1, ONE), a_slot(2, twin, THREE)], lambda _, each: each) == (ONE, THREE)


def test_a_slot_that_nothing_fills_says_that_its_level_binds() -> None:
    with pytest.raises(UsageError, match=r"level 4 .* the level binds, for none of 2 certified"):
        fill([a_slot(1, ONE), a_slot(4, TWO, THREE)], lambda _, each: each if each == ONE else None)
