"""Copy what may be known of the weeks in a folder to where it is served; keep back the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from .. import files
from ..errors import UnsoundPuzzle, UsageError
from .opened import read_file
from .site import Published, published


def publish(source: Path, folder: Path, *, reveal: bool) -> tuple[str, ...]:
    """Copy zip and page of every week that is not there yet; return the names of what was copied.

    `reveal` copies the answers too, but for those of the newest week. Raises UsageError where
    there are no weeks or another file was published under a name, UnsoundPuzzle where answers are
    not those committed to.
    """
    weeks = published(source)
    fresh = []
    for each in weeks:
        for name in _names(each, source, reveal=reveal and each is not weeks[0]):
            data = read_file(source / name)
            if not (folder / name).exists():
                fresh.append((name, data))
            elif read_file(folder / name) != data:
                raise UsageError(
                    f"{folder / name} was published and {source / name} is another file; move one"
                    " of them away"
                )
    for name, data in fresh:
        files.write_file(folder / name, data)
    return tuple(name for name, _ in fresh)


def _names(week: Published, source: Path, *, reveal: bool) -> Iterator[str]:
    if reveal and week.revealed:
        found = hashlib.sha256(read_file(source / week.answers)).hexdigest()
        if found != week.manifest.answers:
            raise UnsoundPuzzle(
                f"{source / week.answers} holds other answers than {week.week.name} was published"
                " with"
            )
        yield week.answers
    yield week.page
    yield week.zip
