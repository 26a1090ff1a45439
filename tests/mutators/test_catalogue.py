"""What all built-in mutators have in common: the contract that plugins keep too, and some more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from halfhour.generator.contract import mutator_rules as rules
from halfhour.generator.contract import test_mutators as contract
from halfhour.generator.plant import plant_text
from halfhour.mutators import TOPICS, Mutator, all_mutators, built_in_mutators

MUTATORS = built_in_mutators()
SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"

each = pytest.mark.parametrize("mutator", MUTATORS, ids=lambda mutator: mutator.name)


test_every_mutator_loads = contract.test_every_mutator_loads
test_every_process_makes_the_same_edits = contract.test_every_process_makes_the_same_edits


@each
def test_a_mutator_keeps_every_rule(mutator: Mutator) -> None:
    """Those of the contract, of which a plugin gets one test each."""
    assert rules.problems(mutator) == []


def test_the_contract_has_a_test_for_every_rule() -> None:
    text = Path(contract.__file__).read_text("utf-8")

    assert [rule.__name__ for rule in rules.RULES if f"rules.{rule.__name__}(" not in text] == []


@each
def test_the_folder_is_the_topic(mutator: Mutator) -> None:
    assert mutator.topic in TOPICS
    assert Path(mutator.file).parent.name == mutator.topic
    assert Path(mutator.file).stem == mutator.name


@each
def test_sightings_are_issues_and_pull_requests(mutator: Mutator) -> None:
    for sighting in mutator.sightings:
        assert re.fullmatch(
            r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", sighting.url
        ), sighting


def test_lessons_are_told_once() -> None:
    for told in ("title", "lesson", "hints"):
        values = [getattr(mutator, told) for mutator in MUTATORS]

        assert len(values) == len(set(values)), told


def test_every_mutator_is_at_home_in_a_correct_file() -> None:
    """Each is tried until it has a home: it costs more to find that it fits nowhere."""
    homeless = {mutator.name: mutator for mutator in MUTATORS}

    for file in sorted(SOLUTIONS.glob("*/*.py")):
        if file.stem == file.parent.name:
            for mutant in plant_text(file.stem, file.read_text("utf-8"), homeless.values()):
                homeless.pop(mutant.mutator, None)

    assert sorted(homeless) == []


def test_the_catalogue_is_found_without_torch() -> None:
    code = (
        "import sys; from halfhour.mutators import all_mutators; print(len(all_mutators()));"
        "print(sorted({'torch', 'numpy', 'pytest', 'halfhour.generator'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines() == [str(len(all_mutators())), "[]"]
