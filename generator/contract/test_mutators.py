"""Every mutator that is installed keeps the rules; one that does not load is told with its file."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from halfhour.generator.contract import mutator_rules as rules
from halfhour.mutators import Mutator, MutatorError, all_mutators

try:
    MUTATORS = all_mutators()
    BROKEN = ""
except MutatorError as error:
    MUTATORS = ()
    BROKEN = str(error)

each = pytest.mark.parametrize("mutator", MUTATORS, ids=lambda mutator: mutator.name)


def kept(problems: list[str]) -> None:
    """Fail with the problems alone: an author needs no traceback of ours."""
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


def test_every_mutator_loads() -> None:
    kept([BROKEN] if BROKEN else [])


@each
def test_nothing_is_left_to_fill_in(mutator: Mutator) -> None:
    kept(rules.nothing_is_left_to_fill_in(mutator))


@each
def test_its_examples_hold(mutator: Mutator) -> None:
    kept(rules.examples_hold(mutator))


@each
def test_it_names_near_misses(mutator: Mutator) -> None:
    kept(rules.near_misses_are_named(mutator))


@each
def test_an_edit_is_a_slip_of_the_hand(mutator: Mutator) -> None:
    kept(rules.an_edit_is_a_slip_of_the_hand(mutator))


@each
def test_formatting_is_untouched(mutator: Mutator) -> None:
    kept(rules.formatting_is_untouched(mutator))


@each
def test_the_name_is_a_sentence(mutator: Mutator) -> None:
    kept(rules.the_name_is_a_sentence(mutator))


@each
def test_the_family_is_a_kind_of_slip(mutator: Mutator) -> None:
    kept(rules.the_family_is_a_kind_of_slip(mutator))


@each
def test_sightings_say_what_was_seen(mutator: Mutator) -> None:
    kept(rules.sightings_say_what_was_seen(mutator))


@each
def test_the_title_states_the_broken_fact(mutator: Mutator) -> None:
    kept(rules.the_title_states_the_broken_fact(mutator))


@each
def test_the_lesson_tells_the_rule_and_why_nobody_noticed(mutator: Mutator) -> None:
    kept(rules.the_lesson_tells_the_rule_and_why_nobody_noticed(mutator))


@each
def test_hints_come_nearer(mutator: Mutator) -> None:
    kept(rules.hints_come_nearer(mutator))


@each
def test_hints_do_not_tell_the_answer(mutator: Mutator) -> None:
    kept(rules.hints_do_not_tell_the_answer(mutator))


def test_every_process_makes_the_same_edits() -> None:
    """Sets and hashes have another order in each, and decide nothing."""
    code = (
        "import json\n"
        "from halfhour.generator.contract.mutator_rules import edits\n"
        "from halfhour.mutators import all_mutators\n"
        "print(json.dumps([edits(mutator) for mutator in all_mutators()]))\n"
    )
    if BROKEN:
        pytest.skip("a mutator does not load")

    child = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    there = json.loads(child.stdout)
    here = json.loads(json.dumps([rules.edits(mutator) for mutator in MUTATORS]))
    kept(
        [
            f"{mutator.where}: `{mutator.name}` makes other edits in another process"
            for mutator, mine, others in zip(MUTATORS, here, there, strict=True)
            if mine != others
        ]
    )
