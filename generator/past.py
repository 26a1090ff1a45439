"""Cut a log into its hunts; what is no event of ours, or is torn, is passed over."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .session import Hunt, fold

Event = Mapping[str, object]

_LATEST = 1e11
"""Seconds since the epoch that no clock shows for three thousand years."""
_MOST_MINUTES = 24 * 60
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Accusation:
    """A line that the candidate named while the hunt was open."""

    at: float
    line: int
    """Of the file as handed out."""
    because: str
    hit: bool


@dataclass(frozen=True, slots=True)
class Past:
    """One hunt of a log, from its start on."""

    events: tuple[Event, ...]
    """Each has a text `event` and a number `at` that a clock can show."""
    hunt: Hunt
    accusations: tuple[Accusation, ...]

    @property
    def over(self) -> bool:
        """Whether the hunt came to its end, so that nothing can be spoiled any more."""
        return self.ended is not None

    @property
    def ended(self) -> float | None:
        """When the file was fixed or the answer shown, whichever came first."""
        ends = [at for at in (self.hunt.solved, self.hunt.revealed) if at is not None]
        return min(ends, default=None)


def hunts(events: Iterable[Event], *, minutes: int, now: float) -> tuple[Past, ...]:
    """Return the hunts of a log in their order; `minutes` is for one that does not say its own."""
    parts: list[list[Event]] = []
    for event in events:
        if not _is_whole(event):
            continue
        if event["event"] == "started":
            parts.append([])
        if parts:
            parts[-1].append(event)
    return tuple(_past(part, minutes, now) for part in parts)


def plain(text: str) -> str:
    """Return a text that neither steers a terminal nor fails to be written: it is anyone's."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def clock_time(event: Event) -> float:
    """Return when a whole event was."""
    at = event["at"]
    assert isinstance(at, int | float)
    return float(at)


def _is_whole(event: Event) -> bool:
    match event:
        case {"event": str(), "at": int() | float() as at}:
            return 0 <= at < _LATEST
    return False


def _past(events: Sequence[Event], minutes: int, now: float) -> Past:
    match events[0]:
        case {"minutes": int(own)} if 0 < own <= _MOST_MINUTES:
            minutes = own
    hunt = fold(events, minutes=minutes, now=now)
    past = Past(tuple(events), hunt, ())
    named = [_accusation(event) for event in events]
    open_until = past.ended if past.ended is not None else math.inf
    return Past(past.events, hunt, tuple(each for each in named if each and each.at <= open_until))


def _accusation(event: Event) -> Accusation | None:
    match event:
        case {"event": "accused", "line": int(line), "because": str(because), "hit": bool(hit)}:
            return Accusation(clock_time(event), line, because, hit)
    return None
