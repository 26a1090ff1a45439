"""What all built-in mutators have in common: the contract that plugins keep too, and some more."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from halfhour.generator.contract.test_mutators import *  # noqa: F403  the tests that plugins get
from halfhour.generator.plant import plant_text
from halfhour.mutators import TOPICS, Mutator, all_mutators, built_in_mutators

MUTATORS = built_in_mutators()
SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"

each = pytest.mark.parametrize("mutator", MUTATORS, ids=lambda mutator: mutator.name)


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
    planted = {
        mutant.mutator
        for file in sorted(SOLUTIONS.glob("*/*.py"))
        if file.stem == file.parent.name
        for mutant in plant_text(file.stem, file.read_text("utf-8"), MUTATORS)
    }

    assert {mutator.name for mutator in MUTATORS} - planted == set()


def test_the_catalogue_is_found_without_torch() -> None:
    code = (
        "import sys; from halfhour.mutators import all_mutators; print(len(all_mutators()));"
        "print(sorted({'torch', 'numpy', 'pytest', 'halfhour.generator'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines() == [str(len(all_mutators())), "[]"]
