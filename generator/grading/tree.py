"""What was handed in, as a tree: a folder on the disk or the inside of a zip, all the same.

Hidden files and what Python and macOS leave behind are not in it; links are never followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path

from ..judge.intake import submission_bytes
from ..pack.archive import BadArchive, Limits, read_zip

MOST_ENTRIES = 2000
"""In what one candidate handed in."""
MOST_DEEP = 20
INBOX = Limits(entries=10_000)
"""A zip may hold everybody's files."""

_PASSED_OVER = frozenset({"__pycache__", "__MACOSX"})


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file, or something that stands where a file should."""

    name: str
    path: tuple[str, ...]
    """Its names from where it was handed in, to be compared with a list of names."""
    where: str
    """As a person finds it."""
    read: Callable[[], bytes]
    """Raises InvalidSubmission."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A folder, in the order of its names."""

    name: str
    path: tuple[str, ...]
    where: str
    children: tuple[Leaf | Branch, ...] = ()
    problem: str = ""
    """Why it could not be looked into, as a sentence."""

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        return tuple(child for child in self.children if isinstance(child, Leaf))

    @property
    def branches(self) -> tuple[Branch, ...]:
        return tuple(child for child in self.children if isinstance(child, Branch))

    def everything(self) -> Iterator[Leaf]:
        """Yield every file below."""
        for child in self.children:
            if isinstance(child, Leaf):
                yield child
            else:
                yield from child.everything()


class _TooMuch(Exception):
    """A folder without end, or nearly so."""


def leaf_of(file: Path) -> Leaf:
    """Return a file on the disk, which is read when it is wanted."""
    return Leaf(file.name, file.parts, str(file), lambda: submission_bytes(file))


def tree_of_folder(folder: Path) -> Branch:
    """Return a folder on the disk; what is wrong with one entry of it concerns no other."""
    try:
        names = _names(folder)
    except OSError as error:
        return _bare(folder, f"{folder} cannot be read: {error.strerror}")
    return replace(_bare(folder), children=tuple(_entry(folder / name) for name in names))


def tree_of_zip(file: Path) -> Branch:
    """Return the inside of a zip: below the only folder at its top, if that is all it holds."""
    try:
        content = read_zip(file, INBOX)
    except BadArchive as error:
        return replace(_bare(file, f"{file} is not opened: {error}"), name=file.stem)
    found = _inside(content, file, ())
    while len(found) == 1 and isinstance(found[0], Branch):
        found = found[0].children
    return replace(_bare(file), name=file.stem, children=found)


def _bare(path: Path, problem: str = "") -> Branch:
    return Branch(path.name, path.parts, str(path), problem=problem)


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not _passed_over(name))


def _passed_over(name: str) -> bool:
    return name.startswith(".") or name in _PASSED_OVER


def _entry(path: Path) -> Leaf | Branch:
    try:
        return _below(path, MOST_DEEP, count(1))
    except _TooMuch:
        most = f"more than {MOST_ENTRIES} files, or folders more than {MOST_DEEP} deep"
        return _bare(path, f"{path} holds {most}: hand in the file alone")


def _below(path: Path, deep: int, counter: Iterator[int]) -> Leaf | Branch:
    if deep < 0 or next(counter) > MOST_ENTRIES:
        raise _TooMuch
    try:
        if path.is_symlink() or not path.is_dir():
            return leaf_of(path)
        names = _names(path)
    except OSError as error:
        return _bare(path, f"{path} cannot be read: {error.strerror}")
    return replace(
        _bare(path), children=tuple(_below(path / name, deep - 1, counter) for name in names)
    )


def _inside(
    content: Mapping[str, bytes], file: Path, above: tuple[str, ...]
) -> tuple[Leaf | Branch, ...]:
    """Return what lies in a folder of a zip, by the names that are left below it."""
    groups: dict[str, dict[str, bytes]] = {}
    for name, data in content.items():
        top, _, rest = name.partition("/")
        groups.setdefault(top, {})[rest] = data
    return tuple(
        _inner(groups[name], file, (*above, name))
        for name in sorted(groups)
        if not _passed_over(name)
    )


def _inner(content: Mapping[str, bytes], file: Path, inner: tuple[str, ...]) -> Leaf | Branch:
    path, where = (*file.parts, *inner), f"{file}: {'/'.join(inner)}"
    if "" in content:
        return Leaf(inner[-1], path, where, partial(content.__getitem__, ""))
    return Branch(inner[-1], path, where, _inside(content, file, inner))
