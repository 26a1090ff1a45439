"""Prove a correct file and its promises: it always keeps them, and files that answer nonsense do
not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from .certify import Certifier, hidden_trial, seeds
from .degenerate import COUNTER, Degenerate, degenerate_files, degenerate_trial
from .errors import JudgeError
from .judge import Judge
from .records import Mutant, Outcome, Status, Subject, Trial, Verdict, VerdictKind
from .screen import Screen

RUNS = 20
"""Each under another seed, every second one with two threads."""
QUICK_S = 1.5
"""What is more than about a second."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of one subject."""

    subject: str
    lines: int
    promises: int
    seconds: float
    """For all promises of the correct file, with a warm judge: of its runs the quickest."""
    unsteady: tuple[str, ...]
    """Promises that the correct file did not keep in every run."""
    lost: int
    """Degenerate files that break a promise, or do not load."""
    untouched: int
    """Files whose function never gave an answer that could be replaced."""
    survivors: tuple[Degenerate, ...]
    """Files that answer nonsense and keep every promise."""
    mutants: int = 0
    """Places where a bug of the catalogue fits."""
    puzzles: int = 0
    """Those of them that are certified, and"""
    bugs: int = 0
    """the mutators that they come from."""
    missed: tuple[str, ...] = ()
    """Mutants that no promise sees: `mutator:line`."""

    @property
    def sound(self) -> bool:
        """Whether nothing is to be mended; how long it takes is the machine's affair too."""
        return not self.unsteady and not self.survivors

    @property
    def quick(self) -> bool:
        """Whether all promises take about a second, so that a check is no wait."""
        return self.seconds <= QUICK_S


def prove(
    subject: Subject,
    mutants: Sequence[tuple[Mutant, bool]] = (),
    *,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Judge the correct file over and over, then every degenerate file, then its mutants.

    Raises UnsoundSubject if the correct file breaks a promise under the seeds that certificates
    are made with, JudgeError if the judge fails.
    """
    files = list(degenerate_files(subject))
    seed, _ = seeds(subject)
    lost, untouched, survivors = 0, 0, []
    unsteady: set[str] = set()
    seconds = []
    with ExitStack() as stack:
        judge = stack.enter_context(Judge(many=True))

        def judged(trial: Trial) -> Verdict:
            verdict = judge.verdict(trial)
            if verdict.kind is VerdictKind.ENVIRONMENT:
                raise JudgeError(f"the judge could not try {subject.name}: {verdict.reason}")
            return verdict

        certifier = Certifier(judge, screen=stack.enter_context(Screen()))
        certifier.check_subject(subject)
        for number in range(RUNS):
            trial = hidden_trial(subject, subject.source, seed + 1 + number)
            verdict = judged(replace(trial, threads=1 + number % 2))
            unsteady |= _broken(verdict)
            seconds.append(verdict.seconds)
            progress(f"{subject.name}: run {number + 1} of {RUNS}")
        for number, file in enumerate(files, 1):
            verdict = judged(degenerate_trial(subject, file, seed))
            broken = _broken(verdict)
            if verdict.kind is VerdictKind.INVALID or broken - {COUNTER.name}:
                lost += 1
            elif broken:
                survivors.append(file)
            else:
                untouched += 1
            progress(f"{subject.name}: degenerate file {number} of {len(files)}")
        if mutants:
            progress(f"{subject.name}: {len(mutants)} mutants")
        proofs = certifier.certify_screened(subject, mutants)
    puzzles = [proof for proof in proofs if proof.status is Status.CERTIFIED]
    return Report(
        subject=subject.name,
        lines=len(subject.source.splitlines()),
        promises=len(subject.promises),
        seconds=min(seconds),
        unsteady=tuple(p.name for p in subject.promises if p.name in unsteady),
        lost=lost,
        untouched=untouched,
        survivors=tuple(survivors),
        mutants=len(mutants),
        puzzles=len(puzzles),
        bugs=len({proof.mutator for proof in puzzles}),
        missed=tuple(
            f"{proof.mutator}:{proof.line}" for proof in proofs if proof.status is Status.EQUIVALENT
        ),
    )


def _broken(verdict: Verdict) -> set[str]:
    spared = (Outcome.KEPT, Outcome.NOT_REACHED)
    return {r.promise.name for r in verdict.results if r.outcome not in spared}
