"""Prove a correct file and its promises: it keeps them, and files that answer nonsense do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .certify import Certifier, hidden_trial, seeds
from .degenerate import COUNTER, Degenerate, degenerate_files, degenerate_trial
from .errors import JudgeError
from .judge import Judge
from .records import Outcome, Subject, Verdict, VerdictKind


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one subject."""

    subject: str
    promises: int
    seconds: float
    """For all promises of the correct file, with a warm judge."""
    lost: int
    """Degenerate files that break a promise, or do not load."""
    untouched: int
    """Files whose function never gave an answer that could be replaced."""
    survivors: tuple[Degenerate, ...]
    """Files that answer nonsense and keep every promise."""


def prove(subject: Subject, *, progress: Callable[[str], None] = lambda _: None) -> Report:
    """Judge the correct file, then every degenerate file.

    Raises UnsoundSubject if the correct file breaks a promise, JudgeError if the judge fails.
    """
    files = list(degenerate_files(subject))
    seed, _ = seeds(subject)
    lost, untouched, survivors = 0, 0, []
    with Judge(many=True) as judge:
        Certifier(judge).check_subject(subject)
        well = judge.verdict(hidden_trial(subject, subject.source, seed))
        for number, file in enumerate(files, 1):
            verdict = judge.verdict(degenerate_trial(subject, file, seed))
            if verdict.kind is VerdictKind.ENVIRONMENT:
                raise JudgeError(f"the judge could not try {subject.name}: {verdict.reason}")
            broken = _broken(verdict)
            if verdict.kind is VerdictKind.INVALID or broken - {COUNTER.name}:
                lost += 1
            elif broken:
                survivors.append(file)
            else:
                untouched += 1
            progress(f"{subject.name}: {number} of {len(files)}")
    return Report(
        subject=subject.name,
        promises=len(subject.promises),
        seconds=well.seconds,
        lost=lost,
        untouched=untouched,
        survivors=tuple(survivors),
    )


def _broken(verdict: Verdict) -> set[str]:
    spared = (Outcome.KEPT, Outcome.NOT_REACHED)
    return {r.promise.name for r in verdict.results if r.outcome not in spared}
