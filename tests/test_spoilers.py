"""No puzzle's brief or first hints tell of its bug: looked at in many files with many bugs."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import handmade
import pytest
from tiers import spread

from halfhour.generator import hints, library, render, store, textdiff
from halfhour.generator.plant import plant
from halfhour.generator.records import Answer, PlantedBug, Puzzle, Subject
from halfhour.mutators import all_mutators

STARTER = Path(__file__).resolve().parents[1] / "puzzles" / "starter"
MUTATORS = 6
MUTANTS = 4
PROMISES = 8


@pytest.mark.parametrize("folder", sorted(STARTER.iterdir()), ids=lambda folder: folder.name)
def test_a_starter_puzzle_tells_nothing(folder: Path) -> None:
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)

    assert render.leaks(puzzle.brief, puzzle, answer) == []


@pytest.mark.parametrize("name", spread(6, sorted(library.folders())))
def test_no_bug_of_a_file_is_told_whatever_it_breaks(name: str) -> None:
    """No judge: some promises in turn are taken for a broken one."""
    subject = library.find_subject(name)
    draw = random.Random(name)
    fitting = [mutator for mutator in all_mutators() if mutator.topic in subject.topics]
    some = {mutator.name: mutator for mutator in draw.sample(fitting, min(MUTATORS, len(fitting)))}
    mutants = plant(subject, list(some.values()))

    for mutant in draw.sample(mutants, min(MUTANTS, len(mutants))):
        mutator = some[mutant.mutator]
        bug = replace(
            handmade.BUG,
            mutator=mutator.name,
            line=mutant.line,
            title=mutator.title,
            lesson=mutator.lesson,
            hints=tuple(mutator.hints),
            diff=textdiff.unified(subject.source, mutant.source, subject.file_name),
        )
        for promise in draw.sample(subject.promises, PROMISES):
            broken = replace(bug, broken=(promise.name,))
            puzzle, answer = _with_brief(subject, mutant.source, broken)
            assert render.leaks(puzzle.brief, puzzle, answer) == []
        broken = replace(bug, broken=tuple(p.name for p in draw.sample(subject.promises, 3)))
        ladder = hints.ladder(subject, broken, mutant.edit, handed_out=mutant.source)
        assert hints.problems(replace(broken, hints=ladder), subject.source) == []


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
