"""What a person's own hunts say of them, over all logs: where they are strong, what comes next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from . import past, places, session, store
from .errors import HalfhourError
from .records import Answer, Puzzle, digest

UNKNOWN = "unknown"
"""The topic of a hunt whose puzzle is gone and whose log does not say it."""

_MINUTES = 30
_UNTRIED = 0.5
_LATE = 0.5
_HINT = 0.15


@dataclass(frozen=True, slots=True)
class Hunted:
    """One hunt of the record."""

    topic: str
    level: int
    """0 where it is not known."""
    bugs: frozenset[str]
    """A digest per bug: of its subject and its mutator."""
    over: bool
    solved: bool
    late: bool
    seconds: float
    hints: int
    accusations: int
    right_at_first: bool | None
    """Whether the first accusation hit; None where there was none."""

    @property
    def points(self) -> float:
        """From 0, not solved, to 1: solved before the bell without a hint."""
        if not self.solved:
            return 0.0
        return max(0.1, (_LATE if self.late else 1.0) - _HINT * self.hints)


@dataclass(frozen=True, slots=True)
class Row:
    """Some hunts that are over, counted."""

    name: str
    hunts: int
    solved: int
    median_seconds: float | None
    """Of those that were solved."""
    hints: int
    accused: int
    """Hunts with an accusation."""
    right_at_first: int
    strength: float
    """From 0 to 1; few hunts say little, so it starts in the middle."""


def about(puzzle: Puzzle, answer: Answer) -> dict[str, object]:
    """Return the facts of the log's event `about`: what is still known when the folder is gone."""
    return {
        "subject": puzzle.subject,
        "topic": answer.bugs[0].topic if answer.bugs else UNKNOWN,
        "level": puzzle.level,
        "bugs": sorted(bug_digest(puzzle.subject, bug.mutator) for bug in answer.bugs),
    }


def bug_digest(subject: str, mutator: str) -> str:
    """Name a bug in a file without spelling it out."""
    return digest("bug", subject, mutator)[:16]


def read(*, state_dir: Path | None = None, now: float | None = None) -> tuple[Hunted, ...]:
    """Return every hunt of every log; a log that cannot be read is passed over."""
    logs = (state_dir if state_dir is not None else places.state_dir()) / "hunts"
    now = time.time() if now is None else now
    found: list[Hunted] = []
    with suppress(OSError):
        for path in sorted(logs.glob("*.jsonl")):
            with suppress(OSError):
                events = session.read_log(path)
                found += map(_hunted, past.hunts(events, minutes=_MINUTES, now=now))
    return tuple(found)


def by_topic(record: Iterable[Hunted]) -> tuple[Row, ...]:
    """Return a row per topic, by name; hunts that are open spoil nothing: they are not counted."""
    return _rows([hunted for hunted in record if hunted.over], lambda hunted: hunted.topic)


def by_level(record: Iterable[Hunted]) -> tuple[Row, ...]:
    """Return a row per level; hunts that are open are not counted."""
    known = [hunted for hunted in record if hunted.over and hunted.level]
    return _rows(known, lambda hunted: str(hunted.level))


def altogether(record: Iterable[Hunted]) -> Row:
    """Return all hunts that are over in one row."""
    return _row("all", [hunted for hunted in record if hunted.over])


def met(record: Iterable[Hunted]) -> frozenset[str]:
    """Return the digests of all bugs that were met, those of open hunts too."""
    return frozenset().union(*(hunted.bugs for hunted in record))


def to_practise(record: Iterable[Hunted], topics: Sequence[str], seed: int = 0) -> list[str]:
    """Return the topics, the weakest first; those never tried stand between weak and strong.

    Equals come in the seed's order.
    """
    strength = {row.name: row.strength for row in by_topic(record)}
    return sorted(
        topics, key=lambda topic: (strength.get(topic, _UNTRIED), digest(str(seed), topic))
    )


def _hunted(each: past.Past) -> Hunted:
    facts = _facts(each.events)
    first = each.accusations[0].hit if each.accusations else None
    return Hunted(
        topic=_text(facts.get("topic")) or UNKNOWN,
        level=_level(facts.get("level")),
        bugs=_digests(facts.get("bugs")),
        over=each.over,
        solved=each.hunt.solved is not None,
        late=each.hunt.late,
        seconds=each.hunt.elapsed,
        hints=each.hunt.hints,
        accusations=len(each.accusations),
        right_at_first=first,
    )


def _facts(events: Sequence[past.Event]) -> Mapping[str, object]:
    for event in events:
        if event["event"] == "about":
            return event
    match events[0]:
        case {"folder": str(folder), "puzzle": str(name)}:
            with suppress(HalfhourError, OSError, ValueError):
                puzzle = store.read_puzzle(Path(folder))
                if puzzle.id == name:
                    return about(puzzle, store.read_answer(Path(folder)))
    return {}


def _text(fact: object) -> str:
    return past.plain(fact)[:40] if isinstance(fact, str) else ""


def _level(fact: object) -> int:
    return fact if type(fact) is int and 1 <= fact <= 5 else 0


def _digests(fact: object) -> frozenset[str]:
    known = fact if isinstance(fact, list) else []
    return frozenset(each for each in known if isinstance(each, str))


def _rows(record: Sequence[Hunted], key: Callable[[Hunted], str]) -> tuple[Row, ...]:
    names = sorted({key(hunted) for hunted in record})
    return tuple(_row(name, [hunted for hunted in record if key(hunted) == name]) for name in names)


def _row(name: str, record: Sequence[Hunted]) -> Row:
    times = [hunted.seconds for hunted in record if hunted.solved]
    firsts = [hunted.right_at_first for hunted in record if hunted.right_at_first is not None]
    return Row(
        name=name,
        hunts=len(record),
        solved=len(times),
        median_seconds=median(times) if times else None,
        hints=sum(hunted.hints for hunted in record),
        accused=len(firsts),
        right_at_first=sum(firsts),
        strength=(sum(hunted.points for hunted in record) + _UNTRIED) / (len(record) + 1),
    )
