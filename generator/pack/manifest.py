"""The manifests of a week: what candidates may know of it, and what only its publisher may.

Records to JSON and back; whatever is read is checked, for it may come from anywhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

from .. import store
from ..decoding import record
from ..errors import UnsoundPuzzle, UsageError
from .week import Week

FORMAT = 1
MANIFEST = "manifest.json"
MOST_BYTES = 1024 * 1024
MOST_PUZZLES = 10
LEVELS = range(1, 6)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*")

_Manifest = TypeVar("_Manifest", "Manifest", "AnswersManifest")


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file, by its name below the folder that it is told of, with `/` between parts."""

    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class PackedPuzzle:
    """What may be known of one puzzle; nothing that spoils."""

    folder: str
    """`<place in the pack, from 1>-<id>`."""
    id: str
    subject: str
    title: str
    topics: tuple[str, ...]
    level: int
    minutes: int
    bugs: int
    lines: int
    """How long the file is."""
    file: str
    files: tuple[PackedFile, ...]
    """Every file of the folder in the zip that this manifest lies in, by name."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What lies in the zip for candidates."""

    week: str
    version: str
    """The halfhour that made it."""
    judged: bool
    """Whether the sealed judge lies in it."""
    answers: str
    """SHA-256 of the answers zip: published first, opened later."""
    puzzles: tuple[PackedPuzzle, ...]
    beside: tuple[PackedFile, ...] = ()
    """What lies beside the puzzles' folders for who reads: all but this manifest, by name."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one puzzle was made of: enough to make it again."""

    subject: str
    mutators: tuple[str, ...]
    sites: tuple[int, ...]
    """Of the file as the disguise rewrites it, one for each mutator."""
    seed: int
    disguise: bool


@dataclass(frozen=True, slots=True)
class AnswersManifest:
    """What lies in the answers zip."""

    week: str
    version: str
    torch: str
    """The one that the certificates were made with."""
    seed: int
    """The pack's: the week is a function of it, of the version and of the packs before."""
    puzzles: tuple[PackedPuzzle, ...]
    recipes: tuple[Recipe, ...]
    """One for each puzzle, in the same order."""


def manifest_bytes(manifest: Manifest | AnswersManifest) -> bytes:
    """Return the text of a manifest; a pure function of it."""
    kind = _KINDS[type(manifest)]
    content = {"format": FORMAT, "kind": kind, **asdict(manifest)}
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8")


def read_manifest(data: bytes, where: str) -> Manifest:
    """Return the manifest that lies at a place; raises UnsoundPuzzle where it is none of ours.

    Raises UsageError where it is that of the answers.
    """
    return _read(Manifest, data, where)


def read_answers_manifest(data: bytes, where: str) -> AnswersManifest:
    """Return the manifest of answers. Raises as `read_manifest` does, the other way round."""
    return _read(AnswersManifest, data, where)


_KINDS: Mapping[type, str] = {Manifest: "puzzles", AnswersManifest: "answers"}
_MISTAKEN = {
    "puzzles": "{where} holds the puzzles of a week and not its answers",
    "answers": "{where} holds the answers of a week and not the puzzles that candidates get",
}


def _read(kind: type[_Manifest], data: bytes, where: str) -> _Manifest:
    try:
        content = json.loads(data.decode("utf-8"))
        if not isinstance(content, dict):
            raise TypeError("an object was expected")
        store.refuse_other_format(where, content.get("format"), newest=FORMAT)
        said = str(content.get("kind"))
        if said not in _MISTAKEN:
            raise ValueError("kind is not one of ours")
        if said != _KINDS[kind]:
            raise UsageError(_MISTAKEN[said].format(where=where))
        manifest = record(kind, content)
        problem = next(_problems(manifest), None)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UnsoundPuzzle(f"{where} is damaged: {why}") from error
    if problem is not None:
        raise UnsoundPuzzle(f"{where} is damaged: {problem}")
    return manifest


def _problems(manifest: Manifest | AnswersManifest) -> Iterator[str]:
    """Yield what cannot be true of any week."""
    try:
        Week.named(manifest.week)
    except UsageError as error:
        yield str(error)
    puzzles = manifest.puzzles
    if not 1 <= len(puzzles) <= MOST_PUZZLES:
        yield f"a week has 1 to {MOST_PUZZLES} puzzles"
    for place, puzzle in enumerate(puzzles, start=1):
        yield from _puzzle_problems(place, puzzle)
    for what in ("id", "subject"):
        if len({getattr(puzzle, what) for puzzle in puzzles}) < len(puzzles):
            yield f"two puzzles have the same {what}"
    if isinstance(manifest, Manifest):
        yield from _file_problems("the pack", manifest.beside)
        if not _SHA256.fullmatch(manifest.answers):
            yield "answers must be a SHA-256 in hex"
        return
    if [recipe.subject for recipe in manifest.recipes] != [p.subject for p in puzzles]:
        yield "its recipes are not those of its puzzles"
    for puzzle, recipe in zip(puzzles, manifest.recipes, strict=False):
        if not puzzle.bugs == len(recipe.mutators) == len(recipe.sites):
            yield f"the recipe of {puzzle.folder} has another number of bugs"


def _puzzle_problems(place: int, puzzle: PackedPuzzle) -> Iterator[str]:
    if not store.ID.fullmatch(puzzle.id):
        yield f"{puzzle.id!r} is no puzzle id"
    if puzzle.folder != f"{place}-{puzzle.id}":
        yield f"{puzzle.folder!r} is not the folder of puzzle {place}"
    if not puzzle.subject.isidentifier() or puzzle.file != f"{puzzle.subject}.py":
        yield f"{puzzle.file!r} is not the file of a subject"
    if puzzle.level not in LEVELS:
        yield f"level {puzzle.level} is none"
    if min(puzzle.minutes, puzzle.bugs, puzzle.lines) < 1:
        yield f"minutes, bugs and lines of {puzzle.folder} must be positive"
    yield from _file_problems(puzzle.folder, puzzle.files)


def _file_problems(where: str, files: Sequence[PackedFile]) -> Iterator[str]:
    if len({file.name for file in files}) < len(files):
        yield f"{where} names a file twice"
    for file in files:
        if not _FILE.fullmatch(file.name):
            yield f"{file.name!r} is no name of a file"
        if not _SHA256.fullmatch(file.sha256):
            yield f"the digest of {file.name} must be a SHA-256 in hex"
