"""A run through any executor: each text once, the same in any order, and no unit is lost."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import handmade
import pytest

from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.grading import run
from halfhour.generator.grading.journal import Journal, open_journal
from halfhour.generator.grading.records import Graded, Submission
from halfhour.generator.grading.work import Judged, UnitRequest
from halfhour.generator.records import Outcome, PromiseResult, Verdict, VerdictKind

PUZZLES = ((handmade.puzzle(), handmade.answer()),)
ENVIRONMENT = VerdictKind.ENVIRONMENT


def submission(candidate: str, source: str | None = None, problem: str = "") -> Submission:
    text = None if problem else source if source is not None else f"# {candidate}\n"
    return Submission(candidate, f"{candidate}.py", "0badcafe", text, problem)


def rules(request: UnitRequest) -> Judged:
    """Rule as a file would be that asks for its seeds: they decide."""
    kind = VerdictKind.FIXED if request.seeds[0] % 2 else VerdictKind.NOT_FIXED
    outcome = Outcome.KEPT if request.seeds[0] % 2 else Outcome.WRONG
    results = tuple(PromiseResult(p, outcome) for p in handmade.answer().promises)
    return Judged(Verdict(kind, f"seeds {request.seeds}", results, seed=request.seeds[0]), 2)


class Scripted(Executor):
    """Judges at once, in this process; a text may take the executor with it, or raise."""

    def __init__(self, *, breaks: Callable[[str], bool] = lambda _: False) -> None:
        self.breaks = breaks
        self.asked: Counter[str] = Counter()
        self.opened = 0
        self.broken = False

    @contextmanager
    def workers(self) -> Iterator[Executor]:
        self.opened += 1
        self.broken = False
        yield self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("broken before")
        (request,) = args
        self.asked[request.source] += 1
        future: Future[Any] = Future()
        if self.breaks(request.source):
            self.broken = True
            future.set_exception(BrokenExecutor("a process ended"))
        else:
            try:
                future.set_result(fn(request))
            except Exception as error:
                future.set_exception(error)
        return future


@pytest.fixture(autouse=True)
def _ruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "judge_unit", rules)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with kept(tmp_path / "journal.jsonl") as journal:
        yield journal


@contextmanager
def kept(path: Path, *, salt: str | None = None) -> Iterator[Journal]:
    promises = {"0badcafe": handmade.answer().promises}
    with open_journal(path, answers="f" * 64, device="cpu", promises=promises) as journal:
        journal.salt = salt or journal.salt
        yield journal


def graded(
    submissions: list[Submission], executor: Scripted, journal: Journal, **asked: Any
) -> tuple[Graded, ...]:
    return run.grade(PUZZLES, submissions, workers=executor.workers, journal=journal, **asked)


def test_every_submission_has_its_verdict_in_their_order(journal: Journal) -> None:
    handed_in = [submission("ada"), submission("bob", problem="bob.py is empty"), submission("cy")]

    ada, bob, cy = graded(handed_in, Scripted(), journal)

    assert [each.submission for each in (ada, bob, cy)] == handed_in
    assert (bob.verdict.kind, bob.verdict.reason, bob.runs) == (
        *(VerdictKind.INVALID, "bob.py is empty"),
        0,
    )
    assert ada.verdict != cy.verdict
    assert (ada.runs, cy.runs) == (2, 2)


def test_the_same_text_is_judged_once(journal: Journal) -> None:
    executor = Scripted()

    found = graded([submission(name, "same\n") for name in ("ada", "bob")], executor, journal)

    assert executor.asked == {"same\n": 1}
    assert found[0].verdict == found[1].verdict


def test_the_order_changes_no_verdict(tmp_path: Path) -> None:
    """Nor does who else is judged, nor how many at once."""
    handed_in = [submission(f"candidate {n}") for n in range(12)]
    with kept(tmp_path / "journal.jsonl", salt="salt") as journal:
        first = graded(handed_in, Scripted(), journal)
    for order in range(3):
        shuffled = random.Random(order).sample(handed_in, k=len(handed_in) - order)
        with kept(tmp_path / f"{order}.jsonl", salt="salt") as journal:
            found = run.grade(PUZZLES, shuffled, workers=three_threads, journal=journal)
        assert set(found) <= set(first)
    assert len({each.verdict.kind for each in first}) == 2


def three_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(3)


def test_what_the_journal_holds_is_not_judged_again(tmp_path: Path) -> None:
    handed_in = [submission("ada"), submission("bob")]
    with kept(tmp_path / "journal.jsonl") as journal:
        first = graded(handed_in, Scripted(), journal)
    later = Scripted()

    with kept(tmp_path / "journal.jsonl") as journal:
        second = graded([*handed_in, submission("cy")], later, journal)

    assert second[:2] == first
    assert later.asked == {"# cy\n": 1}


def test_a_text_that_was_under_way_when_a_process_ended_is_given_out_again(
    journal: Journal,
) -> None:
    ends = iter([True])
    executor = Scripted(breaks=lambda source: source == "# bob\n" and next(ends, False))
    handed_in = [submission(name) for name in ("ada", "bob", "cy", "dora")]

    found = graded(handed_in, executor, journal, at_once=2)

    assert {each.verdict.kind for each in found} <= {VerdictKind.FIXED, VerdictKind.NOT_FIXED}
    assert executor.opened == 2
    assert executor.asked == {"# ada\n": 1, "# bob\n": 2, "# cy\n": 1, "# dora\n": 1}


def test_a_text_that_ends_every_process_is_given_up_and_the_rest_goes_on(
    journal: Journal,
) -> None:
    executor = Scripted(breaks=lambda source: source == "# bob\n")
    handed_in = [submission(name) for name in ("ada", "bob", "cy")]

    ada, bob, cy = graded(handed_in, executor, journal, at_once=3)

    assert bob.verdict.kind is ENVIRONMENT
    assert "ended every time" in bob.verdict.reason
    assert executor.asked["# bob\n"] == run.MOST_LOSSES + 1
    assert ENVIRONMENT not in (ada.verdict.kind, cy.verdict.kind)
    assert journal.get(("0badcafe", bob.submission.digest)) is None


class Crowded(Scripted):
    """Judges some at a time; a text that takes the executor with it is quicker than any other."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        if self.broken:
            raise BrokenExecutor("broken before")
        (request,) = args
        future: Future[Any] = Future()
        self.running = [each for each in self.running if not each.done()] + [future]
        if self.breaks(request.source):
            threading.Timer(0.005, self._break).start()
        else:
            threading.Timer(0.1, self._end, (future, fn(request))).start()
        return future

    running: list[Future[Any]] = []

    def _break(self) -> None:
        self.broken = True
        for future in self.running:
            if not future.done():
                future.set_exception(BrokenExecutor("a process ended"))

    @staticmethod
    def _end(future: Future[Any], judged: Judged) -> None:
        if not future.done():
            future.set_result(judged)


def test_nobody_is_given_up_for_another_ones_text(journal: Journal) -> None:
    handed_in = [submission(name) for name in ("ada", "bob", "cy")]
    executor = Crowded(breaks=lambda source: source == "# bob\n")

    found = graded(handed_in, executor, journal, at_once=3)

    assert [each.verdict.kind is ENVIRONMENT for each in found] == [False, True, False]


def test_where_no_process_stays_alive_not_every_text_is_tried(journal: Journal) -> None:
    executor = Scripted(breaks=lambda _: True)
    handed_in = [submission(f"candidate {n}") for n in range(50)]

    found = graded(handed_in, executor, journal, at_once=2)

    assert {each.verdict.kind for each in found} == {ENVIRONMENT}
    assert len(executor.asked) <= 2 * run.MOST_GIVEN_UP


def test_whatever_else_goes_wrong_with_a_text_the_rest_goes_on(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(request: UnitRequest) -> Judged:
        if request.source == "# bob\n":
            raise RuntimeError("a connection\x1b[31m went away")
        return rules(request)

    monkeypatch.setattr(run, "judge_unit", fail)

    ada, bob = graded([submission("ada"), submission("bob")], Scripted(), journal)

    assert bob.verdict.kind is ENVIRONMENT
    assert r"RuntimeError: a connection\x1b[31m went away" in bob.verdict.reason
    assert ada.verdict.kind is not ENVIRONMENT


def test_a_machine_that_may_not_judge_ends_the_run(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: UnitRequest) -> Judged:
        raise EnvironmentFault("other people's files are not run here")

    monkeypatch.setattr(run, "judge_unit", refuse)

    with pytest.raises(EnvironmentFault, match="not run here"):
        graded([submission("ada"), submission("bob")], Scripted(), journal)


def test_no_executor_is_opened_for_nothing(journal: Journal) -> None:
    executor = Scripted()

    graded([submission("bob", problem="bob.py is empty")], executor, journal)

    assert executor.opened == 0


def test_progress_counts_texts_and_what_the_journal_held(journal: Journal) -> None:
    graded([submission("ada")], Scripted(), journal)
    told: list[tuple[int, int, str]] = []

    handed_in = [submission("ada"), submission("bob"), submission("cy", "# bob\n")]
    graded(
        handed_in,
        Scripted(),
        journal,
        report=lambda p: told.append((p.done, p.of, p.submission.candidate)),
    )

    assert told == [(2, 2, "bob")]
