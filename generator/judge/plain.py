"""Text from elsewhere, before it goes anywhere: cut, and unable to steer a terminal or a reader."""

from __future__ import annotations

import unicodedata

_UNSAFE = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))
"""Control, format (also bidirectional), surrogate, line and paragraph separator."""

_LINES = {ord("\n"): None, ord("\t"): None}


def plain(text: str, *, limit: int, lines: bool = False) -> str:
    """Return at most `limit` characters of the text with control characters escaped.

    `lines` keeps line breaks and tabs.
    """
    kept = "\n\t" if lines else ""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.translate(_LINES if lines else {}).isprintable():  # which no unsafe character is
        return cut
    return "".join(c if c in kept or not _unsafe(c) else _escape(c) for c in cut)


def _unsafe(character: str) -> bool:
    return unicodedata.category(character) in _UNSAFE


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
