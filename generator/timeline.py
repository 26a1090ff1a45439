"""What a log tells of one hunt, moment by moment; of one that is open nothing that spoils it."""

from __future__ import annotations

from dataclasses import dataclass

from . import textdiff
from .past import Event, Past, clock_time, plain
from .records import Puzzle

_MOST_DIFF_LINES = 400


@dataclass(frozen=True, slots=True)
class Moment:
    """One event, in words."""

    seconds: float
    """Since the start."""
    kind: str
    """The name of the event."""
    words: str
    diff: str = ""
    """Of a save: what changed since the one before."""


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
            found.append(Moment(seconds, str(event["event"]), words, diff))
    return tuple(found)


def end_of(past: Past) -> str:
    """Say in a few words how the hunt stands."""
    hunt = past.hunt
    if hunt.solved is not None:
        return "solved after the bell" if hunt.late else "solved"
    return "revealed" if hunt.revealed is not None else "open"


def clock_words(seconds: float) -> str:
    """Return minutes and seconds, and hours where there are any."""
    whole = int(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _words(event: Event, past: Past) -> str | None:
    """Return what an event says; None where it is of another kind or shape."""
    match event:
        case {"event": "started"}:
            return f"{past.hunt.minutes} minutes"
        case {"event": "saved", "text": str()}:
            return "the file was saved"
        case {"event": "saved", "digest": str()}:
            return "the file was saved; its text was not kept"
        case {"event": "ran", "passed": int(passed), "failed": int(failed)}:
            return f"{passed} passed, {failed} failed"
        case {
            "event": "checked",
            "verdict": str(verdict),
            "kept": int(kept),
            "promises": int(promises),
        }:
            name = plain(verdict).replace("_", " ")
            return f"{name}, {kept} of {promises} promises kept" if promises else name
        case {"event": "hinted", "step": int(step)}:
            return f"step {step}"
        case {"event": "accused", "line": int(line), "because": str(because), "hit": bool(hit)}:
            told = past.over or event.get("told") is True
            end = f" ({'hit' if hit else 'missed'})" if told else ""
            return f"line {line}{end}" + (f": {plain(because)}" if because else "")
        case {"event": "proved", "test": str(test), "holds": bool(holds)}:
            return f"{plain(test)} {'holds' if holds else 'does not hold'}"
        case {"event": "reset"}:
            return "the file was put back as handed out"
        case {"event": "revealed"}:
            return "the answer was shown"
        case {"event": "paused"}:
            return "the clock stands"
        case {"event": "resumed"}:
            return "the clock runs on"
        case {"event": "recording", "on": bool(on)}:
            return "saves and runs are noted" if on else "saves and runs are not noted"
    return None


def _cut(diff: str) -> str:
    lines = diff.split("\n")
    if len(lines) <= _MOST_DIFF_LINES:
        return diff
    left_out = len(lines) - _MOST_DIFF_LINES
    return "\n".join([*lines[:_MOST_DIFF_LINES], f"\\ {left_out} more lines of this diff\n"])
