"""Judge what was handed in through any Executor: each text once, and none lost with a process."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ..errors import HalfhourError
from ..judge.plain import plain
from ..records import Answer, Puzzle, Verdict, VerdictKind
from .journal import Journal, Key
from .records import Graded, Submission
from .work import Judged, UnitRequest, judge_unit, material_of, seeds

Workers = Callable[[], AbstractContextManager[Executor]]
"""Opens an executor; again where one broke."""

MOST_LOSSES = 3
"""So many times a unit is given out again after the process that had it ended."""
MOST_GIVEN_UP = 3
"""After so many units in a row that ended every process, it is not the units."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    done: int
    of: int
    submission: Submission
    """One of those with the text that was judged last."""
    verdict: Verdict


def grade(
    puzzles: Sequence[tuple[Puzzle, Answer]],
    submissions: Sequence[Submission],
    *,
    workers: Workers,
    journal: Journal,
    at_once: int | None = None,
    device: str = "cpu",
    accept_risk: bool = False,
    report: Callable[[Progress], None] = lambda _: None,
) -> tuple[Graded, ...]:
    """Return what became of each submission, in their order, which changes no verdict.

    What the journal holds is not judged again. `at_once` units are given out at a time, all where
    it is None. Raises EnvironmentFault where a worker cannot judge other people's files at all.
    """
    materials = {puzzle.id: material_of(puzzle, answer) for puzzle, answer in puzzles}
    first: dict[Key, Submission] = {}
    for submission in submissions:
        if submission.source is not None and not submission.problem:
            first.setdefault((submission.puzzle, submission.digest), submission)
    judged: dict[Key, Judged] = {}
    todo: dict[Key, UnitRequest] = {}
    for key, submission in first.items():
        known = journal.get(key)
        if known is not None:
            judged[key] = known
        else:
            todo[key] = UnitRequest(
                material=materials[submission.puzzle],
                source=submission.source or "",
                seeds=seeds(journal.salt, submission.digest),
                device=device,
                accept_risk=accept_risk,
            )

    def keep(key: Key, found: Judged) -> None:
        journal.put(key, found)
        judged[key] = found
        report(Progress(len(judged), len(first), first[key], found.verdict))

    _Run(todo, keep).finish(workers, at_once or len(todo))
    return tuple(_graded(submission, judged, device) for submission in submissions)


def _graded(submission: Submission, judged: Mapping[Key, Judged], device: str) -> Graded:
    found = judged.get((submission.puzzle, submission.digest))
    if found is None or submission.problem:
        verdict = Verdict(VerdictKind.INVALID, submission.problem, device=device)
        return Graded(submission, verdict, runs=0)
    return Graded(submission, found.verdict, found.runs)


class _Run:
    """The units that are still to be judged, and those that took a process with them."""

    def __init__(
        self, requests: Mapping[Key, UnitRequest], keep: Callable[[Key, Judged], None]
    ) -> None:
        self._requests = requests
        self._keep = keep
        self._waiting = deque(requests)
        self._lost: deque[Key] = deque()
        """Each of these is tried alone, so that it is plain which one ends its process."""
        self._losses: Counter[Key] = Counter()
        self._given_up = 0
        """How many in a row."""

    def finish(self, workers: Workers, at_once: int) -> None:
        """Judge them all, with new workers whenever these broke."""
        while self._waiting or self._lost:
            with workers() as executor:
                self._judge_with(executor, at_once)

    def _judge_with(self, executor: Executor, at_once: int) -> None:
        """Go on until all is judged or the executor is broken."""
        running: dict[Future[Judged], Key] = {}
        broken = False
        while True:
            broken = broken or not self._hand_out(executor, running, at_once)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                key = running.pop(future)
                error = None if future.cancelled() else future.exception()
                if isinstance(error, BrokenExecutor):
                    broken = True
                    self._lose(key)
                elif isinstance(error, HalfhourError) or not isinstance(error, Exception | None):
                    raise error
                elif future.cancelled() or error is not None:
                    self._keep(key, _failed(f"it could not be tried: {_told(error)}"))
                else:
                    self._given_up = 0
                    self._keep(key, future.result())

    def _hand_out(
        self, executor: Executor, running: dict[Future[Judged], Key], at_once: int
    ) -> bool:
        """Give out as much as may be under way; return False where the executor is broken."""
        while queue := self._lost or self._waiting:
            alone = queue is self._lost or any(key in self._losses for key in running.values())
            if len(running) >= (1 if alone else at_once):
                break
            try:
                future = executor.submit(judge_unit, self._requests[queue[0]])
            except BrokenExecutor:
                if not running:
                    self._lose(queue.popleft())
                return False
            running[future] = queue.popleft()
        return True

    def _lose(self, key: Key) -> None:
        self._losses[key] += 1
        if self._losses[key] <= MOST_LOSSES:
            self._lost.append(key)
            return
        self._given_up += 1
        self._keep(key, _failed("the process that was to judge it ended every time"))
        if self._given_up == MOST_GIVEN_UP:
            for other in (*self._lost, *self._waiting):
                self._keep(other, _failed("no process that judges stays alive here"))
            self._lost.clear()
            self._waiting.clear()


def _failed(why: str) -> Judged:
    return Judged(Verdict(VerdictKind.ENVIRONMENT, why), runs=0)


def _told(error: BaseException | None) -> str:
    if error is None:
        return "it was taken off the list"
    return plain(f"{type(error).__name__}: {error}", limit=200)
