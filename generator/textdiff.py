"""How two texts differ, line by line."""

from __future__ import annotations

from difflib import SequenceMatcher, unified_diff

CONTEXT_LINES = 3


def unified(original: str, changed: str, file_name: str) -> str:
    """Return the unified diff, three lines of context; "" where the texts are equal."""
    diff = unified_diff(
        _lines(original),
        _lines(changed),
        fromfile=f"a/{file_name}",
        tofile=f"b/{file_name}",
        n=CONTEXT_LINES,
    )
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in diff
    )


def changed_lines(original: str, changed: str) -> int:
    """Count the lines that differ: a rewritten line once, a moved one twice."""
    matcher = SequenceMatcher(None, _lines(original), _lines(changed), autojunk=False)
    return sum(
        max(before_end - before, after_end - after)
        for tag, before, before_end, after, after_end in matcher.get_opcodes()
        if tag != "equal"
    )


def _lines(text: str) -> list[str]:
    """Split at newlines only: Python's splitlines also splits at form feeds and their like."""
    *whole, rest = text.split("\n")
    return [f"{line}\n" for line in whole] + ([rest] if rest else [])
