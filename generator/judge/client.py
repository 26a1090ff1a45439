"""What the rest of the machine calls. Imports neither torch nor pytest: the court does."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from ..errors import EnvironmentFault, JudgeError
from ..records import Outcome, Promise, PromiseResult, Trial, Verdict, VerdictKind
from . import devices
from .court_process import CourtProcess, RulingLate
from .limits import PRACTICE, Limits
from .protection import rung_here
from .rungs import Rung

_NEEDED = ("torch", "numpy", "pytest")


class Judge:
    """Judges files, one at a time, each in a process of its own; a context manager.

    The first verdict starts the court, which stays for the next. `many` is for a caller with
    many trials: workers are then forked where that can be done. Raises EnvironmentFault where it
    cannot work at all. Without a `rung` the worker is confined as strongly as this machine allows.
    `device` is `cpu`, `cuda` or `auto`.
    """

    def __init__(
        self,
        *,
        device: str = devices.CPU,
        limits: Limits = PRACTICE,
        many: bool = False,
        rung: Rung | None = None,
    ) -> None:
        for name in _NEEDED:
            if find_spec(name) is None:
                raise EnvironmentFault(
                    f"{name} is not installed; install it with: pip install {name}"
                )
        self._device = devices.resolve(device)
        self._limits = limits
        self._many = many
        self._rung = rung
        self._court: CourtProcess | None = None
        self._closed = threading.Event()
        self._busy = threading.Lock()

    @property
    def device(self) -> str:
        """Where the submissions work: `cpu` or `cuda`."""
        return self._device

    def verdict(self, trial: Trial) -> Verdict:
        """Judge one file. Never raises for anything the file does.

        Raises JudgeError after `close`.
        """
        with self._busy:
            if self._closed.is_set():
                raise JudgeError("the judge is closed")
            begun = time.perf_counter()
            hearing = _Hearing(trial)
            try:
                self._hear(trial, hearing)
            except RulingLate:
                hearing.cut_short(self._limits)
                self._end_court()
            except JudgeError as error:
                hearing.rule(VerdictKind.ENVIRONMENT, str(error))
                self._end_court()
            except BaseException:  # Ctrl-C: whatever runs must end before the caller goes on
                self._end_court()
                raise
            if self._closed.is_set():  # what the court said while it was being ended says nothing
                hearing.rule(VerdictKind.ENVIRONMENT, "the judge was closed while it worked")
            return hearing.verdict(self._device, time.perf_counter() - begun)

    def close(self) -> None:
        """End the court and its workers. From another thread, a verdict in progress ends too."""
        self._closed.set()
        court = self._court
        if court is not None:
            court.end()
        with self._busy:
            self._end_court()

    def __enter__(self) -> Judge:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _hear(self, trial: Trial, hearing: _Hearing) -> None:
        if self._court is None:
            rung = self._rung or rung_here(self._device)
            self._court = CourtProcess(self._limits, rung, device=self._device, many=self._many)
        for event in self._court.hold(trial):
            hearing.note(event)

    def _end_court(self) -> None:
        if self._court is not None:
            self._court.close()
            self._court = None


@dataclass(slots=True)
class _Hearing:
    """What the court has told of a trial so far."""

    trial: Trial
    rung: str = "process"
    current: str | None = None
    found: dict[str, tuple[Outcome, str]] = field(default_factory=dict)
    kind: VerdictKind = VerdictKind.ENVIRONMENT
    reason: str = ""

    def note(self, event: dict[str, Any]) -> None:
        """Take down an event."""
        match event:
            case {"event": "begun", "rung": str(rung)}:
                self.rung = rung
            case {"event": "promise_begun", "name": str(name)}:
                self.current = name
            case {"event": "promise_ended", "name": name, "outcome": outcome, "detail": detail}:
                self.found[str(name)] = (Outcome(outcome), str(detail))
                self.current = None
            case {"event": "ruling", "kind": kind, "reason": reason}:
                self.rule(VerdictKind(kind), str(reason))

    def rule(self, kind: VerdictKind, reason: str) -> None:
        """Take down the ruling; a file is fixed only if every promise was seen to be kept."""
        kept = all(result.kept for result in self._results()) and bool(self.trial.promises)
        if kind is VerdictKind.FIXED and not kept:
            kind, reason = VerdictKind.ENVIRONMENT, "the judge contradicts itself"
        self.kind, self.reason = kind, reason

    def cut_short(self, limits: Limits) -> None:
        """Rule for a court that did not."""
        if self.current is not None:
            self.found[self.current] = (Outcome.TIMED_OUT, "")
            where = f" in {self.current}"
            self.rule(
                VerdictKind.NOT_FIXED,
                f"the promises together take longer than {limits.verdict_s:g} s{where}, and"
                " nothing after it was reached",
            )
        else:
            self.rule(VerdictKind.ENVIRONMENT, "the judge did not come to a ruling in time")

    def verdict(self, device: str, seconds: float) -> Verdict:
        """Return the verdict as the court ruled."""
        told = self.kind in (VerdictKind.FIXED, VerdictKind.NOT_FIXED)
        return Verdict(
            kind=self.kind,
            reason=self.reason,
            results=self._results() if told else (),
            device=device,
            rung=self.rung,
            seed=self.trial.seed,
            seconds=seconds,
        )

    def _results(self) -> tuple[PromiseResult, ...]:
        return tuple(self._result(promise) for promise in self.trial.promises)

    def _result(self, promise: Promise) -> PromiseResult:
        outcome, detail = self.found.get(promise.name, (Outcome.NOT_REACHED, ""))
        return PromiseResult(promise, outcome, detail)
