"""The half hour: a log of events per puzzle folder, and what it says of the hunt.

A log is a file of JSON lines, one event each, only ever appended to. A torn last line (the machine
went down) is passed over, so a kill loses one event at the most. The clock is the wall's: it runs
on while halfhour does not.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from . import places, store
from .records import Answer, Puzzle, Verdict, VerdictKind, digest

Clock = Callable[[], float]
"""Seconds since the epoch."""

_MOST_LOG = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Check:
    """What one `check` found."""

    at: float
    verdict: VerdictKind
    kept: int
    promises: int


@dataclass(frozen=True, slots=True)
class Hunt:
    """All that the log says, as of `now`."""

    minutes: int
    now: float
    started: float | None = None
    checks: tuple[Check, ...] = ()
    hints: int = 0
    """Steps of the ladder that were asked for."""
    revealed: float | None = None
    resets: int = 0
    latest: float = 0.0
    """When the last event was."""

    @property
    def solved(self) -> float | None:
        """When the file was first found fixed; never after the reveal."""
        fixed = (check.at for check in self.checks if check.verdict is VerdictKind.FIXED)
        first = next(fixed, None)
        shown_before = self.revealed is not None and first is not None and self.revealed < first
        return None if shown_before else first

    @property
    def is_open(self) -> bool:
        """Whether there is still something to hunt."""
        return self.started is not None and self.solved is None and self.revealed is None

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end of the hunt, or to now; 0 before the start."""
        if self.started is None:
            return 0.0
        ends = [at for at in (self.solved, self.revealed) if at is not None]
        return max(0.0, min([self.now, *ends]) - self.started)

    @property
    def remaining(self) -> float:
        """Seconds until the bell; 0 after it."""
        return max(0.0, self.minutes * 60 - self.elapsed)

    @property
    def late(self) -> bool:
        """Whether the bell rang before the hunt ended."""
        return self.elapsed > self.minutes * 60


class Session:
    """The log of one puzzle folder.

    A state folder that cannot be written to stops nothing: events are kept for as long as this
    object lives and `note` says so in one sentence.
    """

    def __init__(
        self,
        folder: Path,
        puzzle: Puzzle,
        *,
        clock: Clock = time.time,
        state_dir: Path | None = None,
    ) -> None:
        self._folder = folder.resolve()
        self._puzzle = puzzle
        self._clock = clock
        logs = _logs(state_dir)
        self._path = logs / f"{puzzle.id}-{digest(str(self._folder))[:12]}.jsonl"
        self.note: str | None = None
        self._events = self._load()

    @property
    def hunt(self) -> Hunt:
        """Return the hunt as of now."""
        return fold(self._events, minutes=self._puzzle.minutes, now=self._clock())

    def start(self) -> None:
        """Begin a new hunt: what the log says of an earlier one in the same folder is history."""
        self._append(
            "started",
            puzzle=self._puzzle.id,
            folder=str(self._folder),
            minutes=self._puzzle.minutes,
        )

    def ensure_started(self) -> None:
        """Start the clock of a puzzle that came without `new`: its first use starts it."""
        if self.hunt.started is None:
            self.start()

    def checked(self, verdict: Verdict) -> None:
        """Note what a check found."""
        kept = sum(result.kept for result in verdict.results)
        self._append("checked", verdict=str(verdict.kind), kept=kept, promises=len(verdict.results))

    def hinted(self, step: int) -> None:
        """Note that the ladder was climbed to this step (from 1)."""
        self._append("hinted", step=step)

    def revealed(self) -> None:
        """Note that the answer was shown."""
        self._append("revealed")

    def reset(self) -> None:
        """Note that the file was put back."""
        self._append("reset")

    def _load(self) -> list[dict[str, object]]:
        try:
            return read_log(self._path)
        except OSError as error:
            self._cannot("read", error)
            return []

    def _append(self, event: str, **facts: object) -> None:
        line = {"event": event, "at": round(self._clock(), 3), **facts}
        self._events.append(line)
        try:
            _append_line(self._path, json.dumps(line))
        except OSError as error:
            self._cannot("written to", error)

    def _cannot(self, verb: str, error: OSError) -> None:
        why = error.strerror or type(error).__name__
        self.note = (
            f"the log {self._path} cannot be {verb} ({why}): the clock and the hints are not"
            " remembered; set HALFHOUR_HOME to a folder of yours"
        )


def current(
    *, under: Path | None = None, clock: Clock = time.time, state_dir: Path | None = None
) -> Path | None:
    """Return the folder of the open hunt that was touched last, if any still exists.

    `under` asks only for folders below that one.
    """
    found: list[tuple[float, Path]] = []
    for folder, hunt in _hunts(clock, state_dir):
        below = under is None or folder.is_relative_to(under.resolve())
        if below and hunt.is_open and store.is_puzzle(folder):
            found.append((hunt.latest, folder))
    return max(found)[1] if found else None


def latest(*, clock: Clock = time.time, state_dir: Path | None = None) -> Path | None:
    """Return the folder of the hunt that was touched last, open or not, if any still exists."""
    hunts = _hunts(clock, state_dir)
    found = [(hunt.latest, folder) for folder, hunt in hunts if store.is_puzzle(folder)]
    return max(found)[1] if found else None


def ladder(answer: Answer) -> tuple[str, ...]:
    """Return the hints from far to near; with several bugs, one rung of each in turn."""
    rungs = max((len(bug.hints) for bug in answer.bugs), default=0)
    return tuple(
        bug.hints[rung] if len(answer.bugs) == 1 else f"Bug {n}: {bug.hints[rung]}"
        for rung in range(rungs)
        for n, bug in enumerate(answer.bugs, start=1)
        if rung < len(bug.hints)
    )


def fold(events: Iterable[Mapping[str, object]], *, minutes: int, now: float) -> Hunt:
    """Return the hunt that the events tell of; an event of another kind or shape is passed over."""
    hunt = Hunt(minutes=minutes, now=now)
    for event in events:
        match event:
            case {"event": str(), "at": int() | float() as at}:
                hunt = replace(_after(hunt, event, float(at)), latest=float(at))
    return hunt


def read_log(path: Path) -> list[dict[str, object]]:
    """Return the whole lines of a log that are JSON objects. Raises OSError, never for absence."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        data = file.read(_MOST_LOG)
    events = []
    for line in data.split(b"\n"):
        with suppress(ValueError, RecursionError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events


def _after(hunt: Hunt, event: Mapping[str, object], at: float) -> Hunt:
    match event:
        case {"event": "started"}:
            return Hunt(minutes=hunt.minutes, now=hunt.now, started=at)
        case {
            "event": "checked",
            "verdict": str(verdict),
            "kept": int(kept),
            "promises": int(promises),
        } if verdict in set(VerdictKind):
            check = Check(at, VerdictKind(verdict), kept, promises)
            return replace(hunt, checks=(*hunt.checks, check))
        case {"event": "hinted", "step": int(step)}:
            return replace(hunt, hints=max(hunt.hints, step))
        case {"event": "revealed"}:
            return replace(hunt, revealed=hunt.revealed if hunt.revealed is not None else at)
        case {"event": "reset"}:
            return replace(hunt, resets=hunt.resets + 1)
    return hunt


def _hunts(clock: Clock, state_dir: Path | None) -> list[tuple[Path, Hunt]]:
    """Return every hunt that was logged; a log that cannot be read is passed over."""
    found = []
    with suppress(OSError):
        for path in sorted(_logs(state_dir).glob("*.jsonl")):
            with suppress(OSError):
                events = read_log(path)
                match [event for event in events if event.get("event") == "started"]:
                    case [*_, {"folder": str(folder), "minutes": int(minutes)}]:
                        hunt = fold(events, minutes=minutes, now=clock())
                        found.append((Path(folder), hunt))
    return found


def _logs(state_dir: Path | None) -> Path:
    return (state_dir if state_dir is not None else places.state_dir()) / "hunts"


def _append_line(path: Path, line: str) -> None:
    """Append one line in one write and see it to the disk; a torn line before it is closed."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(handle).st_size
        torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        os.write(handle, (("\n" if torn else "") + line + "\n").encode("utf-8"))
        os.fsync(handle)
    finally:
        os.close(handle)
