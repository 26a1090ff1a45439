"""Prove a mutant before anyone sees it: the original is right, the mutant is silently wrong.

A mutant becomes a puzzle only if the correct file keeps every promise, and the mutant is a small
edit that no linter notices, loads, passes the visible test, and breaks at least one promise in
every run by a wrong value. Every other mutant gets a status that says why not.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue

from . import difficulty, lint, textdiff
from .cache import ProofCache
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
from .screen import Profile, Run, Screen, Sifted, Unscreenable, kept_profile

_ONE_IN = 8
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
    """Certifies mutants with one judge; proofs are kept under a key of all they depend on.

    With a screen, many mutants of one subject are tried there first: what it refuses is no puzzle,
    what it lets through is confirmed by the judge.
    """

    def __init__(
        self, judge: Judge, cache: ProofCache | None = None, *, screen: Screen | None = None
    ) -> None:
        self._judge = judge
        self._cache = cache if cache is not None else ProofCache()
        self._screen = screen if screen is not None else Screen()
        self._profiles: dict[str, Profile] = {}
        self.upheld: Counter[bool] = Counter()
        """Of the mutants that the screen let through: how often the judge found the same."""

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
        key = self._mutant_key(subject, mutant, crash_is_the_bug, bugs)
        kept = _recall(self._cache.get(key))
        if kept is None:
            kept = self._examine(subject, mutant.source, crash_is_the_bug, bugs)
            self._cache.put(key, asdict(kept))
        return self._certificate(subject, mutant, kept)

    def certify_screened(
        self, subject: Subject, mutants: Sequence[tuple[Mutant, bool]]
    ) -> list[Certificate]:
        """Return the certificates of (mutant, crash_is_the_bug), screened together.

        Raises as `certify` does.
        """
        self.check_subject(subject)
        keys = [self._mutant_key(subject, mutant, crash, 1) for mutant, crash in mutants]
        found: dict[int, _Finding] = {}

        def keep(at: int, finding: _Finding) -> None:
            self._cache.put(keys[at], asdict(finding))  # at once: it outlives an interruption
            found[at] = finding

        for at, (mutant, _) in enumerate(mutants):
            if (kept := _recall(self._cache.get(keys[at]))) is not None:
                found[at] = kept
            elif (refusal := _refused_at_sight(subject, mutant.source, 1)) is not None:
                keep(at, refusal)
        left = [at for at in range(len(mutants)) if at not in found]
        sifted = self._sift(subject, [mutants[at][0].source for at in left])
        for at, seen in zip(left, sifted, strict=True):
            mutant, crash_is_the_bug = mutants[at]
            keep(at, self._confirm(subject, mutant.source, crash_is_the_bug, seen))
        self.upheld.update(kept.upheld for kept in found.values() if kept.upheld is not None)
        return [
            self._certificate(subject, mutant, found[at]) for at, (mutant, _) in enumerate(mutants)
        ]

    def _certificate(self, subject: Subject, mutant: Mutant, kept: _Finding) -> Certificate:
        found = Certificate(
            mutant=mutant.id,
            subject=subject.name,
            mutator=mutant.mutator,
            site=mutant.site,
            line=mutant.line,
            status=kept.status,
            sentence=kept.sentence,
            broken=kept.broken,
            unsteady=kept.unsteady,
            seeds=seeds(subject),
            torch=_version("torch").partition("+")[0],
            device=self._judge.device,
        )
        if kept.status is not Status.CERTIFIED:
            return found
        terms = difficulty.terms(subject, mutant, kept.broken, self._profile(subject))
        return replace(found, level=difficulty.level(terms), terms=terms)

    def _profile(self, subject: Subject) -> Profile:
        """Return which lines the promises run; of a subject that cannot be traced, none."""
        key = self._key("profile", subject, subject.source)
        if key not in self._profiles:
            self._profiles[key] = kept_profile(self._cache, key, lambda: self._trace(subject))
        return self._profiles[key]

    def _trace(self, subject: Subject) -> Profile:
        try:
            return self._screen.profile(subject, seed=seeds(subject)[0])
        except Unscreenable:
            return Profile({})

    def _sift(self, subject: Subject, texts: Sequence[str]) -> list[Sifted | None]:
        """Screen the texts; None for each where the screen cannot run this subject's tests."""
        if not texts:
            return []
        try:
            return list(self._screen.sift(subject, texts, seeds=seeds(subject)))
        except Unscreenable:
            return [None] * len(texts)

    def _confirm(
        self, subject: Subject, source: str, crash_is_the_bug: bool, seen: Sifted | None
    ) -> _Finding:
        """Let the judge decide on what the screen lets through.

        The judge's worker has another hash seed and, for some texts, two threads. Where the two
        agree under the second seed, the first run of the screen stands; where not, the judge alone
        examines all.
        """
        if seen is None:
            return self._examine(subject, source, crash_is_the_bug, 1)
        refusal = _refused_by_screen(subject, seen, crash_is_the_bug)
        if refusal is not None:
            return refusal
        refusal = self._refused_visibly(subject, source)
        _, second_seed = seeds(subject)
        if refusal is None:
            trial = replace(
                hidden_trial(subject, source, second_seed), threads=_threads_for(source)
            )
            run = self._judged(trial)
            first, second = (_outcomes(each) for each in seen.runs)
            if run.kind is VerdictKind.NOT_FIXED and _outcomes_of(run) == second:
                return replace(
                    _finding(subject, [first, second, _outcomes_of(run)], crash_is_the_bug),
                    upheld=True,
                )
        return replace(
            refusal or self._examine_hidden(subject, source, crash_is_the_bug), upheld=False
        )

    def _examine(
        self, subject: Subject, source: str, crash_is_the_bug: bool, bugs: int
    ) -> _Finding:
        return (
            _refused_at_sight(subject, source, bugs)
            or self._refused_visibly(subject, source)
            or self._examine_hidden(subject, source, crash_is_the_bug)
        )

    def _refused_visibly(self, subject: Subject, source: str) -> _Finding | None:
        visible = self._judged(visible_trial(subject, source))
        if visible.kind is VerdictKind.INVALID:
            return _refusal(Status.CRASHES, visible.reason)
        if visible.kind is VerdictKind.NOT_FIXED:
            late = _with_outcome(visible, Outcome.TIMED_OUT)
            status = Status.TIMEOUT if late else Status.VISIBLE
            return _refusal(status, ", ".join(visible.broken))
        return None

    def _examine_hidden(self, subject: Subject, source: str, crash_is_the_bug: bool) -> _Finding:
        first_seed, second_seed = seeds(subject)
        runs: list[_Outcomes] = []
        for seed in (first_seed, second_seed, first_seed):
            run = self._judged(hidden_trial(subject, source, seed))
            if run.kind is VerdictKind.INVALID:
                return _refusal(Status.CRASHES, run.reason)
            runs.append(_outcomes_of(run))
            if refusal := _cut_short(runs[-1]):
                return refusal
            if len(runs) == 2 and not any(map(_broken, runs)):
                return _refusal(Status.EQUIVALENT, "")
        first, second, again = runs
        if _broken(first) != _broken(again):
            return _flaky(runs)
        return _finding(subject, [first, second], crash_is_the_bug)

    def _mutant_key(
        self, subject: Subject, mutant: Mutant, crash_is_the_bug: bool, bugs: int
    ) -> str:
        return self._key(f"mutant {crash_is_the_bug} {bugs}", subject, mutant.source)

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
    upheld: bool | None = None
    """Whether the judge found what the screen had found; None where it was not asked to."""


_Outcomes = dict[str, Outcome]


def _outcomes_of(verdict: Verdict) -> _Outcomes:
    return {result.promise.name: result.outcome for result in verdict.results}


def _outcomes(run: Run) -> _Outcomes:
    return {name: outcome for name, (outcome, _) in run.items()}


def _broken(run: _Outcomes) -> list[str]:
    return [name for name, outcome in run.items() if outcome is not Outcome.KEPT]


def _refused_at_sight(subject: Subject, source: str, bugs: int) -> _Finding | None:
    changed = textdiff.changed_lines(subject.source, source)
    if changed > MOST_CHANGED_LINES * bugs:
        return _refusal(Status.NOISY, f"{changed} lines differ")
    noise = lint.new_findings(subject.source, source)
    return _refusal(Status.NOISY, f"ruff says {noise[0]}") if noise else None


def _refused_by_screen(subject: Subject, seen: Sifted, crash_is_the_bug: bool) -> _Finding | None:
    """Return the refusal of a mutant that the screen need not show to the judge."""
    if seen.unloaded:
        return _refusal(Status.CRASHES, seen.unloaded)
    if seen.ended or seen.visible is None:
        return _refusal(Status.CRASHES, "its process ends or hangs")
    visible = _outcomes(seen.visible)
    if broken := _broken(visible):
        late = Outcome.TIMED_OUT in visible.values()
        return _refusal(Status.TIMEOUT if late else Status.VISIBLE, ", ".join(broken))
    runs = [_outcomes(run) for run in seen.runs]
    for run in runs:
        if refusal := _cut_short(run):
            return refusal
    if not any(map(_broken, runs)):
        return _refusal(Status.EQUIVALENT, "")
    found = _finding(subject, runs, crash_is_the_bug)
    return None if found.status is Status.CERTIFIED else found


def _cut_short(run: _Outcomes) -> _Finding | None:
    """Return the refusal of a mutant that hangs, or ends its process."""
    if late := [name for name, outcome in run.items() if outcome is Outcome.TIMED_OUT]:
        return _refusal(Status.TIMEOUT, ", ".join(late))
    if dead := [name for name, outcome in run.items() if outcome is Outcome.DIED]:
        return _refusal(Status.CRASHES, f"the process ended in {', '.join(dead)}")
    return None


def _flaky(runs: Sequence[_Outcomes]) -> _Finding:
    ever = {name for run in runs for name in _broken(run)}
    return _refusal(Status.FLAKY, ", ".join(sorted(ever)))


def _finding(subject: Subject, runs: Sequence[_Outcomes], crash_is_the_bug: bool) -> _Finding:
    """Return what runs under both seeds make of a mutant of which some promise is broken."""
    always = [
        p.name for p in subject.promises if all(run[p.name] is not Outcome.KEPT for run in runs)
    ]
    if not always:
        return _flaky(runs)
    wrong = all(any(run[name] is Outcome.WRONG for name in always) for run in runs)
    if not wrong and not crash_is_the_bug:
        return _refusal(Status.CRASHES, ", ".join(always))
    ever = {name for run in runs for name in _broken(run)}
    sentence = _SENTENCES[Status.CERTIFIED].format(n=len(always), of=len(subject.promises))
    return _Finding(Status.CERTIFIED, sentence, tuple(always), tuple(sorted(ever - set(always))))


_TOGETHER = 8
"""Mutants of one subject that a job takes at a time, at most."""


def certify_all(
    work: Sequence[tuple[Subject, Mutant, bool]],
    *,
    jobs: int = 1,
    device: str = "cpu",
    upheld: Counter[bool] | None = None,
) -> Iterator[Certificate]:
    """Certify (subject, mutant, crash_is_the_bug) in their order, `jobs` at a time.

    Each job has a judge and a screen of its own. Interrupting loses nothing that was proven.
    `upheld` is told at the end how often the judges found what the screens had.
    """
    certifiers: list[Certifier] = []
    with ExitStack() as stack:
        pool = stack.enter_context(_Pool(jobs))
        idle: SimpleQueue[Certifier] = SimpleQueue()
        for _ in range(jobs):
            judge = stack.enter_context(Judge(many=True, device=device))
            certifiers.append(Certifier(judge, screen=stack.enter_context(Screen())))
            idle.put(certifiers[-1])

        def some(batch: Sequence[tuple[Subject, Mutant, bool]]) -> list[Certificate]:
            certifier = idle.get()
            try:
                mutants = [(mutant, crash) for _, mutant, crash in batch]
                return certifier.certify_screened(batch[0][0], mutants)
            finally:
                idle.put(certifier)

        for certificates in pool.map(some, _batches(work, jobs)):
            yield from certificates
    if upheld is not None:
        for certifier in certifiers:
            upheld.update(certifier.upheld)


def _batches(
    work: Sequence[tuple[Subject, Mutant, bool]], jobs: int
) -> Iterator[Sequence[tuple[Subject, Mutant, bool]]]:
    """Cut the work where the subject changes, and each part evenly, so that no job waits long."""
    begun = 0
    for at in range(1, len(work) + 1):
        if at == len(work) or work[at][0] is not work[begun][0]:
            yield from _evenly(work[begun:at], jobs)
            begun = at


def _evenly(
    part: Sequence[tuple[Subject, Mutant, bool]], jobs: int
) -> Iterator[Sequence[tuple[Subject, Mutant, bool]]]:
    """Cut one subject's work into so many batches for each job, none larger than is good."""
    batches = min(len(part), jobs * -(-len(part) // (jobs * _TOGETHER)))
    for number in range(batches):
        yield part[number * len(part) // batches : (number + 1) * len(part) // batches]


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


def _threads_for(source: str) -> int:
    """Return how many threads to confirm a text with: two for some, because they cost thrice."""
    return 2 if int(digest("threads", source)[:4], 16) % _ONE_IN == 0 else 1


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
            "upheld": bool() | None as upheld,
        }:
            names = (tuple(map(str, broken)), tuple(map(str, unsteady)))
            return _Finding(Status(status), sentence, *names, upheld)
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
    own += sorted((here / "judge").rglob("*.py")) + sorted((here / "screen").rglob("*.py"))
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
