"""Prove a mutant before anyone sees it: the original is right, the mutant is silently wrong.

A mutant becomes a puzzle only if the correct file keeps every promise, and the mutant is a small
edit that no linter notices, loads, passes the visible test, and breaks at least one promise in
every run by a wrong value. Every other mutant gets a status that says why not.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue

from . import lint, textdiff
from .cache import ProofCache
from .difficulty import level
from .errors import EnvironmentFault, JudgeError, UnsoundSubject
from .judge import Judge
from .records import (
    Certificate,
    Mutant,
    Outcome,
    Promise,
    Status,
    Subject,
    Trial,
    Verdict,
    VerdictKind,
    digest,
)

MOST_CHANGED_LINES = 3
"""Per bug: a longer diff is no slip of the hand."""

_SENTENCES = {
    Status.CERTIFIED: "silently wrong: the visible test passes and {n} of {of} promises break",
    Status.EQUIVALENT: "no promise breaks: the same behaviour, or the promises are too weak",
    Status.CRASHES: "it shows itself by an exception: {why}",
    Status.VISIBLE: "the visible test already fails: {why}",
    Status.NOISY: "it can be found without reading: {why}",
    Status.FLAKY: "it breaks now this promise, now that: {why}",
    Status.TIMEOUT: "it runs past the time limit: {why}",
}


class Certifier:
    """Certifies mutants with one judge; proofs are kept under a key of all they depend on."""

    def __init__(self, judge: Judge, cache: ProofCache | None = None) -> None:
        self._judge = judge
        self._cache = cache if cache is not None else ProofCache()

    def check_subject(self, subject: Subject) -> None:
        """Prove the correct file: it keeps every promise under both seeds.

        Raises UnsoundSubject naming the promise that does not hold.
        """
        key = self._key("original", subject, subject.source)
        if self._cache.get(key) is not None:
            return
        for trial in (
            visible_trial(subject, subject.source),
            *(hidden_trial(subject, subject.source, seed) for seed in seeds(subject)),
        ):
            verdict = self._judged(trial)
            if verdict.kind is not VerdictKind.FIXED:
                names = ", ".join(verdict.broken) or verdict.reason
                raise UnsoundSubject(
                    f"the correct file {subject.file_name} does not keep its promises: {names}"
                )
        self._cache.put(key, {"sound": True})

    def certify(
        self, subject: Subject, mutant: Mutant, *, crash_is_the_bug: bool = False, bugs: int = 1
    ) -> Certificate:
        """Return the certificate of a mutant of a sound subject.

        `crash_is_the_bug` lets an exception count as the sign; `bugs` allows that many small edits.
        Raises UnsoundSubject if the correct file fails, JudgeError if the judge does.
        """
        self.check_subject(subject)
        key = self._key(f"mutant {crash_is_the_bug} {bugs}", subject, mutant.source)
        kept = _recall(self._cache.get(key))
        if kept is None:
            kept = self._examine(subject, mutant.source, crash_is_the_bug, bugs)
            self._cache.put(key, asdict(kept))
        broken = kept.broken
        certified = kept.status is Status.CERTIFIED
        return Certificate(
            mutant=mutant.id,
            subject=subject.name,
            mutator=mutant.mutator,
            site=mutant.site,
            line=mutant.line,
            status=kept.status,
            sentence=kept.sentence,
            broken=broken,
            unsteady=kept.unsteady,
            level=level(len(broken), len(subject.promises)) if certified else 0,
            seeds=seeds(subject),
            torch=_version("torch").partition("+")[0],
            device=self._judge.device,
        )

    def _examine(
        self, subject: Subject, source: str, crash_is_the_bug: bool, bugs: int
    ) -> _Finding:
        changed = textdiff.changed_lines(subject.source, source)
        if changed > MOST_CHANGED_LINES * bugs:
            return _refusal(Status.NOISY, f"{changed} lines differ")
        noise = lint.new_findings(subject.source, source)
        if noise:
            return _refusal(Status.NOISY, f"ruff says {noise[0]}")
        visible = self._judged(visible_trial(subject, source))
        if visible.kind is VerdictKind.INVALID:
            return _refusal(Status.CRASHES, visible.reason)
        if visible.kind is VerdictKind.NOT_FIXED:
            late = _with_outcome(visible, Outcome.TIMED_OUT)
            status = Status.TIMEOUT if late else Status.VISIBLE
            return _refusal(status, ", ".join(visible.broken))
        return self._examine_hidden(subject, source, crash_is_the_bug)

    def _examine_hidden(self, subject: Subject, source: str, crash_is_the_bug: bool) -> _Finding:
        first_seed, second_seed = seeds(subject)
        runs: list[Verdict] = []
        for seed in (first_seed, second_seed, first_seed):
            run = self._judged(hidden_trial(subject, source, seed))
            if run.kind is VerdictKind.INVALID:
                return _refusal(Status.CRASHES, run.reason)
            if late := _with_outcome(run, Outcome.TIMED_OUT):
                return _refusal(Status.TIMEOUT, ", ".join(late))
            if dead := _with_outcome(run, Outcome.DIED):
                return _refusal(Status.CRASHES, f"the process ended in {', '.join(dead)}")
            runs.append(run)
            if run.kind is VerdictKind.FIXED and len(runs) == 2 and not runs[0].broken:
                return _refusal(Status.EQUIVALENT, "")
        first, second, again = runs
        always = [name for name in first.broken if name in second.broken]
        if first.broken != again.broken or not always:
            ever = {name for run in runs for name in run.broken}
            return _refusal(Status.FLAKY, ", ".join(sorted(ever)))
        wrong = all(set(_with_outcome(run, Outcome.WRONG)) & set(always) for run in runs)
        if not wrong and not crash_is_the_bug:
            return _refusal(Status.CRASHES, ", ".join(always))
        sentence = _SENTENCES[Status.CERTIFIED].format(n=len(always), of=len(subject.promises))
        unsteady = sorted(set(first.broken) ^ set(second.broken))
        return _Finding(Status.CERTIFIED, sentence, tuple(always), tuple(unsteady))

    def _key(self, what: str, subject: Subject, source: str) -> str:
        return _proof_key(f"{what} {self._judge.device}", subject, source)

    def _judged(self, trial: Trial) -> Verdict:
        verdict = self._judge.verdict(trial)
        if verdict.kind is VerdictKind.ENVIRONMENT:
            raise JudgeError(f"the judge could not try {trial.name}: {verdict.reason}")
        return verdict


@dataclass(frozen=True, slots=True)
class _Finding:
    """What is kept of an examination."""

    status: Status
    sentence: str
    broken: tuple[str, ...] = ()
    unsteady: tuple[str, ...] = ()


def certify_all(
    work: Sequence[tuple[Subject, Mutant, bool]],
    *,
    jobs: int = 1,
    device: str = "cpu",
    progress: Callable[[Certificate], None] = lambda _: None,
) -> Iterator[Certificate]:
    """Certify (subject, mutant, crash_is_the_bug) in their order, `jobs` at a time.

    Each job has a judge of its own. Interrupting loses nothing that was proven.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(_Pool(jobs))
        idle: SimpleQueue[Certifier] = SimpleQueue()
        for _ in range(jobs):
            idle.put(Certifier(stack.enter_context(Judge(many=True, device=device))))

        def one(item: tuple[Subject, Mutant, bool]) -> Certificate:
            certifier = idle.get()
            try:
                subject, mutant, crash_is_the_bug = item
                return certifier.certify(subject, mutant, crash_is_the_bug=crash_is_the_bug)
            finally:
                idle.put(certifier)

        for certificate in pool.map(one, work):
            progress(certificate)
            yield certificate


class _Pool(ThreadPoolExecutor):
    """A pool that drops what is waiting when its user stops early (Ctrl-C, a closed generator).

    The judges are closed before it, so that what is running ends at once.
    """

    def __exit__(self, *_: object) -> None:
        self.shutdown(wait=True, cancel_futures=True)


def hidden_trial(subject: Subject, source: str, seed: int) -> Trial:
    """Return the trial of a file against the subject's promises."""
    return _trial(subject, source, subject.hidden_tests, subject.promises, seed)


def visible_trial(subject: Subject, source: str) -> Trial:
    """Return the trial of a file against the subject's visible test."""
    tests, functions = subject.visible_tests, subject.visible_promises
    return _trial(subject, source, tests, functions, seeds(subject)[0])


def seeds(subject: Subject) -> tuple[int, int]:
    """Return the two seeds a subject is proven under; large, so that no file has them by chance."""
    text = digest("seeds", subject.source, subject.hidden_tests)
    return int(text[:12], 16), int(text[12:24], 16)


def _trial(
    subject: Subject, source: str, tests: str, promises: tuple[Promise, ...], seed: int
) -> Trial:
    return Trial(
        name=subject.name,
        source=source,
        tests=tests,
        promises=promises,
        public_names=subject.public_names,
        seed=seed,
    )


def _with_outcome(verdict: Verdict, outcome: Outcome) -> list[str]:
    return [r.promise.name for r in verdict.results if r.outcome is outcome]


def _refusal(status: Status, why: str) -> _Finding:
    return _Finding(status, _SENTENCES[status].format(why=why))


def _recall(record: dict[str, object] | None) -> _Finding | None:
    match record:
        case {
            "status": str(status),
            "sentence": str(sentence),
            "broken": [*broken],
            "unsteady": [*unsteady],
        }:
            names = (tuple(map(str, broken)), tuple(map(str, unsteady)))
            return _Finding(Status(status), sentence, *names)
    return None


def _proof_key(what: str, subject: Subject, source: str) -> str:
    """Digest everything a proof depends on: a changed file, test, judge or library proves anew."""
    return digest(
        what,
        source,
        subject.source,
        subject.visible_tests,
        subject.hidden_tests,
        *subject.public_names,
        _prover(),
    )


@cache
def _prover() -> str:
    here = Path(__file__).parent
    own = [here / "certify.py", here / "lint.py", here / "textdiff.py", here / "records.py"]
    own += sorted((here / "judge").rglob("*.py"))
    libraries = [f"{name} {_version(name)}" for name in ("torch", "numpy", "pytest", "ruff")]
    return digest(platform.python_version(), *libraries, *(path.read_text() for path in own))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise EnvironmentFault(
            f"{package} is not installed; install it with: pip install {package}"
        ) from error


def tally(certificates: Iterable[Certificate]) -> dict[Status, int]:
    """Count certificates by status, every status present."""
    counts = dict.fromkeys(Status, 0)
    for certificate in certificates:
        counts[certificate.status] += 1
    return counts
