"""Processes of this machine that judge: an Executor that leaves nobody behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from . import work

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def processes(jobs: int, materials: Sequence[work.Material]) -> Iterator[ProcessPoolExecutor]:
    """Give `jobs` processes that have learnt the materials.

    They end with the context, and at once if it ends by an exception or if this process is killed.
    """
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = _Pool(jobs, mp_context=context, initializer=_begin, initargs=(theirs, tuple(materials)))
    try:
        yield pool
        pool.shutdown(wait=True, cancel_futures=True)
    finally:
        ours.close()
        pool.shutdown(wait=True, cancel_futures=True)
        theirs.close()


class _Pool(ProcessPoolExecutor):
    """Starts its processes deaf to Ctrl-C, which is ours, and sends no material twice."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        lighter = [work.by_digest(a) if isinstance(a, work.UnitRequest) else a for a in args]
        with _no_interrupt():
            return super().submit(fn, *lighter, **kwargs)  # type: ignore[arg-type]


@contextmanager
def _no_interrupt() -> Iterator[None]:
    """Block SIGINT; a process that is started meanwhile keeps it blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(lifeline: Connection, materials: Sequence[work.Material]) -> None:
    """Get ready in a new process."""
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    work.learn(materials)


def _end_with(lifeline: Connection) -> None:
    """End this process when the other end is closed; the judge's processes end with it."""
    lifeline.poll(None)
    os._exit(1)
