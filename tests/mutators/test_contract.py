"""Each rule that mutators keep is broken here once, and says so with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libcst as cst
import pytest
from authoring import author

from halfhour.generator import scaffold
from halfhour.generator.contract import mutator_rules as rules
from halfhour.mutators import Example, Mutator, Sighting, mutators_in_file

NAME = "the_limit_counts_itself"
MARK = "FILL" + " IN"  # split: this file holds a mutator too


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A mutator as it is begun."""
    file = tmp_path / f"{NAME}.py"
    file.write_text(scaffold.mutator_file(NAME, "sampling"), encoding="utf-8")
    return file


def begun(file: Path) -> Mutator:
    (mutator,) = mutators_in_file(file)
    return mutator


def test_a_new_mutator_works_and_lacks_only_what_its_author_has_to_say(new: Path) -> None:
    mutator = begun(new)

    assert (mutator.name, mutator.topic) == (NAME, "sampling")
    assert rules.problems(mutator) == rules.nothing_is_left_to_fill_in(mutator)


def test_each_place_that_is_left_to_fill_in_is_told(new: Path) -> None:
    lines = new.read_text(encoding="utf-8").splitlines()
    marked = [n for n, line in enumerate(lines, start=1) if MARK in line]

    told = rules.nothing_is_left_to_fill_in(begun(new))

    assert [problem.partition(": ")[0] for problem in told] == [f"{new}:{n}" for n in marked]
    assert f"{new}:14: still to fill in: the kind of slip, in-kebab-case" in told


def test_a_mutator_without_marks_has_nothing_left_to_fill_in(new: Path) -> None:
    new.write_text(new.read_text(encoding="utf-8").replace(MARK, "Filled in"), "utf-8")

    assert rules.problems(begun(new)) == []


LESSON = "A word. " * 30 + "\n\n" + "And another. " * 10


@author(
    hints=["What?", "Where?", "The rule."],
    spares=["a <= b", "b > a"],
    mutates={"a < b": "a <= b"},
)
def edge_is_let_in(node: cst.LessThan) -> Iterator[cst.LessThanEqual]:
    """An edge is let in.

    A lesson.
    """
    yield cst.LessThanEqual(node.whitespace_before, node.whitespace_after)


SOUND = replace(edge_is_let_in, lesson=LESSON.strip())


def test_the_one_that_is_broken_below_is_sound() -> None:
    assert rules.problems(SOUND) == []


@pytest.mark.parametrize(
    ("rule", "changes", "says"),
    [
        (rules.near_misses_are_named, {"spares": ("a <= b",)}, "fewer than two `spares`"),
        (rules.examples_hold, {"spares": ("a < b", "b > a")}, "a <= b"),
        (rules.the_name_is_a_sentence, {"name": "edge_in"}, "3 words"),
        (rules.the_family_is_a_kind_of_slip, {"family": "edges"}, "give it two words"),
        (
            rules.sightings_say_what_was_seen,
            {"sightings": (Sighting("https://example.org/1", "there"),)},
            "'there' of https://example.org/1",
        ),
        (rules.the_title_states_the_broken_fact, {"title": "an edge."}, "no sentence"),
        (rules.the_title_states_the_broken_fact, {"title": "An edge"}, "no sentence"),
        (rules.the_title_states_the_broken_fact, {"title": "A" * 99 + "."}, "longer than 96"),
        (
            rules.the_lesson_tells_the_rule_and_why_nobody_noticed,
            {"lesson": "One. " * 50},
            "why nobody noticed",
        ),
        (
            rules.the_lesson_tells_the_rule_and_why_nobody_noticed,
            {"lesson": "One.\n\nTwo."},
            "a lesson of 2 words",
        ),
        (
            rules.the_lesson_tells_the_rule_and_why_nobody_noticed,
            {"lesson": f"{LESSON.strip()}\n\nAnd so on"},
            "full stop",
        ),
        (rules.hints_come_nearer, {"hints": ("Try.", "Look.", "The rule.")}, "asks nothing"),
        (rules.hints_come_nearer, {"hints": ("What?", "Look.", "Is it?")}, "third hint"),
        (rules.hints_come_nearer, {"hints": ("what?", "Look.", "The rule.")}, "no sentence"),
        (
            rules.hints_do_not_tell_the_answer,
            {"hints": ("What?", "Look.", "An edge is let in, that is the rule.")},
            "in a hint",
        ),
        (
            rules.an_edit_is_a_slip_of_the_hand,
            {"mutates": (Example("a = 1", ("a = 2\nb = 3\nc = 4\nd = 5",)),)},
            "changes 4 lines",
        ),
        (
            rules.an_edit_is_a_slip_of_the_hand,
            {"mutates": (Example("a = 1", ("a = (1)",)),)},
            "changes only how an example looks",
        ),
    ],
)
def test_a_rule_that_is_broken_is_told_with_its_place(
    rule: rules.Rule, changes: dict[str, Any], says: str
) -> None:
    broken = replace(SOUND, **changes)

    (problem,) = rule(broken)

    assert problem.startswith(f"{SOUND.where}: `{broken.name}` ")
    assert says in problem
    assert problem in rules.problems(broken)


def reformats(node: cst.Module) -> Iterator[cst.Module]:
    """Forgets how the rest was written."""
    if " < " in node.code:
        yield cst.parse_module(node.code.replace(" < ", " <= ").replace("    # as", " # as"))


def is_misled(node: cst.Module) -> Iterator[cst.Module]:
    """Looks for another thing than its example has."""
    if " < " in node.code and "return" not in node.code:
        yield cst.parse_module(node.code.replace(" < ", " <= "))


def mutates_too_much(node: cst.Module) -> Iterator[cst.Module]:
    """Changes code that has nothing to do with it."""
    if " < " in node.code:
        yield cst.parse_module(node.code.replace(" < ", " <= ").replace("a+b", "a-b"))


@pytest.mark.parametrize("visit", [reformats, is_misled, mutates_too_much])
def test_code_around_an_example_matters_and_is_kept(
    visit: Callable[[cst.Module], Iterator[cst.Module]],
) -> None:
    broken = replace(SOUND, node_types=(cst.Module,), visit=lambda node, _: visit(node))  # type: ignore[arg-type]

    assert rules.examples_hold(broken) == []
    (problem,) = rules.formatting_is_untouched(broken)
    assert "code around its example" in problem
