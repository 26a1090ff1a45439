"""No puzzle's brief or first hints tell of its bug: looked at in many files with many bugs."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import handmade
import pytest

from halfhour.generator import hints, library, render, store, textdiff
from halfhour.generator.plant import plant
from halfhour.generator.records import Answer, PlantedBug, Puzzle, Subject
from halfhour.mutators import all_mutators

STARTER = Path(__file__).resolve().parents[1] / "puzzles" / "starter"
BUGS = 8
"""Of a file, drawn; `--thorough` takes all in turn, with each promise."""
MOST_TOLD = 1 / 8
"""Of the bugs of a file."""


@pytest.mark.parametrize("folder", sorted(STARTER.iterdir()), ids=lambda folder: folder.name)
def test_a_starter_puzzle_tells_nothing(folder: Path) -> None:
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)

    assert render.leaks(puzzle.brief, puzzle, answer) == []
    for bug in answer.bugs:
        assert hints.problems(bug, answer.original) == []


@pytest.mark.parametrize("name", sorted(library.folders()))
def test_few_bugs_of_a_file_are_told_whatever_they_break(
    name: str, request: pytest.FixtureRequest
) -> None:
    """No judge: some promises are taken for the broken ones.

    What would be told makes no puzzle, so a promise that says too much costs puzzles.
    """
    subject = library.find_subject(name)
    draw = random.Random(name)
    mutators = {mutator.name: mutator for mutator in all_mutators()}
    thorough = bool(request.config.getoption("--thorough"))
    mutants = plant(subject, list(mutators.values()))

    told: dict[str, str] = {}
    looked_at = mutants if thorough else draw.sample(mutants, BUGS)
    for mutant in looked_at:
        mutator = mutators[mutant.mutator]
        bug = replace(
            handmade.BUG,
            mutator=mutator.name,
            line=mutant.line,
            title=mutator.title,
            lesson=mutator.lesson,
            hints=tuple(mutator.hints),
            diff=textdiff.unified(subject.source, mutant.source, subject.file_name),
        )
        promises = [(promise.name,) for promise in subject.promises if thorough]
        for names in [*promises, tuple(p.name for p in draw.sample(subject.promises, 3))]:
            broken = replace(bug, broken=names)
            ladder = hints.ladder(subject, broken, mutant.edit, handed_out=mutant.source)
            broken = replace(broken, hints=ladder)
            assert hints.problems(broken, subject.source) == []
            puzzle, answer = _with_brief(subject, mutant.source, broken)
            for said in render.leaks(puzzle.brief, puzzle, answer):
                told[mutant.id] = f"{mutator.name} at line {mutant.line}: {said}"
    assert len(told) <= MOST_TOLD * len(looked_at), "\n".join(told.values())


def _with_brief(subject: Subject, source: str, bug: PlantedBug) -> tuple[Puzzle, Answer]:
    bare = replace(
        handmade.puzzle(),
        subject=subject.name,
        title=subject.title,
        file_name=subject.file_name,
        source=source,
        brief="",
    )
    answer = replace(
        handmade.answer(bugs=(bug,)),
        original=subject.source,
        promises=subject.promises,
        public_names=subject.public_names,
    )
    return render.with_brief(bare, subject, answer), answer
