"""The screen tries our own mutants quickly and tells what the judge would see."""

from __future__ import annotations

import pytest
import toy
from tiers import spread

from halfhour.generator import library
from halfhour.generator.certify import hidden_trial, seeds
from halfhour.generator.judge import Judge
from halfhour.generator.plant import plant
from halfhour.generator.records import Outcome, Subject
from halfhour.generator.screen import Screen, Sifted, Unscreenable
from halfhour.mutators import find_mutator

SEEDS = (11, 12)
WRONG = ("test_mean_is_sum_over_count", "test_spread_ignores_a_shift", "test_spread_by_hand")
"""What a mean that is too small breaks."""


def sift(screen: Screen, *edits: tuple[str, str], of: Subject | None = None) -> list[Sifted]:
    subject = of or toy.subject()
    texts = [toy.mutant(*edit, of=subject).source for edit in edits]
    return screen.sift(subject, texts, seeds=SEEDS)


def broken(seen: Sifted) -> list[set[str]]:
    return [
        {name for name, (outcome, _) in run.items() if outcome is not Outcome.KEPT}
        for run in seen.runs
    ]


def test_each_mutant_is_tried_under_each_seed_and_in_order(screen: Screen) -> None:
    wrong, same = sift(
        screen,
        ("total / len(values)", "total / (len(values) + (len(values) > 1))"),
        ("total += value", "total = value + total"),
    )

    assert broken(wrong) == [set(WRONG)] * 2
    assert broken(same) == [set(), set()]


def test_a_mutant_that_fails_the_visible_test_is_not_tried_further(screen: Screen) -> None:
    (seen,) = sift(screen, ("total = 0.0", "total = 1.0"))

    assert seen.visible is not None
    assert seen.visible["test_mean_of_one_value"][0] is Outcome.WRONG
    assert seen.runs == ()


def test_an_exception_of_the_file_is_told_from_a_wrong_value(screen: Screen) -> None:
    (seen,) = sift(screen, ("middle = mean(values)", "middle = mean(values[9:])"))

    assert seen.runs[0]["test_spread_by_hand"][0] is Outcome.RAISED


def test_a_mutant_that_does_not_load_a_hanging_and_a_dying_one_spare_the_others(
    screen: Screen,
) -> None:
    fine = ("total += value", "total = value + total")
    unloaded, hanging, dead, last = sift(
        screen,
        (
            "def spread(values: list[float]) -> float:",
            "def spread(values: list[nothing]) -> float:",
        ),
        ("    middle = mean(values)", "    while True:\n        middle = 1.0"),
        ("    middle = mean(values)", "    __import__('os')._exit(0)\n    middle = mean(values)"),
        fine,
    )

    assert "nothing" in unloaded.unloaded
    assert hanging.runs[0]["test_spread_ignores_a_shift"][0] is Outcome.TIMED_OUT
    assert dead.ended
    assert broken(last) == [set(), set()]


def test_what_one_mutant_does_to_the_process_does_not_reach_the_next(screen: Screen) -> None:
    """Tests are executed anew for each, and numbers are drawn from a fresh seed."""
    hidden = (
        toy.HIDDEN
        + """

KNOWN = {}


def test_the_mean_is_the_same_each_time(subject):
    \"\"\"The mean of the same values never changes.\"\"\"
    known = KNOWN.setdefault("mean", subject.mean([random.random()]))
    assert known == subject.mean([known])
"""
    )
    subject = toy.subject(hidden=hidden)
    first, second = sift(
        screen,
        ("total / len(values)", "total / (len(values) + (len(values) > 1))"),
        ("total += value", "total = value + total"),
        of=subject,
    )

    assert "test_the_mean_is_the_same_each_time" not in broken(first)[0]
    assert broken(second) == [set(), set()]


def test_a_correct_file_that_breaks_a_promise_is_not_screened(screen: Screen) -> None:
    wrong = toy.subject(source=toy.SOURCE.replace("total / len(values)", "total / 2"))

    with pytest.raises(Unscreenable, match="test_mean_of_one_value breaks on the correct file"):
        screen.sift(wrong, [wrong.source], seeds=SEEDS)


def test_a_fixture_of_pytest_is_refused_by_name(screen: Screen) -> None:
    hidden = toy.HIDDEN.replace(
        "def test_spread_by_hand(subject)", "def test_spread_by_hand(tmp_path)"
    )

    with pytest.raises(Unscreenable, match="wants the fixture tmp_path"):
        screen.sift(toy.subject(hidden=hidden), [toy.SOURCE], seeds=SEEDS)


def test_a_promise_that_pytest_does_not_find_is_refused(screen: Screen) -> None:
    """The manifest names it: to go on without it would call a bug no bug."""
    hidden = toy.HIDDEN.replace(
        "def test_spread_by_hand", "@pytest.mark.parametrize('x', [])\ndef test_spread_by_hand"
    )

    with pytest.raises(Unscreenable):
        screen.sift(toy.subject(hidden=hidden), [toy.SOURCE], seeds=SEEDS)


def test_the_profile_says_which_lines_a_promise_runs_and_how_deep(screen: Screen) -> None:
    profile = screen.profile(toy.subject(), seed=1)
    lines = toy.SOURCE.splitlines()
    adds = 1 + next(i for i, line in enumerate(lines) if "total += value" in line)
    spreads = 1 + next(i for i, line in enumerate(lines) if "middle = mean" in line)

    assert profile.depths["test_mean_is_sum_over_count"][adds] == 1
    assert profile.depths["test_spread_by_hand"][adds] == 2
    assert spreads not in profile.depths["test_mean_is_sum_over_count"]
    assert adds not in profile.depths["test_no_values_are_refused"]


def test_a_difference_that_no_promise_sees_is_shown_with_its_input(screen: Screen) -> None:
    """Only numbers up to six are summed in these promises, and their mean is rounded by approx."""
    slightly = toy.mutant("total / len(values)", "total / len(values) + 1e-9").source
    same = toy.mutant("total += value", "total = value + total").source

    shown = screen.difference(toy.subject(), slightly, seeds=SEEDS)

    assert shown.startswith("mean([")
    assert "test_mean_is_sum_over_count" in shown
    assert screen.difference(toy.subject(), same, seeds=SEEDS) == ""


@pytest.mark.parametrize("name", spread(4, [subject.name for subject in library.subjects()]))
def test_every_subject_can_be_screened(screen: Screen, name: str) -> None:
    subject = library.find_subject(name)

    (seen,) = screen.sift(subject, [subject.source], seeds=SEEDS)

    assert broken(seen) == [set(), set()]


@pytest.mark.parametrize("name", ["beam_search", "bpe_tokenizer", "weight_quant"])
def test_what_is_written_down_of_variables_is_what_a_traced_run_shows(
    screen: Screen, name: str
) -> None:
    """If not, run: halfhour subjects trace."""
    subject = library.find_subject(name)

    kinds = screen.profile(subject, seed=seeds(subject)[0]).kinds

    assert dict(subject.kinds) == dict(kinds)
    assert any(kind.startswith(("float", "int")) for kind in kinds.values())


def test_screen_and_judge_break_the_same_promises(screen: Screen, court: Judge) -> None:
    subject = library.find_subject("moe_routing")
    mutant = plant(subject, [find_mutator("later_part_replaces_the_sum")])[0]
    (seen,) = screen.sift(subject, [mutant.source], seeds=seeds(subject))
    verdict = court.verdict(hidden_trial(subject, mutant.source, seeds(subject)[1]))

    assert verdict.broken
    assert set(verdict.broken) == broken(seen)[1]
