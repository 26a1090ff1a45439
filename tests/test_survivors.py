"""A mutant that is no puzzle of its own is explained."""

from __future__ import annotations

import pytest
import toy

from halfhour.generator.records import Certificate, Status
from halfhour.generator.screen import Screen
from halfhour.generator.survivors import explain, twins


def test_a_comment_is_proved_to_change_nothing(screen: Screen) -> None:
    commented = toy.mutant("    total = 0.0", "    # nothing\n    total = 0.0")

    assert explain(screen, toy.subject(), commented).startswith("proved same")


def test_another_order_of_a_sum_is_not_told_apart(screen: Screen) -> None:
    turned = toy.mutant("total += value", "total = value + total")

    assert explain(screen, toy.subject(), turned).startswith("no difference found in")


def test_a_difference_that_no_promise_minds_is_shown_with_its_call(screen: Screen) -> None:
    slightly = toy.mutant("total / len(values)", "total / len(values) + 1e-9")

    told = explain(screen, toy.subject(), slightly)

    assert told.startswith("different, but no promise sees it: mean([")


def test_a_line_that_no_promise_runs_is_said_to_be_so(screen: Screen) -> None:
    hidden = toy.HIDDEN.replace("subject.mean([])", "raise ValueError")
    dead = toy.mutant('"values must not be empty"', '"values must not be empty!"')

    told = explain(screen, toy.subject(hidden=hidden), dead)

    assert told == "no difference found: no promise runs the line"


def test_tests_that_cannot_be_screened_are_not_examined(screen: Screen) -> None:
    hidden = toy.HIDDEN.replace("by_hand(subject)", "by_hand(subject, tmp_path)")
    turned = toy.mutant("total += value", "total = value + total")

    assert "wants the fixture tmp_path" in explain(screen, toy.subject(hidden=hidden), turned)


def certificate(
    mutant: str, line: int, broken: str, status: Status = Status.CERTIFIED
) -> Certificate:
    return Certificate(mutant, "toy", "by_hand", 0, line, status, "", (broken,))


def test_two_bugs_on_one_line_that_break_the_same_promises_are_one_puzzle() -> None:
    first, second = certificate("a", 7, "test_x"), certificate("b", 7, "test_x")

    assert twins([first, second]) == {"b": first}


@pytest.mark.parametrize(
    "other",
    [
        certificate("b", 8, "test_x"),
        certificate("b", 7, "test_y"),
        certificate("b", 7, "test_x", Status.EQUIVALENT),
    ],
    ids=["another line", "another promise", "no puzzle"],
)
def test_all_others_stand_for_themselves(other: Certificate) -> None:
    assert twins([certificate("a", 7, "test_x"), other]) == {}
