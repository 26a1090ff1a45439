"""The page that presents a week: what there is to hunt in, and nothing that spoils.

One file without a request to anywhere; the same pack and the same Pygments give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from ..template import template
from . import names
from .manifest import Manifest, PackedPuzzle
from .week import Week

HEAD = 25
"""How many lines of a file are shown."""

_LIGHT = "default"
_DARK = "github-dark"
_TOPICS = {"kv_cache": "KV cache", "moe": "MoE"}
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A puzzle as the page shows it."""

    card: PackedPuzzle
    topics: str
    bugs: str
    head: Markup
    left: int
    """How many lines are not shown."""


def week_page(manifest: Manifest, sources: Sequence[str], *, inside: bool = False) -> str:
    """Return the page of a week; `sources` are the handed-out files, in the manifest's order.

    `inside` is the one that lies in the zip: it leads to the puzzles' folders beside it.
    """
    week = Week.named(manifest.week)
    puzzles = [_shown(*each) for each in zip(manifest.puzzles, sources, strict=True)]
    return template("week.html").render(
        week=week.name,
        monday=week.monday,
        day=day_words(week),
        count=count_words(manifest),
        minutes=sum(puzzle.minutes for puzzle in manifest.puzzles),
        many=any(puzzle.bugs > 1 for puzzle in manifest.puzzles),
        puzzles=puzzles,
        zip=names.puzzles_zip(week.name),
        answers=manifest.answers,
        version=manifest.version,
        inside=inside,
        light=_colours(_LIGHT),
        dark=_colours(_DARK),
    )


def count_words(manifest: Manifest) -> str:
    """Say how many puzzles there are."""
    count = len(manifest.puzzles)
    return f"{_NUMBERS[count]} bug {'hunt' if count == 1 else 'hunts'}"


def day_words(week: Week) -> str:
    """Say the Monday of a week, in English whatever the machine speaks."""
    monday = week.monday
    return f"Monday, {monday.day} {_MONTHS[monday.month - 1]} {monday.year}"


def topic_words(puzzle: PackedPuzzle) -> str:
    """Name the topics of a puzzle's file."""
    return ", ".join(_TOPICS.get(topic, topic.replace("_", " ")) for topic in puzzle.topics)


def _shown(card: PackedPuzzle, source: str) -> Shown:
    bugs = "1 bug" if card.bugs == 1 else f"{card.bugs} bugs"
    # All of it, so that a text that goes on below is known for one; no tag crosses a line's end.
    lines = highlight(source, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True)).split("\n")
    head = Markup("\n".join(lines[:HEAD]))
    return Shown(card, topic_words(card), bugs, head, max(0, card.lines - HEAD))


def _colours(style: str) -> Markup:
    rules = HtmlFormatter(style=style).get_token_style_defs(".code")
    return Markup("\n".join(rule for rule in rules if "{" in rule))
