"""The answers to judge by: of a week, or of one puzzle's folder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from .. import files, store
from ..errors import UnsoundPuzzle, UsageError
from ..records import Answer, Puzzle
from . import names
from .archive import PACK, zip_bytes
from .manifest import MANIFEST, MOST_BYTES, PackedPuzzle, read_answers_manifest
from .opened import Opened, open_zip, refuse_changed


@dataclass(frozen=True, slots=True)
class Answers:
    """Puzzles with their answers."""

    name: str
    """As a person calls them: `halfhour-2026-W48.answers`."""
    week: str | None
    """`2026-W48`; None for a puzzle that belongs to no week."""
    puzzles: tuple[tuple[Puzzle, Answer], ...]
    """In the order of the pack."""
    sha256: str
    """Of the answers zip, or of a folder's seal: names these answers and no others."""


def read_answers(path: Path) -> Answers:
    """Return the answers in an answers zip, packed or unpacked, or in a puzzle's folder.

    Raises UsageError where there are none, UnsoundPuzzle where they are damaged, not as they were
    made, or made by a newer halfhour.
    """
    if not path.is_dir():
        return answers_of(open_zip(path))
    if not store.is_puzzle(path) and (path / MANIFEST).is_file():
        return answers_of(_unpacked(path))
    puzzle, answer = store.read_puzzle(path), store.read_answer(path)
    seal = hashlib.sha256((path / store.SEAL).read_bytes()).hexdigest()
    return Answers(path.resolve().name, None, ((puzzle, answer),), seal)


def answers_of(opened: Opened) -> Answers:
    """Return the answers in an opened answers zip. Raises as `read_answers` does."""
    manifest = opened.answers
    pairs = tuple(_pair(opened, puzzle) for puzzle in manifest.puzzles)
    return Answers(opened.folder, manifest.week, pairs, opened.sha256)


def puzzle_in(opened: Opened, packed: PackedPuzzle) -> tuple[Puzzle, Answer | None]:
    """Return a puzzle of a pack, which must be the one that the manifest tells of.

    Raises UnsoundPuzzle where it is another, and as `store.from_files` does.
    """
    where = f"{opened.where}: {packed.folder}"
    try:
        puzzle, answer = store.from_files(where, opened.of(packed))
    except UsageError as error:
        raise UnsoundPuzzle(str(error)) from error
    for name in ("id", "subject", "title", "topics", "level", "minutes", "bugs"):
        if getattr(puzzle, name) != getattr(packed, name):
            raise UnsoundPuzzle(f"{where} is not the puzzle of the manifest: its {name} differs")
    if len(puzzle.source.splitlines()) != packed.lines:
        raise UnsoundPuzzle(f"{where} is not the puzzle of the manifest: its lines differ")
    return puzzle, answer


def _pair(opened: Opened, packed: PackedPuzzle) -> tuple[Puzzle, Answer]:
    puzzle, answer = puzzle_in(opened, packed)
    if answer is None or answer.puzzle != puzzle.id:
        raise UnsoundPuzzle(f"{opened.where}: {packed.folder} holds no answer to its puzzle")
    return puzzle, answer


def _unpacked(path: Path) -> Opened:
    """Read an unpacked zip again: the named files alone, which make the same zip as before."""
    where = str(path)
    content = {MANIFEST: _bytes(path / MANIFEST, MOST_BYTES)}
    manifest = read_answers_manifest(content[MANIFEST], f"{where}/{MANIFEST}")
    for puzzle in manifest.puzzles:
        found = {
            file.name: _bytes(path / puzzle.folder / file.name, PACK.each)
            for file in puzzle.files
            if (path / puzzle.folder / file.name).is_file()
        }
        refuse_changed(where, puzzle, found)
        content |= {f"{puzzle.folder}/{name}": data for name, data in found.items()}
    folder = names.folder(manifest)
    zipped = zip_bytes({f"{folder}/{name}": data for name, data in content.items()})
    return Opened(where, hashlib.sha256(zipped).hexdigest(), folder, content, manifest)


def _bytes(path: Path, limit: int) -> bytes:
    try:
        return files.read_at_most(path, limit)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnsoundPuzzle(f"{path} is damaged: {error}") from error
