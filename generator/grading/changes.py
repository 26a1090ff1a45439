"""What a submission changed in the file as it was handed out, and whose texts say the same."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from ..records import digest
from ..textdiff import unified
from .reading import bare

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Changes:
    """The way from one text to another, and how long it is."""

    diff: str
    """Unified, three lines of context; empty where nothing was changed."""
    added: int
    removed: int
    lines: int
    """How many lines differ: a rewritten one counts once, a moved one twice."""


def changes(before: str, after: str, file_name: str = "file.py") -> Changes:
    """Return what was changed, counted in the diff that a person sees."""
    diff = unified(before, after, file_name)
    added = removed = lines = 0
    new = old = 0
    for line in [*diff.split("\n")[2:], "@@"]:
        if line.startswith("+"):
            new += 1
        elif line.startswith("-"):
            old += 1
        elif not line.startswith("\\"):
            added, removed, lines = added + new, removed + old, lines + max(new, old)
            new = old = 0
    return Changes(diff, added, removed, lines)


def share_rewritten(before: str, after: str) -> float:
    """Return which share of the code of either text is not in the other, from 0 to 1.

    Comments, docstrings and layout count for nothing: a formatter rewrites no file.
    """
    old, new = bare(before), bare(after)
    longer = max(old.count("\n"), new.count("\n"), 1)
    return min(1.0, changes(old, new).lines / longer)


def code_digest(source: str) -> str:
    """Return a digest that comments, docstrings and layout do not change."""
    return digest(bare(source))


def alike(codes: Iterable[tuple[_Key, str]]) -> dict[_Key, tuple[_Key, ...]]:
    """Return for each key, in their order, the other keys that came with the same code digest."""
    pairs = list(codes)
    groups: dict[str, list[_Key]] = {}
    for key, code in pairs:
        groups.setdefault(code, []).append(key)
    return {key: tuple(other for other in groups[code] if other != key) for key, code in pairs}
