"""What all built-in mutators have in common, for those who read and play them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from halfhour.generator.plant import plant_text
from halfhour.mutators import TOPICS, Mutator, all_mutators, built_in_mutators

MUTATORS = built_in_mutators()
SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"

each = pytest.mark.parametrize("mutator", MUTATORS, ids=lambda mutator: mutator.name)


@each
def test_a_name_is_a_sentence(mutator: Mutator) -> None:
    assert len(mutator.name.split("_")) >= 3


@each
def test_the_folder_is_the_topic(mutator: Mutator) -> None:
    assert mutator.topic in TOPICS
    assert Path(mutator.file).parent.name == mutator.topic
    assert Path(mutator.file).stem == mutator.name


@each
def test_the_family_is_one_of_real_bugs(mutator: Mutator) -> None:
    """It is told by an id, and by at least one place where it happened."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", mutator.family)
    assert mutator.sightings


@each
def test_sightings_are_issues_and_pull_requests(mutator: Mutator) -> None:
    for sighting in mutator.sightings:
        assert re.fullmatch(
            r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", sighting.url
        ), sighting
        assert 2 <= len(sighting.note.split()) <= 12, sighting


@each
def test_the_title_states_the_broken_fact(mutator: Mutator) -> None:
    assert mutator.title.endswith(".")
    assert mutator.title[0].isupper()
    assert len(mutator.title) <= 96


@each
def test_the_lesson_tells_the_rule_and_why_nobody_noticed(mutator: Mutator) -> None:
    paragraphs = mutator.lesson.split("\n\n")

    assert len(paragraphs) >= 2
    assert all(paragraph.strip().endswith(".") for paragraph in paragraphs)
    assert 40 <= len(mutator.lesson.split()) <= 160


@each
def test_hints_come_nearer(mutator: Mutator) -> None:
    """The first two ask or send somewhere; the last is the rule, and no question."""
    first, second, rule = mutator.hints

    assert "?" in first + second
    assert rule.endswith(".")
    assert all(hint[-1] in ".?" and hint[0] in f"`{hint[0].upper()}" for hint in mutator.hints)


@each
def test_nothing_spoils_before_the_reveal(mutator: Mutator) -> None:
    """A hint does not quote the mutator's name."""
    for hint in mutator.hints:
        assert mutator.name not in hint
        assert mutator.title.rstrip(".") not in hint


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
