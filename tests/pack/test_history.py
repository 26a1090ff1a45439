"""What earlier packs held is read from the answers that lie in a folder."""

from __future__ import annotations

from pathlib import Path

import handmade
import packs
import pytest

from halfhour.generator.errors import UnsoundPuzzle
from halfhour.generator.pack.history import met, pairs_by_week
from halfhour.generator.pack.week import Week

TOY = packs.toy_pair()
PAIR = frozenset({("toy", handmade.BUG.mutator)})
WEEK = Week(2026, 48)


def test_the_pairs_of_each_week(tmp_path: Path) -> None:
    packs.make(tmp_path, [TOY], week="2026-W48")
    packs.make(tmp_path, [TOY], week="2027-W01")
    (tmp_path / "notes.zip").write_text("mine", encoding="utf-8")

    assert pairs_by_week(tmp_path) == {WEEK: PAIR, Week(2027, 1): PAIR}


def test_no_folder_is_no_history(tmp_path: Path) -> None:
    assert pairs_by_week(tmp_path / "packs") == {}


@pytest.mark.parametrize(
    ("week", "counts"),
    [(WEEK.minus(53), False), (WEEK.minus(52), True), (WEEK.minus(1), True), (WEEK, False)],
)
def test_the_year_before_a_week_counts_and_neither_it_nor_later_ones(
    week: Week, counts: bool
) -> None:
    assert met({week: PAIR, WEEK.plus(1): PAIR}, WEEK) == (PAIR if counts else frozenset())


def test_answers_named_after_no_week(tmp_path: Path) -> None:
    answers = packs.make(tmp_path, [TOY]).answers
    answers.rename(tmp_path / "halfhour-2026-W54.answers.zip")

    with pytest.raises(UnsoundPuzzle, match="is misnamed: 2026-W54 is no week"):
        pairs_by_week(tmp_path)


def test_answers_named_after_another_week(tmp_path: Path) -> None:
    answers = packs.make(tmp_path, [TOY]).answers
    answers.rename(tmp_path / "halfhour-2026-W47.answers.zip")

    with pytest.raises(UnsoundPuzzle, match=r"name it halfhour-2026-W48\.answers\.zip"):
        pairs_by_week(tmp_path)
