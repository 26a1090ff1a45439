"""A real cluster of this machine: what a lost worker had is judged by another, and told once."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import handmade
import pytest
import toy

from halfhour.generator.errors import EnvironmentFault, UsageError
from halfhour.generator.grading import cluster, run, work
from halfhour.generator.grading.journal import Key, open_journal
from halfhour.generator.grading.records import Submission
from halfhour.generator.grading.run import Progress
from halfhour.generator.records import Verdict, VerdictKind

PATIENCE_S = 120.0
PUZZLE, ANSWER = handmade.puzzle(), handmade.answer()


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """Two workers, each a process of its own."""
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=60,
    ) as found:
        yield found


def submission(name: str, source: str) -> Submission:
    return Submission(name, f"{name}.py", PUZZLE.id, source, "")


def inbox() -> list[Submission]:
    """Return right and wrong files; two have the same text."""
    right = [submission(f"right {n}", f"{toy.SOURCE}\n# {n}\n") for n in range(6)]
    wrong = [submission(f"wrong {n}", f"{PUZZLE.source}\n# {n}\n") for n in range(3)]
    return [*right, *wrong, submission("again", right[0].source or "")]


def graded_while_a_worker_is_killed(
    local: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> list[VerdictKind]:
    """Grade the inbox; kill a worker at the first verdict. Check that each is told once."""
    told: Counter[str] = Counter()
    kept: Counter[Key] = Counter()
    pids = [nanny.process.pid for nanny in local.workers.values()]

    def report(progress: Progress) -> None:
        if not told:
            os.kill(pids[0], signal.SIGKILL)
        told[progress.submission.candidate] += 1

    promises = {PUZZLE.id: ANSWER.promises}
    with open_journal(place, answers="a", device="cpu", promises=promises) as journal:
        keep = journal.put

        def put(key: Key, found: work.Judged) -> None:
            kept.update([key])
            keep(key, found)

        monkeypatch.setattr(journal, "put", put)
        found = run.grade(
            [(PUZZLE, ANSWER)],
            inbox(),
            workers=lambda: cluster.executor(local.scheduler_address, patience_s=PATIENCE_S),
            journal=journal,
            accept_risk=True,
            report=report,
        )
    assert [each.submission for each in found] == inbox()
    assert len(told) == len(kept) == 9
    assert set(told.values()) == set(kept.values()) == {1}
    return [each.verdict.kind for each in found]


EXPECTED = [VerdictKind.FIXED] * 6 + [VerdictKind.NOT_FIXED] * 3 + [VerdictKind.FIXED]


def test_a_worker_that_is_killed_in_the_middle_loses_nothing(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quick_judge(request: work.UnitRequest) -> work.Judged:
        """Travels by value; knows the material only if it came."""
        assert work._known[str(request.material)].name == "toy"
        time.sleep(0.3)
        fixed = "(len(values) > 1)" not in request.source
        kind = VerdictKind.FIXED if fixed else VerdictKind.NOT_FIXED
        return work.Judged(Verdict(kind, "quick"), 1)

    monkeypatch.setattr(run, "judge_unit", quick_judge)

    assert graded_while_a_worker_is_killed(local, tmp_path / "journal", monkeypatch) == EXPECTED


@pytest.mark.thorough
def test_the_judge_itself_works_there_too(
    local: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert graded_while_a_worker_is_killed(local, tmp_path / "journal", monkeypatch) == EXPECTED


def test_a_material_travels_as_a_task_named_by_its_content(local: Any) -> None:
    material = work.material_of(PUZZLE, ANSWER)
    requests = [work.UnitRequest(material, f"{n}", (1, 2), "cpu", True) for n in (1, 2, 1)]

    with cluster.executor(local.scheduler_address, patience_s=PATIENCE_S) as pool:
        given = [pool.submit(work.by_digest, each).result(PATIENCE_S) for each in requests]
        tasks = [str(name) for name in local.scheduler.tasks]

    assert {each.material for each in given} == {material.digest}
    assert [name for name in tasks if "material-" in name] == [
        f"halfhour-material-{material.digest}"
    ]


def test_what_is_under_way_is_taken_back_where_the_context_fails(local: Any) -> None:
    waiting: list[Future[None]] = []

    def interrupted() -> None:
        with cluster.executor(local.scheduler_address, patience_s=PATIENCE_S) as pool:
            waiting.extend(pool.submit(time.sleep, 0.3 + n / 1000) for n in range(20))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    assert isinstance(waiting[-1].exception(timeout=PATIENCE_S), EnvironmentFault)


@pytest.mark.parametrize(
    ("asked", "found"), [(lambda: "0.0.9", "0.0.9"), (lambda: 1 / 0, "none")], ids=["old", "none"]
)
def test_workers_with_another_halfhour_are_refused(
    local: Any, monkeypatch: pytest.MonkeyPatch, asked: Callable[[], object], found: str
) -> None:
    monkeypatch.setattr(cluster, "_version", asked)

    with (
        pytest.raises(EnvironmentFault, match=rf"have another halfhour \({found}\); install"),
        cluster.executor(local.scheduler_address, patience_s=PATIENCE_S),
    ):
        pass


def test_a_scheduler_that_ends_in_the_middle_is_said() -> None:
    distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    threads = distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp",
        dashboard_address="127.0.0.1:0",
    )

    def interrupted() -> None:
        address = threads.scheduler_address
        with cluster.executor(address, patience_s=PATIENCE_S) as pool:
            begun = pool.submit(time.sleep, 0.51)
            threads.close()
            begun.result(timeout=PATIENCE_S)

    with threads, pytest.raises(EnvironmentFault, match="is gone; what was judged is kept"):
        interrupted()


@pytest.mark.parametrize("address", ["", "localhost", "localhost:8786", "tcp://", "tcp://a b:1"])
def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(UsageError, match="looks like tcp://host:8786"), cluster.executor(address):
        pass


def test_a_scheduler_that_does_not_answer_is_said() -> None:
    pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    with (
        pytest.raises(EnvironmentFault, match="no Dask scheduler answers at tcp:"),
        cluster.executor("tcp://127.0.0.1:9", patience_s=0.5),
    ):
        pass


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)

    with (
        pytest.raises(UsageError, match=r"pip install 'halfhour\[cluster\]'"),
        cluster.executor("tcp://127.0.0.1:9"),
    ):
        pass
