"""Doors to the heavy rooms: each imports what it needs when it is called, so that commands start
at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import AuthorError
from ..records import (
    Answer,
    Certificate,
    Mutant,
    Puzzle,
    Subject,
    Trial,
    Verdict,
)

if TYPE_CHECKING:
    from halfhour.mutators import Mutator

    from ..grade import Graded
    from ..judge.rungs import Protection
    from ..soundness import Report

Work = Sequence[tuple[Subject, Mutant, bool]]


def mutators() -> tuple[Mutator, ...]:
    """Return every mutator. Raises AuthorError where one is written wrongly."""
    from halfhour.mutators import MutatorError, all_mutators

    try:
        return all_mutators()
    except MutatorError as error:
        raise AuthorError(str(error).rstrip(".")) from error


def plant(name: str, text: str, mutators: Sequence[Mutator]) -> tuple[Mutant, ...]:
    """Return the mutants of a text, in reading order; see `plant.plant_text`."""
    from ..plant import plant_text

    return plant_text(name, text, mutators)


def diff(before: str, after: str, file_name: str) -> str:
    """Return the unified diff of two texts."""
    from .. import textdiff

    return textdiff.unified(before, after, file_name)


def craft(
    subjects: Sequence[Subject],
    mutators: Sequence[Mutator],
    *,
    seed: int,
    bugs: int,
    level: int | None,
    progress: Callable[[str], None],
) -> tuple[Puzzle, Answer]:
    """Return a certified puzzle; see `craft.craft`."""
    from ..craft import craft as craft_one

    return craft_one(subjects, mutators, seed=seed, bugs=bugs, level=level, progress=progress)


def certify(work: Work, *, jobs: int, device: str) -> Iterator[Certificate]:
    """Return the certificates of the work, in its order; see `certify.certify_all`."""
    from ..certify import certify_all

    return certify_all(work, jobs=jobs, device=device)


def prove(subject: Subject, *, progress: Callable[[str], None]) -> Report:
    """Return what was found of a correct file; see `soundness.prove`."""
    from ..soundness import prove as prove_one

    return prove_one(subject, progress=progress)


def degenerate_words(answer: str) -> str:
    """Say what a degenerate file answers."""
    from ..degenerate import ANSWERS

    return ANSWERS[answer]


def read_submission(path: Path) -> str:
    """Return the text of the candidate's file. Raises InvalidSubmission."""
    from ..judge import read_submission as read

    return read(path)


def judge(trial: Trial, *, device: str) -> Verdict:
    """Return the verdict on one file, from a judge that is warm if there can be one."""
    from ..judge import Judge, warm

    if ruled := warm.verdict(trial, device=device):
        return ruled
    with Judge(device=device) as judge:
        return judge.verdict(trial)


def grade(
    answer: Answer, name: str, files: Sequence[Path], *, device: str, accept_risk: bool
) -> Iterator[Graded]:
    """Return what became of each file; see `grade.grade`."""
    from ..grade import grade as grade_all

    return grade_all(answer, name, files, device=device, accept_risk=accept_risk)


def protection() -> Protection:
    """Try everything in children; return the strongest rung and what was really refused there."""
    from ..judge import rungs

    return rungs.probe()


def meaning_of(rung: str) -> str:
    """Say what a worker on this rung is kept from, and what it is not kept from."""
    from ..judge import Rung

    return Rung(rung).sentence
