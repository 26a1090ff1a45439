"""Write the report of one hunt: one page that needs nothing but itself, on a screen or on paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from . import timeline
from .messages import tr, tr_n, verdict
from .past import Past, plain
from .records import Answer, PlantedBug, Puzzle
from .template import template
from .timeline import Moment, clock_words

MARK = b"<!doctype html>\n<!-- a halfhour report -->"
"""How every report begins: one of ours may be written over."""

MOST_MOMENTS = 1500
"""More make a page that no browser likes to open."""

_WIDTH = 1000.0
_WEB = re.compile(r"https?://[^\s\"'<>]+")


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on the time line."""

    x: float
    good: bool
    title: str


@dataclass(frozen=True, slots=True)
class Lane:
    """One kind of moment, from the start to the end."""

    name: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """An accusation, with the line that it names."""

    clock: str
    line: int
    text: str
    because: str
    verdict: str


def page(puzzle: Puzzle, answer: Answer, past: Past) -> str:
    """Return the page; the answer and who was right are in it only if the hunt is over."""
    happened = timeline.moments(puzzle, past)
    bell = past.hunt.minutes * 60.0 + past.hunt.rested
    length = max([past.hunt.elapsed + past.hunt.rested, bell, *(m.seconds for m in happened)])
    return template("report.html").render(
        puzzle=puzzle,
        end=timeline.end_of(past),
        over=past.over,
        tiles=_tiles(past, happened),
        lanes=_lanes(happened, length),
        bell=round(_WIDTH * bell / length, 1),
        rested=clock_words(past.hunt.rested) if past.hunt.rested else "",
        length=clock_words(length),
        minutes=past.hunt.minutes,
        moments=happened[:MOST_MOMENTS],
        left_out=max(0, len(happened) - MOST_MOMENTS),
        accusations=_accusations(puzzle, past),
        accuracy=_accuracy(past),
        bugs=answer.bugs if past.over else (),
        clock=clock_words,
        tr=tr,
        tr_n=tr_n,
        diff_lines=_diff_lines,
        sightings=_sightings,
        paragraphs=lambda text: [" ".join(part.split()) for part in text.split("\n\n")],
    )


def _tiles(past: Past, happened: Sequence[Moment]) -> dict[str, str]:
    kinds = [moment.kind for moment in happened]
    last = past.hunt.checks[-1] if past.hunt.checks else None
    return {
        tr("time"): clock_words(past.hunt.elapsed),
        tr("saves"): str(kinds.count("saved")),
        tr("runs"): str(kinds.count("ran")),
        tr("checks"): str(len(past.hunt.checks)),
        tr("hints"): str(past.hunt.hints),
        tr("accusations"): str(len({each.line for each in past.accusations})),
        tr("last verdict"): verdict(last.verdict) if last else tr("none"),
    }


def _lanes(happened: Sequence[Moment], length: float) -> tuple[Lane, ...]:
    found = []
    lanes = {
        "saved": tr("saves"),
        "ran": tr("runs"),
        "checked": tr("checks"),
        "hinted": tr("hints"),
        "accused": tr("accusations"),
        "proved": tr("proofs"),
    }
    for kind, name in lanes.items():
        # One mark per place is all that can be seen.
        marks = {
            round(_WIDTH * m.seconds / length): _mark(m, length) for m in happened if m.kind == kind
        }
        if marks:
            found.append(Lane(name, tuple(marks.values())))
    return tuple(found)


def _mark(moment: Moment, length: float) -> Mark:
    x = round(_WIDTH * moment.seconds / length, 1)
    return Mark(x, moment.good, f"{clock_words(moment.seconds)} {moment.words}")


def _accusations(puzzle: Puzzle, past: Past) -> tuple[Named, ...]:
    lines = puzzle.source.split("\n")
    start = past.hunt.started or 0.0
    found = []
    for each in past.accusations[:MOST_MOMENTS]:
        came_to = tr("told when the hunt is over")
        if past.over:
            came_to = tr("hit") if each.hit else tr("missed")
        text = lines[each.line - 1].strip() if 1 <= each.line <= len(lines) else ""
        clock = clock_words(max(0.0, each.at - start))
        found.append(Named(clock, each.line, text, plain(each.because), came_to))
    return tuple(found)


def _accuracy(past: Past) -> str:
    lines = {each.line: each.hit for each in past.accusations}
    named = tr_n("{count} line was accused", "{count} lines were accused", len(lines))
    if not past.over:
        return tr("{accused}; which of them hit is told when the hunt is over.", accused=named)
    right = sum(lines.values())
    if past.accusations and past.accusations[0].hit:
        return tr("{accused}, {right} of them rightly; the first hit.", accused=named, right=right)
    return tr("{accused}, {right} of them rightly; the first missed.", accused=named, right=right)


def _diff_lines(diff: str) -> list[tuple[str, str]]:
    """Return the lines of a diff, each with what it is."""
    kinds = {"+": "new", "-": "old", "@": "place", "\\": "place"}
    body = diff.rstrip("\n").split("\n")[2:]
    return [(kinds.get(line[:1], "same"), line) for line in body]


def _sightings(bug: PlantedBug) -> list[tuple[str, str]]:
    """Return where the bug was seen, an address and a note each; only what a browser may open."""
    return [(seen.url if _WEB.fullmatch(seen.url) else "", seen.note) for seen in bug.sightings]
