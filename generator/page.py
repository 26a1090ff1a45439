"""Write the catalogue as pages to read: one for GitHub, one for a browser or a printer.

Made of the mutators' own words alone, so that the same bugs give the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from markupsafe import Markup, escape

from .catalogue import Entry
from .template import template

MARKDOWN = "CATALOGUE.md"
HTML = "catalogue.html"


@dataclass(frozen=True, slots=True)
class Chapter:
    """A topic and its bugs."""

    topic: str
    entries: tuple[Entry, ...]

    @property
    def title(self) -> str:
        return {"kv_cache": "KV cache", "moe": "MoE"}.get(
            self.topic, self.topic.replace("_", " ").capitalize()
        )

    @property
    def families(self) -> int:
        return _families(self.entries)


def pages(entries: Sequence[Entry]) -> dict[str, str]:
    """Return the pages' texts, by file name; the entries come in the catalogue's order."""
    chapters = tuple(
        Chapter(topic, tuple(group)) for topic, group in groupby(entries, lambda entry: entry.topic)
    )
    words = {"chapters": chapters, "bugs": len(entries), "families": _families(entries)}
    return {
        MARKDOWN: template("catalogue.md").render(words),
        HTML: template("catalogue.html").render(words, prose=_prose, paragraphs=_paragraphs),
    }


def _families(entries: Iterable[Entry]) -> int:
    return len({entry.family for entry in entries})


def _paragraphs(text: str) -> list[str]:
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _prose(text: str) -> Markup:
    """Escape a text, and set what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
