"""One unit of work: one text for one puzzle, under seeds that were given out with it.

What is to be done and what came of it are plain data, so that a unit may be done in any process of
any machine that has halfhour. A process keeps its judge from unit to unit.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from ..errors import EnvironmentFault
from ..judge import INTERVIEW, Judge
from ..judge.protection import rung_for_others
from ..records import Answer, Outcome, Promise, Puzzle, Trial, Verdict, VerdictKind, digest

RUNS = 2
"""A file that knows one draw of the inputs does not know the next."""

_WORST_FIRST = (
    VerdictKind.ENVIRONMENT,
    VerdictKind.INVALID,
    VerdictKind.NOT_FIXED,
    VerdictKind.FIXED,
)


@dataclass(frozen=True, slots=True)
class Material:
    """What a worker must know of a puzzle to judge a file; no solution and no lesson."""

    name: str
    """The module's."""
    tests: str
    promises: tuple[Promise, ...]
    public_names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Name the content, so that it need travel only once to each worker."""
        promises = [digest(p.name, p.text, p.symptom) for p in self.promises]
        return digest(self.name, self.tests, digest(*promises), *self.public_names)


@dataclass(frozen=True, slots=True)
class UnitRequest:
    """One text to judge."""

    material: Material | str
    """Or its digest, for a process that has learnt it."""
    source: str
    seeds: tuple[int, ...]
    """One for each run."""
    device: str = "cpu"
    accept_risk: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of a unit."""

    verdict: Verdict
    """The worse of the runs; without details, which are for authors and may be long."""
    runs: int


def material_of(puzzle: Puzzle, answer: Answer) -> Material:
    """Return what a worker must know."""
    return Material(puzzle.subject, answer.hidden_tests, answer.promises, answer.public_names)


def seeds(salt: str, source_digest: str) -> tuple[int, ...]:
    """Return the seeds of a text's runs: nobody knows them without the salt, and they do not
    depend on what else is judged."""
    texts = [digest(salt, source_digest, str(run)) for run in range(RUNS)]
    return tuple(int(text[:12], 16) for text in texts)


def by_digest(request: UnitRequest) -> UnitRequest:
    """Return the request for a process that has learnt its material."""
    if isinstance(request.material, str):
        return request
    return replace(request, material=request.material.digest)


_known: dict[str, Material] = {}


def learn(materials: Iterable[Material]) -> None:
    """Let requests to this process name these by digest alone."""
    _known.update((material.digest, material) for material in materials)


def judge_unit(request: UnitRequest) -> Judged:
    """Judge one text, run after run until one refuses it; a run that was late once more.

    Raises EnvironmentFault where this machine cannot judge other people's files at all.
    """
    material = request.material
    if isinstance(material, str):
        if material not in _known:
            raise EnvironmentFault("this process was not told the promises that it is to try")
        material = _known[material]
    runs: list[Verdict] = []
    with _judge(request.device, request.accept_risk) as judge:
        for seed in request.seeds:
            trial = Trial(
                name=material.name,
                source=request.source,
                tests=material.tests,
                promises=material.promises,
                public_names=material.public_names,
                seed=seed,
            )
            run = judge.verdict(trial)
            runs.append(judge.verdict(trial) if _was_hindered(run) else run)
            if runs[-1].kind is not VerdictKind.FIXED:  # it will not become fixed again
                break
    worst = min(runs, key=lambda run: _WORST_FIRST.index(run.kind))
    results = tuple(replace(result, detail="") for result in worst.results)
    return Judged(replace(worst, results=results), len(runs))


def _was_hindered(run: Verdict) -> bool:
    """Tell whether it may be this machine's fault: the clock runs for a busy one too."""
    late = any(result.outcome is Outcome.TIMED_OUT for result in run.results)
    slow = run.kind is VerdictKind.INVALID and run.seconds >= INTERVIEW.load_s
    return late or slow or run.kind is VerdictKind.ENVIRONMENT


_Kind = tuple[str, bool]
_idle: list[tuple[_Kind, Judge]] = []
_at_hand = threading.Lock()


@contextmanager
def _judge(device: str, accept_risk: bool) -> Iterator[Judge]:
    """Lend an idle judge of this process, or a new one: as many as there are threads at work."""
    kind = device, accept_risk
    with _at_hand:
        found = next((each for each in _idle if each[0] == kind), None)
        if found is not None:
            _idle.remove(found)
    judge = found[1] if found is not None else _new_judge(device, accept_risk)
    try:
        yield judge
    except BaseException:
        judge.close()
        raise
    with _at_hand:
        _idle.append((kind, judge))


def _new_judge(device: str, accept_risk: bool) -> Judge:
    rung = rung_for_others(device, accept_risk=accept_risk)
    return Judge(device=device, limits=INTERVIEW, many=True, rung=rung)


@atexit.register
def close_judges() -> None:
    """End the judges that this process keeps."""
    with _at_hand:
        closing, _idle[:] = list(_idle), []
    for _, judge in closing:
        judge.close()
