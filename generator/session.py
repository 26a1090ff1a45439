"""The half hour: a log of events per puzzle folder, and what it says of the hunt.

A log is a file of JSON lines, one event each, only ever appended to. A torn last line (the machine
went down) is passed over, so a kill loses one event at the most. The clock is the wall's: it runs
on while halfhour does not, but for a pause, which practice allows.

    started   minutes, and where they were asked for base and extra (percent)
    saved     digest, and text unless it is large or the log is full: the candidate's file
    ran       passed, failed, seconds: the visible tests
    checked   verdict, kept, promises
    accused   line, because, hit
    hinted    step, and cost in points · revealed · reset · paused · resumed
    recording on: whether saves and runs are noted, as the candidate was told

Every event has its time `at`, in seconds since the epoch.
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
from .messages import tr
from .records import Answer, Puzzle, Verdict, VerdictKind, digest

Clock = Callable[[], float]
"""Seconds since the epoch."""

_MOST_LOG = 8 * 1024 * 1024
_MOST_TEXT = 128 * 1024
_MOST_LOG_WITH_TEXTS = 4 * 1024 * 1024
"""A log of this size takes no further texts, so that the clock always finds room."""
MOST_MINUTES = 24 * 60
_WORK = frozenset({"checked", "hinted", "revealed", "reset", "saved", "ran", "accused"})
"""Whoever does one of these while the clock rests lets it run on."""


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
    paused: float | None = None
    """Since when the clock rests."""
    rested: float = 0.0
    """Seconds that the clock rested before that."""
    recording: bool | None = None
    """Whether saves and runs are noted; None where the candidate was not told yet."""

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
        """Seconds from the start to the end of the hunt, or to now, less the pauses."""
        if self.started is None:
            return 0.0
        ends = [at for at in (self.solved, self.revealed, self.paused) if at is not None]
        return max(0.0, min([self.now, *ends]) - self.started - self.rested)

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
        self._size = -1
        self._events = self._load()

    @property
    def hunt(self) -> Hunt:
        """Return the hunt as of now."""
        return fold(self._events, minutes=self._puzzle.minutes, now=self._clock())

    @property
    def events(self) -> tuple[Mapping[str, object], ...]:
        """Return every event of the log in its order, those of earlier hunts too."""
        return tuple(self._events)

    def record(self, event: str, **facts: object) -> None:
        """Note what has no method of its own; facts are plain JSON values."""
        self._append(event, **facts)

    @property
    def path(self) -> Path:
        """Where the log is."""
        return self._path

    def refresh(self) -> None:
        """Take in what others appended since; nothing is lost where the log cannot be kept."""
        if self.note is not None:
            return
        try:
            size = self._path.stat().st_size
        except OSError:
            return
        if size != self._size:
            self._size = size
            self._events = self._load()

    def start(self, *, minutes: int | None = None, extra: int = 0) -> None:
        """Begin a new hunt: what the log says of an earlier one in the same folder is history.

        `extra` is a percentage of the minutes, which are the puzzle's own if none are given.
        """
        base = self._puzzle.minutes if minutes is None else minutes
        asked = {"base": base, "extra": extra} if minutes is not None or extra else {}
        self._append(
            "started",
            puzzle=self._puzzle.id,
            folder=str(self._folder),
            minutes=allowance(base, extra),
            **asked,
        )

    def ensure_started(self, *, minutes: int | None = None, extra: int = 0) -> None:
        """Start the clock of a puzzle that came without `new`: its first use starts it."""
        if self.hunt.started is None:
            self.start(minutes=minutes, extra=extra)

    def pause(self) -> None:
        """Let the clock rest until `resume`, or until the candidate works on."""
        self._append("paused")

    def resume(self) -> None:
        """Let the clock run on."""
        self._append("resumed")

    def record_saves(self, on: bool) -> None:
        """Note that the candidate was told whether saves and runs are noted."""
        self._append("recording", on=on)

    def saved(self, text: str) -> None:
        """Note what the candidate's file holds now."""
        facts: dict[str, object] = {"digest": digest(text)}
        with suppress(OSError):
            full = self._path.is_file() and self._path.stat().st_size > _MOST_LOG_WITH_TEXTS
            if not full and len(text.encode("utf-8")) <= _MOST_TEXT:
                facts["text"] = text
        self._append("saved", **facts)

    def ran(self, passed: int, failed: int, seconds: float) -> None:
        """Note how the visible tests fared."""
        self._append("ran", passed=passed, failed=failed, seconds=round(seconds, 3))

    def knows(self, text: str) -> bool:
        """Tell whether the file holding this text is no news: its last save, or as handed out."""
        last = digest(self._puzzle.source)
        for event in self._events:
            match event:
                case {"event": "started"}:
                    last = digest(self._puzzle.source)
                case {"event": "saved", "digest": str(found)}:
                    last = found
        return last == digest(text)

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
            self._cannot(tr("the log {path} cannot be read ({why})", **self._why(error)))
            return []

    def _append(self, event: str, **facts: object) -> None:
        line = {"event": event, "at": round(self._clock(), 3), **facts}
        self._events.append(line)
        try:
            _append_line(self._path, json.dumps(line))
        except OSError as error:
            self._cannot(tr("the log {path} cannot be written to ({why})", **self._why(error)))

    def _why(self, error: OSError) -> dict[str, object]:
        return {"path": self._path, "why": error.strerror or type(error).__name__}

    def _cannot(self, what: str) -> None:
        self.note = tr(
            "{what}: the clock and the hints are not remembered; set HALFHOUR_HOME to a folder of"
            " yours",
            what=what,
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


def costs(answer: Answer) -> tuple[int, ...]:
    """Return what each step of the ladder costs: 1, 2, 4 and so on; of several bugs alike."""
    rungs = max((len(bug.hints) for bug in answer.bugs), default=0)
    return tuple(2**rung for rung in range(rungs) for b in answer.bugs if rung < len(b.hints))


def allowance(minutes: int, extra: int = 0) -> int:
    """Return the minutes with so many percent more, a part of a minute counted whole."""
    return -(-minutes * (100 + extra) // 100)


def fold(events: Iterable[Mapping[str, object]], *, minutes: int, now: float) -> Hunt:
    """Return the hunt that the events tell of; an event of another kind or shape is passed over.

    The minutes are those that the start was given, else the ones given here.
    """
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
    if hunt.paused is not None and event["event"] in _WORK:
        hunt = _resumed(hunt, at)
    match event:
        case {"event": "started", "minutes": int(minutes)} if 0 < minutes <= MOST_MINUTES:
            return Hunt(minutes=minutes, now=hunt.now, started=at)
        case {"event": "started"}:
            return Hunt(minutes=hunt.minutes, now=hunt.now, started=at)
        case {"event": "paused"} if hunt.is_open and hunt.paused is None:
            return replace(hunt, paused=at)
        case {"event": "resumed"}:
            return _resumed(hunt, at)
        case {"event": "recording", "on": bool(on)}:
            return replace(hunt, recording=on)
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


def _resumed(hunt: Hunt, at: float) -> Hunt:
    if hunt.paused is None:
        return hunt
    return replace(hunt, paused=None, rested=hunt.rested + max(0.0, at - hunt.paused))


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
