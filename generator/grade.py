"""Judge what came back: every submission twice, each time under other seeds, by the one judge."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import InvalidSubmission
from .judge import INTERVIEW, Judge, read_submission
from .judge.protection import rung_for_others
from .records import Answer, Trial, Verdict, VerdictKind

RUNS = 2
"""A file that knows one draw of the inputs does not know the next."""

_WORST_FIRST = (
    VerdictKind.ENVIRONMENT,
    VerdictKind.INVALID,
    VerdictKind.NOT_FIXED,
    VerdictKind.FIXED,
)


@dataclass(frozen=True, slots=True)
class Graded:
    """What became of one submission."""

    file: Path
    verdict: Verdict
    """The worse of the runs."""


def grade(
    answer: Answer,
    name: str,
    files: Sequence[Path],
    *,
    device: str = "cpu",
    accept_risk: bool = False,
    draw: Callable[[], int] = lambda: secrets.randbits(48),
) -> Iterator[Graded]:
    """Yield what became of each file, in their order; none stops the rest.

    `name` is the module's, `draw` returns the seed of a run. Raises EnvironmentFault where this
    machine cannot keep other people's files to themselves, unless the risk is accepted.
    """
    rung = rung_for_others(device, accept_risk=accept_risk)
    with Judge(device=device, limits=INTERVIEW, many=True, rung=rung) as judge:
        for file in files:
            yield Graded(file, _graded(judge, answer, name, file, draw))


def _graded(
    judge: Judge, answer: Answer, name: str, file: Path, draw: Callable[[], int]
) -> Verdict:
    try:
        source = read_submission(file)
    except InvalidSubmission as error:
        return Verdict(VerdictKind.INVALID, str(error), device=judge.device)
    runs: list[Verdict] = []
    for _ in range(RUNS):
        trial = Trial(
            name=name,
            source=source,
            tests=answer.hidden_tests,
            promises=answer.promises,
            public_names=answer.public_names,
            seed=draw(),
        )
        runs.append(judge.verdict(trial))
        if runs[-1].kind is not VerdictKind.FIXED:  # it will not become fixed again
            break
    return min(runs, key=lambda run: _WORST_FIRST.index(run.kind))
