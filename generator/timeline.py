"""What a log tells of one hunt, moment by moment; of one that is open nothing that spoils it."""

from __future__ import annotations

from dataclasses import dataclass

from . import textdiff
from .messages import tr, verdict
from .past import Event, Past, clock_time, plain
from .records import Puzzle

_MOST_DIFF_LINES = 400


@dataclass(frozen=True, slots=True)
class Moment:
    """One event, in words."""

    seconds: float
    """Since the start."""
    kind: str
    """The name of the event in the log."""
    words: str
    diff: str = ""
    """Of a save: what changed since the one before."""
    good: bool = False
    """A run, a check or a proof without a failure, or an accusation that is told to have hit."""

    @property
    def name(self) -> str:
        """The name of the event in the reader's language."""
        return _names().get(self.kind, self.kind)


def moments(puzzle: Puzzle, past: Past) -> tuple[Moment, ...]:
    """Return what happened, in order; a save that changed nothing is no moment."""
    found: list[Moment] = []
    start = clock_time(past.events[0])
    text = puzzle.source
    for event in past.events:
        diff = ""
        match event:
            case {"event": "saved", "text": str(saved)}:
                saved = plain(saved)
                diff = _cut(textdiff.unified(text, saved, puzzle.file_name))
                text = saved
                if not diff:
                    continue
            case {"event": "reset"}:
                text = puzzle.source
        words = _words(event, past)
        if words is not None:
            seconds = max(0.0, clock_time(event) - start)
            kind, good = str(event["event"]), _is_good(event, past)
            found.append(Moment(seconds, kind, words, diff, good))
    return tuple(found)


def end_of(past: Past) -> str:
    """Say in a few words how the hunt stands."""
    hunt = past.hunt
    if hunt.solved is not None:
        return tr("solved after the bell") if hunt.late else tr("solved")
    return tr("revealed") if hunt.revealed is not None else tr("open")


def clock_words(seconds: float) -> str:
    """Return minutes and seconds, and hours where there are any."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _words(event: Event, past: Past) -> str | None:
    """Return what an event says; None where it is of another kind or shape."""
    match event:
        case {"event": "started"}:
            return tr("{all} minutes", all=past.hunt.minutes)
        case {"event": "saved", "text": str()}:
            return tr("the file was saved")
        case {"event": "saved", "digest": str()}:
            return tr("the file was saved; its text was not kept")
        case {"event": "ran", "passed": int(passed), "failed": int(failed)}:
            return tr("{passed} passed, {failed} failed", passed=passed, failed=failed)
        case {
            "event": "checked",
            "verdict": str(found),
            "kept": int(kept),
            "promises": int(promises),
        }:
            name = verdict(plain(found))
            if not promises:
                return name
            return tr(
                "{verdict}, {kept} of {all} promises kept", verdict=name, kept=kept, all=promises
            )
        case {"event": "hinted", "step": int(step)}:
            return tr("step {step}", step=step)
        case {"event": "accused", "line": int(line), "because": str(because), "hit": bool(hit)}:
            return _accused(line, hit if _is_told(event, past) else None, plain(because))
        case {"event": "proved", "test": str(test), "holds": True}:
            return tr("{test} holds", test=plain(test))
        case {"event": "proved", "test": str(test), "holds": False}:
            return tr("{test} does not hold", test=plain(test))
        case {"event": "reset"}:
            return tr("the file was put back as handed out")
        case {"event": "revealed"}:
            return tr("the answer was shown")
        case {"event": "paused"}:
            return tr("the clock stands")
        case {"event": "resumed"}:
            return tr("the clock runs on")
        case {"event": "recording", "on": bool(on)}:
            return tr("saves and runs are noted") if on else tr("saves and runs are not noted")
    return None


def _accused(line: int, hit: bool | None, because: str) -> str:
    if hit is None:
        text = tr("line {line}", line=line)
    elif hit:
        text = tr("line {line} (hit)", line=line)
    else:
        text = tr("line {line} (missed)", line=line)
    return f"{text}: {because}" if because else text


def _is_told(event: Event, past: Past) -> bool:
    return past.over or event.get("told") is True


def _is_good(event: Event, past: Past) -> bool:
    match event:
        case (
            {"event": "checked", "verdict": "fixed"}
            | {"event": "ran", "failed": 0}
            | {"event": "proved", "holds": True}
        ):
            return True
        case {"event": "accused", "hit": True}:
            return _is_told(event, past)
    return False


def _names() -> dict[str, str]:
    return {
        "started": tr("started"),
        "saved": tr("saved"),
        "ran": tr("ran"),
        "checked": tr("checked"),
        "hinted": tr("hinted"),
        "accused": tr("accused"),
        "proved": tr("proved"),
        "reset": tr("reset"),
        "revealed": tr("revealed"),
        "paused": tr("paused"),
        "resumed": tr("resumed"),
        "recording": tr("recording"),
    }


def _cut(diff: str) -> str:
    lines = diff.split("\n")
    if len(lines) <= _MOST_DIFF_LINES:
        return diff
    left_out = len(lines) - _MOST_DIFF_LINES
    return "\n".join([*lines[:_MOST_DIFF_LINES], f"\\ {left_out} more lines of this diff\n"])
