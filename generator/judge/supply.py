"""Where workers come from: one at a time, or many forked from one that has imported torch."""

from __future__ import annotations

import time

from ..errors import JudgeError
from . import nursery, reaper
from .devices import CPU
from .launch import Worker, start_worker
from .limits import Limits
from .nursery import Nursery
from .rungs import Rung


class Supply:
    """Gives every trial a fresh worker and ends it afterwards with all it started.

    With `many` trials to come, workers are forked where the machine can do that; elsewhere the next
    one imports torch while one works.
    """

    def __init__(self, limits: Limits, rung: Rung, *, device: str, many: bool) -> None:
        self._limits = limits
        self._rung = rung
        self._device = device
        self._ahead = many
        self._forks = many and device == CPU and nursery.available(rung)
        self._nursery: Nursery | None = None
        self._spare: Worker | None = None
        self._working: Worker | None = None

    def prepare(self) -> None:
        """Have the next worker import torch, unless one has or does."""
        if self._forks:
            if self._nursery is not None and self._nursery.has_ended():
                self._nursery.close()
                self._nursery = None
            if self._nursery is None:
                self._nursery = Nursery(self._limits, self._rung)
            return
        if self._spare is not None and self._spare.child.has_ended():
            self._spare.child.close()  # it did not live to its trial
            self._spare = None
        if self._spare is None:
            self._spare = start_worker(self._limits, self._rung, device=self._device)

    def take(self) -> Worker:
        """Return a worker that has imported torch. Raises JudgeError."""
        self.prepare()
        if self._nursery is not None:
            self._working = self._nursery.fork()
        else:
            self._working, self._spare = self._spare, None
        assert self._working is not None
        self._working.wait_until_ready(deadline=time.monotonic() + self._limits.start_s)
        if self._ahead:
            self.prepare()
        return self._working

    def put_away(self) -> None:
        """End the worker that was taken."""
        if self._working is not None:
            worker, self._working = self._working, None
            try:
                worker.child.close()
            except JudgeError:  # the nursery is gone, and its children with it
                self._drop_nursery()
        reaper.kill_orphans(spare=self._waiting())

    def kill(self) -> None:
        """End every worker, from whatever thread, just before this process ends itself."""
        for worker in (self._working, self._spare):
            if worker is not None:
                reaper.kill_group(worker.child.pid)
        if self._nursery is not None:
            self._nursery.kill()
        reaper.kill_orphans(spare=set())

    def _waiting(self) -> set[int]:
        spare = {self._spare.child.pid} if self._spare is not None else set()
        return spare | ({self._nursery.pid} if self._nursery is not None else set())

    def _drop_nursery(self) -> None:
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None
