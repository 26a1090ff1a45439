"""One court for most of the tests, a small file with one of everything, and ways to judge it."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from halfhour.generator.judge import Judge, Limits, Rung
from halfhour.generator.judge.channel import Channel
from halfhour.generator.judge.ledger import Finding
from halfhour.generator.judge.trial import Ruling, Task, hold
from halfhour.generator.judge.worker.connection import Connection
from halfhour.generator.judge.worker.serve import Server
from halfhour.generator.records import Promise, Trial, Verdict

KIT = Path(__file__).parent / "kit"

QUICK = Limits(load_s=5.0, call_s=5.0, verdict_s=60.0, message_bytes=4 << 20)


@pytest.fixture(scope="session")
def judge() -> Iterator[Judge]:
    """One court for all tests that do not need one of their own; the next worker is warming up."""
    with Judge(limits=QUICK, many=True) as judge:
        yield judge


def _trial(
    source: str,
    tests: str,
    *,
    name: str = "kit",
    public_names: tuple[str, ...] = (),
    promises: tuple[str, ...] | None = None,
    seed: int = 1,
) -> Trial:
    """Return a trial whose manifest is, unless told otherwise, what the tests define."""
    found = re.findall(r"^def (test_\w+)", tests, re.MULTILINE)
    return Trial(
        name=name,
        source=source,
        tests=tests,
        promises=tuple(Promise(each, "") for each in (found if promises is None else promises)),
        public_names=public_names,
        seed=seed,
    )


@pytest.fixture(scope="session", name="trial")
def _trial_fixture() -> Callable[..., Trial]:
    return _trial


@pytest.fixture(scope="session")
def unconfined() -> Iterator[Judge]:
    """A judge whose workers may do what any process may: what is left then is its own care."""
    with Judge(limits=QUICK, rung=Rung.P) as judge:
        yield judge


@pytest.fixture(scope="session")
def judged(judge: Judge) -> Callable[..., Verdict]:
    """Judge a text against tests: `judged(source, tests, public_names=..., ...)`."""

    def judged(source: str, tests: str, **known: object) -> Verdict:
        return judge.verdict(_trial(source, tests, **known))  # type: ignore[arg-type]

    return judged


class ThreadWorker:
    """The worker's own loop on a thread of this process: no process to start, none to kill."""

    def __init__(self) -> None:
        (read_fd, our_write), (our_read, write_fd) = os.pipe(), os.pipe()
        self.channel = Channel(our_read, our_write, message_bytes=QUICK.message_bytes)
        self._thread = threading.Thread(target=self._serve, args=(read_fd, write_fd))
        self._thread.start()

    def kill(self) -> None:
        self.channel.close()

    def end(self) -> None:
        self.kill()
        self._thread.join()
        sys.modules.pop("kit", None)

    def _serve(self, read_fd: int, write_fd: int) -> None:
        connection = Connection(read_fd, write_fd, message_bytes=QUICK.message_bytes)
        with suppress(OSError):
            Server(connection, message_bytes=QUICK.message_bytes).serve()
        os.close(read_fd)
        os.close(write_fd)


@contextmanager
def thread_worker() -> Iterator[ThreadWorker]:
    worker = ThreadWorker()
    try:
        yield worker
    finally:
        worker.end()


@pytest.fixture(scope="session")
def in_court() -> Callable[..., tuple[Ruling, list[Finding]]]:
    """Hold a trial in this process: the ruling, and how each promise fared."""

    def in_court(
        source: str, tests: str, *, limits: Limits = QUICK, **known: object
    ) -> tuple[Ruling, list[Finding]]:
        told = _trial(source, tests, **known)  # type: ignore[arg-type]
        task = Task(
            name=told.name,
            source=told.source,
            tests=told.tests,
            promises=tuple(promise.name for promise in told.promises),
            public_names=told.public_names,
            seed=told.seed,
        )
        found: list[Finding] = []
        with thread_worker() as worker:
            ruling = hold(task, worker, limits, begun=lambda _: None, ended=found.append)
        return ruling, found

    return in_court


@pytest.fixture(scope="session")
def kit_source() -> str:
    return (KIT / "kit.py").read_text("utf-8")


@pytest.fixture(scope="session")
def promises() -> str:
    """The promises of the kit that hold in this process and through the proxy alike."""
    return (KIT / "promises.py").read_text("utf-8")


@pytest.fixture(scope="session")
def proxy_promises() -> str:
    """The promises that need the judge's `subject`."""
    return (KIT / "proxy_promises.py").read_text("utf-8")
