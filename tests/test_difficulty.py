"""A puzzle is the harder, the less its broken promises give away."""

from __future__ import annotations

from dataclasses import replace

import pytest
import toy

from halfhour.generator.difficulty import WEIGHTS, edit_size, level, score, suspicion, terms
from halfhour.generator.records import Term
from halfhour.generator.screen import Profile

PROMISES = [promise.name for promise in toy.subject().promises]
MUTANT = toy.mutant("total += value", "total -= value")
PROFILE = Profile({name: {4: 1, MUTANT.line: 1} for name in PROMISES})


def values(broken: list[str], profile: Profile = PROFILE) -> dict[str, float]:
    return {term.name: term.value for term in terms(toy.subject(), MUTANT, broken, profile)}


def test_fewer_broken_promises_are_harder() -> None:
    assert values(PROMISES[:1])["few"] > values(PROMISES[:2])["few"]


def test_a_line_that_many_promises_run_without_harm_wants_a_special_input() -> None:
    narrow = Profile({PROMISES[0]: {MUTANT.line: 1}, PROMISES[1]: {4: 1}})

    assert values(PROMISES[:1])["special"] == pytest.approx(1 - 1 / len(PROMISES))
    assert values(PROMISES[:1], narrow)["special"] == 0.0


def test_a_line_that_only_the_failing_promise_runs_is_the_first_suspect() -> None:
    profile = Profile({PROMISES[0]: {4: 1, MUTANT.line: 1}, PROMISES[1]: {4: 1}})

    rank, of = suspicion(MUTANT.line, PROMISES[:1], PROMISES, profile)

    assert (rank, of) == (1, 2)
    assert suspicion(4, PROMISES[:1], PROMISES, profile)[0] == 2


def test_lines_that_are_equally_suspect_share_the_middle_of_their_ranks() -> None:
    assert suspicion(MUTANT.line, PROMISES[:1], PROMISES, PROFILE) == (1.5, 2)


def test_a_line_deep_below_the_call_is_harder() -> None:
    deep = Profile({name: {MUTANT.line: 3} for name in PROMISES})

    assert values(PROMISES[:1], deep)["deep"] > values(PROMISES[:1])["deep"] == 0.0


def test_the_size_of_an_edit_is_what_goes_and_comes() -> None:
    assert edit_size("a\nb < c\nd", "a\nb <= c\nd") == 1
    assert edit_size("a\nb\nc", "a\nc") == 1
    assert edit_size("same", "same") == 0


def test_a_statement_that_is_not_run_counts_as_its_nearest_line() -> None:
    """A deleted comment or the head of a long call is no line of the interpreter's."""
    between = replace(MUTANT, line=MUTANT.line + 1)

    found = terms(toy.subject(), between, PROMISES[:1], PROFILE)

    assert found[1].value == values(PROMISES[:1])["special"]


def test_the_weights_are_shares() -> None:
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_levels_rise_with_the_score() -> None:
    def of(value: float) -> tuple[Term, ...]:
        return tuple(Term(name, value, "") for name in WEIGHTS)

    assert [level(of(step / 20)) for step in range(21)] == sorted(
        level(of(step / 20)) for step in range(21)
    )
    assert (level(of(0.0)), level(of(1.0))) == (1, 5)
    assert score(of(0.25)) == pytest.approx(0.25)
