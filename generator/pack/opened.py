"""A zip of a week, read whole into memory and held to its own manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .. import files
from ..errors import UnsoundPuzzle, UsageError
from . import names
from .archive import PACK, BadArchive, read_zip
from .manifest import (
    MANIFEST,
    AnswersManifest,
    Manifest,
    PackedFile,
    PackedPuzzle,
    read_answers_manifest,
    read_manifest,
)


@dataclass(frozen=True, slots=True)
class Opened:
    """What lies in the one folder of a zip, each file as the manifest says."""

    where: str
    sha256: str
    """Of the zip."""
    folder: str
    """The one at the top."""
    files: Mapping[str, bytes]
    """By their names below that folder."""
    manifest: Manifest | AnswersManifest

    @property
    def puzzles(self) -> Manifest:
        """What candidates get. Raises UsageError where it is the other zip."""
        if isinstance(self.manifest, Manifest):
            return self.manifest
        raise UsageError(f"{self.where} holds the answers of a week and not its puzzles")

    @property
    def answers(self) -> AnswersManifest:
        """What the publisher keeps. Raises UsageError where it is the other zip."""
        if isinstance(self.manifest, AnswersManifest):
            return self.manifest
        raise UsageError(f"{self.where} holds the puzzles of a week and not its answers")

    def of(self, puzzle: PackedPuzzle) -> dict[str, bytes]:
        """Return the files of a puzzle's folder, by their names below it."""
        start = f"{puzzle.folder}/"
        return {
            name.removeprefix(start): data
            for name, data in self.files.items()
            if name.startswith(start)
        }


def open_zip(path: Path) -> Opened:
    """Return what lies in a zip of a week.

    Raises UsageError where there is no file or it is no pack, UnsoundPuzzle where it is damaged,
    not as it was made, or made by a newer halfhour.
    """
    data = read_file(path)
    where = str(path)
    try:
        content = read_zip(data)
    except BadArchive as error:
        raise UnsoundPuzzle(f"{where} cannot be used: {error}") from error
    folders = {PurePosixPath(name).parts[0] for name in content}
    folder = next(iter(folders), "")
    if len(folders) != 1 or f"{folder}/{MANIFEST}" not in content:
        raise UsageError(f"{where} is no pack of halfhour: it holds no folder with a {MANIFEST}")
    below = {name.removeprefix(f"{folder}/"): data for name, data in content.items()}
    manifest = _manifest(below[MANIFEST], f"{where}: {MANIFEST}")
    if folder != names.folder(manifest):
        raise UnsoundPuzzle(f"{where} is damaged: {folder!r} is not the folder of that week")
    opened = Opened(where, hashlib.sha256(data).hexdigest(), folder, below, manifest)
    for puzzle in manifest.puzzles:
        refuse_changed(where, puzzle, opened.of(puzzle))
    _refuse_changed(where, "", _beside(manifest), _not_in_a_puzzle(opened))
    return opened


def read_file(path: Path) -> bytes:
    """Return the bytes of a zip. Raises UsageError where there is none, UnsoundPuzzle if huge."""
    try:
        return files.read_at_most(path, PACK.archive)
    except FileNotFoundError as error:
        raise UsageError(f"there is no file {path}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnsoundPuzzle(f"{path} cannot be used: it is {error}") from error


def refuse_changed(where: str, puzzle: PackedPuzzle, found: Mapping[str, bytes]) -> None:
    """Raise UnsoundPuzzle where a puzzle's files are not those that the manifest names."""
    _refuse_changed(where, f"{puzzle.folder}/", puzzle.files, found)


def _refuse_changed(
    where: str, folder: str, files: Sequence[PackedFile], found: Mapping[str, bytes]
) -> None:
    named = {file.name: file.sha256 for file in files}
    for name in sorted(named.keys() | found.keys()):
        place = f"{folder}{name}"
        if name not in found:
            raise UnsoundPuzzle(f"{where} is damaged: {place} is missing")
        if name not in named:
            raise UnsoundPuzzle(f"{where} is damaged: its manifest does not name {place}")
        if hashlib.sha256(found[name]).hexdigest() != named[name]:
            raise UnsoundPuzzle(f"{where} is damaged: {place} is not the file that was packed")


def _manifest(data: bytes, where: str) -> Manifest | AnswersManifest:
    try:
        return read_manifest(data, where)
    except UsageError:
        return read_answers_manifest(data, where)


def _beside(manifest: Manifest | AnswersManifest) -> tuple[PackedFile, ...]:
    return manifest.beside if isinstance(manifest, Manifest) else ()


def _not_in_a_puzzle(opened: Opened) -> dict[str, bytes]:
    """Return what lies in no puzzle's folder: a `conftest.py` there would run in each of them."""
    ours = {puzzle.folder for puzzle in opened.manifest.puzzles}
    return {
        name: data
        for name, data in opened.files.items()
        if name != MANIFEST and not ("/" in name and name.partition("/")[0] in ours)
    }
