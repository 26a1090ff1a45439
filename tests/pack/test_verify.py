"""A week holds what it promised, or it is said what does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import handmade
import packs
import pytest
import toy

from halfhour.generator.errors import UsageError
from halfhour.generator.judge import Judge
from halfhour.generator.pack.verify import Pack, differences, open_pack, prove
from halfhour.generator.records import Puzzle, Status

TOY = packs.toy_pair()


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge(many=True) as judge:
        yield judge


@pytest.fixture
def week(tmp_path: Path) -> packs.Lying:
    return packs.make(tmp_path, [TOY])


# both zips find each other


@pytest.mark.parametrize("given", ["puzzles", "answers"])
def test_either_zip_finds_the_other_beside_it(week: packs.Lying, given: str) -> None:
    pack = open_pack(getattr(week, given))

    assert (pack.puzzles.where, pack.answers.where) == (str(week.puzzles), str(week.answers))
    assert list(differences(pack)) == []


def test_the_answers_may_lie_elsewhere(week: packs.Lying, tmp_path: Path) -> None:
    moved = week.answers.rename(tmp_path / "revealed.zip")

    assert list(differences(open_pack(week.puzzles, moved))) == []


def test_answers_that_are_not_there(week: packs.Lying) -> None:
    week.answers.unlink()

    with pytest.raises(UsageError, match=r"halfhour-2026-W48\.answers\.zip should be.*--answers"):
        open_pack(week.puzzles)


def test_puzzles_that_are_not_there(week: packs.Lying) -> None:
    week.puzzles.unlink()

    with pytest.raises(UsageError, match=r"where halfhour-2026-W48\.zip should be"):
        open_pack(week.answers)


def test_the_same_zip_twice_is_no_pack(week: packs.Lying) -> None:
    with pytest.raises(UsageError, match="holds the puzzles of a week and not its answers"):
        open_pack(week.puzzles, week.puzzles)


# commit and reveal


def wanting(pack: Pack) -> str:
    (sentence,) = differences(pack)
    return sentence


def test_a_judge_sealed_in_the_puzzles_is_that_of_the_answers(tmp_path: Path) -> None:
    week = packs.make(tmp_path, [TOY], judged=True)

    assert list(differences(open_pack(week.puzzles))) == []


def test_other_answers_than_those_committed_to(tmp_path: Path) -> None:
    week = packs.make(tmp_path, [TOY], committed="0" * 64)

    assert "not those that the puzzles were published with" in wanting(open_pack(week.puzzles))


def test_another_file_than_that_of_the_answers(tmp_path: Path) -> None:
    other = replace(TOY[0], source=TOY[0].source.replace("middle", "centre"))
    week = packs.make(tmp_path, [TOY], handed_out=[(other, TOY[1])])

    assert wanting(open_pack(week.puzzles)) == (
        "1-0badcafe was not handed out as the answers have it"
    )


def test_a_file_that_is_not_the_sealed_one(tmp_path: Path) -> None:
    """The manifest names it and the seal holds the right one."""
    week = packs.make(
        *(tmp_path, [TOY]), repack=lambda files: {**files, TOY[0].file_name: b"x = 1\n"}
    )

    assert "was not handed out as the answers have it" in wanting(open_pack(week.puzzles))


def test_a_puzzle_that_tells_its_seed(tmp_path: Path) -> None:
    """The same texts, and another record in the seal."""
    week = packs.make(tmp_path, [TOY], handed_out=[(replace(TOY[0], seed=7), TOY[1])])

    assert "was not handed out as the answers have it" in wanting(open_pack(week.puzzles))


@pytest.mark.parametrize("name", ["solution/toy.py", "bug.diff", "promises/test_hidden.py"])
def test_a_solution_to_read_that_is_not_the_sealed_one(tmp_path: Path, name: str) -> None:
    week = packs.make(tmp_path, [TOY], retell=lambda files: {**files, name: b"another\n"})

    assert wanting(open_pack(week.puzzles)) == (
        "the solution to read in 1-0badcafe is not the one that is judged by"
    )


def test_other_puzzles_than_those_of_the_answers(tmp_path: Path) -> None:
    week = packs.make(tmp_path, [TOY], handed_out=[(replace(TOY[0], level=3), TOY[1])])

    assert wanting(open_pack(week.puzzles)) == "the two manifests do not name the same puzzles"


def test_answers_of_another_week(tmp_path: Path) -> None:
    one = packs.make(tmp_path, [TOY])
    other = packs.make(tmp_path, [TOY], week="2026-W49")

    found = list(differences(open_pack(one.puzzles, other.answers)))

    assert "the puzzles are of 2026-W48, the answers of 2026-W49" in found


def test_another_judge_in_the_puzzles(tmp_path: Path) -> None:
    weaker = replace(TOY[1], promises=TOY[1].promises[:1])
    week = packs.make(tmp_path, [TOY], judged=True, handed_out=[(TOY[0], weaker)])

    assert wanting(open_pack(week.puzzles)) == (
        "the judge sealed in 1-0badcafe is not that of the answers"
    )


# every certificate again


def proven(folder: Path, judge: Judge, pair: packs.Pair) -> tuple[bool, str]:
    pack = open_pack(packs.make(folder, [pair]).puzzles)
    assert list(differences(pack)) == []
    (proof,) = prove(pack, judge)
    return proof.sound, proof.sentence


def handing_out(old: str, new: str) -> Puzzle:
    return replace(TOY[0], source=toy.mutant(old, new).source)


def test_a_certificate_that_holds(tmp_path: Path, judge: Judge) -> None:
    assert proven(tmp_path, judge, TOY) == (True, "breaks 3 of 4 promises, as certified")


def test_a_file_that_breaks_other_promises(tmp_path: Path, judge: Judge) -> None:
    pair = (handing_out("abs(value - middle)", "(value + middle)"), TOY[1])

    assert proven(tmp_path, judge, pair) == (
        False,
        "it breaks test_spread_by_hand, test_spread_ignores_a_shift; certified is"
        " test_mean_is_sum_over_count, test_spread_by_hand, test_spread_ignores_a_shift",
    )


def test_a_file_without_a_bug(tmp_path: Path, judge: Judge) -> None:
    pair = (replace(TOY[0], source=TOY[1].original), TOY[1])

    assert "it breaks nothing" in proven(tmp_path, judge, pair)[1]


def test_a_file_that_fails_its_visible_test(tmp_path: Path, judge: Judge) -> None:
    pair = (handing_out("total = 0.0", "total = 1.0"), TOY[1])

    assert proven(tmp_path, judge, pair) == (
        False,
        "the file fails the visible test: test_mean_of_one_value",
    )


def test_a_solution_that_is_wrong(tmp_path: Path, judge: Judge) -> None:
    pair = (TOY[0], replace(TOY[1], original=handmade.MUTANT.source))

    assert "the correct file does not keep its promises" in proven(tmp_path, judge, pair)[1]


def test_a_promise_that_is_not_unsteady_as_certified(tmp_path: Path, judge: Judge) -> None:
    certificate = replace(TOY[1].certificate, unsteady=("test_no_values_are_refused",))

    _, sentence = proven(tmp_path, judge, (TOY[0], replace(TOY[1], certificate=certificate)))

    assert sentence == (
        "under one seed alone it breaks nothing; certified is test_no_values_are_refused"
    )


def test_names_of_promises_do_not_steer_a_terminal(tmp_path: Path, judge: Judge) -> None:
    certificate = replace(TOY[1].certificate, broken=("test_\x1b[2Jx",))

    _, sentence = proven(tmp_path, judge, (TOY[0], replace(TOY[1], certificate=certificate)))

    assert "certified is test_" in sentence
    assert sentence.isprintable()


def test_a_certificate_that_proves_nothing(tmp_path: Path, judge: Judge) -> None:
    refused = replace(TOY[1].certificate, status=Status.EQUIVALENT)

    assert proven(tmp_path, judge, (TOY[0], replace(TOY[1], certificate=refused))) == (
        False,
        "its certificate proves nothing: equivalent",
    )


@pytest.mark.thorough
def test_the_starter_puzzles_hold(tmp_path: Path, judge: Judge) -> None:
    pack = open_pack(packs.make(tmp_path, packs.starter_pairs(), judged=True).puzzles)

    assert list(differences(pack)) == []
    assert [proof.sentence for proof in prove(pack, judge) if not proof.sound] == []
