"""Grade with the processes of this machine or of a cluster, and keep a journal of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..judge import devices
from ..judge.protection import rung_for_others
from ..pack.answers import Answers
from .journal import default_place, open_journal
from .processes import processes
from .records import Graded, Submission
from .run import Progress, Workers, grade
from .work import material_of


def grade_all(
    answers: Answers,
    submissions: Sequence[Submission],
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    device: str = "cpu",
    accept_risk: bool = False,
    journal: Path | None = None,
    fresh: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> tuple[Graded, ...]:
    """Return what became of each submission, in their order.

    `jobs` processes of this machine judge, or the workers of the Dask scheduler at that address.
    What the journal holds is not judged again, unless `fresh`. Raises EnvironmentFault where other
    people's files cannot be judged, UsageError for a journal that is not one of these answers.
    """
    if scheduler is None:
        device = devices.resolve(device)
        rung_for_others(device, accept_risk=accept_risk)
    place = journal or default_place(answers.sha256, device)
    promises = {puzzle.id: answer.promises for puzzle, answer in answers.puzzles}
    with open_journal(
        place, answers=answers.sha256, device=device, promises=promises, fresh=fresh
    ) as kept:
        return grade(
            answers.puzzles,
            submissions,
            workers=_workers(answers, jobs, scheduler),
            journal=kept,
            at_once=jobs if scheduler is None else None,
            device=device,
            accept_risk=accept_risk,
            report=report,
        )


def _workers(answers: Answers, jobs: int, scheduler: str | None) -> Workers:
    if scheduler is not None:
        from .cluster import executor

        return lambda: executor(scheduler)
    materials = [material_of(puzzle, answer) for puzzle, answer in answers.puzzles]
    return lambda: processes(jobs, materials)
