"""The puzzle folder: the only module that knows its files, their format and their limits.

    puzzles/<id>/
    ├── README.md         the brief
    ├── <subject>.py      the file with the bug: the candidate's to edit
    ├── test_visible.py   what the candidate may run
    ├── answer.sealed     the answer and the files as handed out: compressed text, no secret;
    │                     of a pack the files alone, where the publisher keeps the answer
    └── puzzle.toml       what may be known of the puzzle; nothing that spoils

The same records give the same bytes on every machine.
"""

from __future__ import annotations

import base64
import bz2
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

from . import files
from .decoding import record
from .errors import UnsoundPuzzle, UsageError
from .records import Answer, Puzzle

FORMAT = 1
BRIEF = "README.md"
VISIBLE_TESTS = "test_visible.py"
SEAL = "answer.sealed"
CARD = "puzzle.toml"
ID = re.compile(r"[a-z0-9][a-z0-9-]{3,63}")

_MOST_CARD = 64 * 1024
_MOST_SEAL = 8 * 1024 * 1024
_MOST_UNSEALED = 32 * 1024 * 1024
_SEAL_WIDTH = 76
_SEAL_TITLE = "Sealed against accidental spoilers only: base64 of bz2 of JSON, no secret."
_SHA256 = re.compile(r"[0-9a-f]{64}")

_CARD_KEYS: Mapping[str, type] = {
    "id": str,
    "version": str,
    "subject": str,
    "title": str,
    "topics": list,
    "level": int,
    "minutes": int,
    "bugs": int,
    "seed": int,
    "file": str,
}
_DIGESTS = ("file", "visible_tests", "brief", "answer")
_TYPE_WORDS = {str: "text", int: "a whole number", list: "a list of texts"}


def is_puzzle(folder: Path) -> bool:
    """Return whether the folder says that it is a puzzle."""
    return (folder / CARD).is_file()


def puzzle_files(puzzle: Puzzle, answer: Answer | None) -> dict[str, bytes]:
    """Return the files of a puzzle folder by name; a pure function of the records.

    Without an answer the folder can be hunted in and not judged.
    """
    seal = _seal(_payload(puzzle, answer))
    texts = {
        BRIEF: puzzle.brief,
        puzzle.file_name: puzzle.source,
        VISIBLE_TESTS: puzzle.visible_tests,
        SEAL: seal,
        CARD: _card(puzzle, seal),
    }
    return {name: text.encode("utf-8") for name, text in texts.items()}


def write_puzzle(folder: Path, puzzle: Puzzle, answer: Answer | None) -> bool:
    """Write the folder whole or not at all; return False where this very puzzle is there already.

    Raises UsageError for a folder that holds anything else or cannot be written to,
    EnvironmentFault for a machine without space. Nothing is left behind on any exception.
    """
    refuse_taken(folder)
    content = puzzle_files(puzzle, answer)
    if not _taken(folder):
        files.write_folder(folder, content)
        return True
    if all(files.holds(folder / name, data) for name, data in content.items()):
        return False
    if files.holds(folder / CARD, content[CARD]):
        raise UsageError(
            f"{folder} holds this puzzle already, with changes of yours; go on there, or start over"
            f" with: halfhour reset {folder}"
        )
    raise UsageError(f"{folder} holds another puzzle; choose another folder with --out")


def refuse_taken(folder: Path) -> None:
    """Raise UsageError for a folder that holds something else than a puzzle: a check beforehand."""
    if _taken(folder) and not is_puzzle(folder):
        raise UsageError(f"{folder} is not empty; choose another folder with --out")


def read_puzzle(folder: Path) -> Puzzle:
    """Return the puzzle as it was handed out, whatever the candidate did to the files since.

    Raises UsageError where the folder is no puzzle, UnsoundPuzzle where it is damaged or newer.
    """
    return read(folder)[0]


def read_answer(folder: Path) -> Answer:
    """Return the answer. Raises as `read_puzzle` does, and UsageError where it came without."""
    puzzle, answer = read(folder)
    if answer is None:
        raise UsageError(
            f"{folder} came without its answer: send your {puzzle.file_name} to whoever"
            " published it, who can judge it"
        )
    return answer


def read(folder: Path) -> tuple[Puzzle, Answer | None]:
    """Return the puzzle and, where it came with it, the answer. Raises as `read_puzzle` does."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    if not is_puzzle(folder):
        raise UsageError(f"{folder} is no puzzle: it holds no {CARD}")
    limits = {CARD: _MOST_CARD, SEAL: _MOST_SEAL}
    return from_files(
        str(folder),
        {
            name: _bytes(folder / name, limit)
            for name, limit in limits.items()
            if (folder / name).is_file()
        },
    )


def from_files(where: str, content: Mapping[str, bytes]) -> tuple[Puzzle, Answer | None]:
    """Return the puzzle, as handed out, and the answer that these files of a folder hold.

    Only the card and the seal are looked at: the others are the candidate's. `where` is how errors
    call the folder. Raises as `read_puzzle` does.
    """
    if CARD not in content:
        raise UsageError(f"{where} is no puzzle: it holds no {CARD}")
    card = _read_card(f"{where}/{CARD}", content[CARD])
    if SEAL not in content:
        raise UnsoundPuzzle(f"{where}/{SEAL} is missing: the puzzle cannot be read without it")
    puzzle, answer = _read_seal(f"{where}/{SEAL}", content[SEAL], card["sha256"]["answer"])
    for key, value in _card_values(puzzle).items():
        if card[key] != value:
            raise UnsoundPuzzle(f"{where}/{CARD} is damaged: {key} is not {value!r} as it was made")
    return puzzle, answer


def restore(folder: Path) -> Path | None:
    """Put the file back as handed out; return where the edited one is kept, if there was one.

    A missing brief or visible test comes back too. Raises as `read_puzzle` and `write_puzzle` do.
    """
    puzzle = read_puzzle(folder)
    for name, text in ((BRIEF, puzzle.brief), (VISIBLE_TESTS, puzzle.visible_tests)):
        if not os.path.lexists(folder / name):
            files.replace_file(folder / name, text.encode("utf-8"))
    file, source = folder / puzzle.file_name, puzzle.source.encode("utf-8")
    if files.holds(file, source):
        return None
    backup = _free_backup(file) if os.path.lexists(file) else None
    files.replace_file(file, source, keep_old_as=backup)
    return backup


def _taken(folder: Path) -> bool:
    with files.explained(folder):
        return folder.is_dir() and any(folder.iterdir())


def _free_backup(file: Path) -> Path:
    candidates = (file.with_name(f"{file.name}.{n}.bak") for n in count(1))
    return next(path for path in candidates if not os.path.lexists(path))


# puzzle.toml


def _card(puzzle: Puzzle, seal: str) -> str:
    digests = {
        "file": _sha256(puzzle.source),
        "visible_tests": _sha256(puzzle.visible_tests),
        "brief": _sha256(puzzle.brief),
        "answer": _sha256(seal),
    }
    lines = [f"format = {FORMAT}"]
    lines += [f"{key} = {_toml(value)}" for key, value in _card_values(puzzle).items()]
    lines += ["", "[sha256]  # of the files as handed out"]
    lines += [f"{key} = {_toml(value)}" for key, value in digests.items()]
    return "\n".join(lines) + "\n"


def _card_values(puzzle: Puzzle) -> dict[str, object]:
    return {
        "id": puzzle.id,
        "version": puzzle.version,
        "subject": puzzle.subject,
        "title": puzzle.title,
        "topics": list(puzzle.topics),
        "level": puzzle.level,
        "minutes": puzzle.minutes,
        "bugs": puzzle.bugs,
        "seed": puzzle.seed,
        "file": puzzle.file_name,
    }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _toml(value: object) -> str:
    match value:
        case str():
            return '"' + "".join(_toml_character(character) for character in value) + '"'
        case int():
            return str(value)
        case list():
            return "[" + ", ".join(_toml(item) for item in value) + "]"
    raise TypeError(f"{value!r} has no TOML form here")


def _toml_character(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if ord(character) < 0x20 or ord(character) == 0x7F:
        return f"\\u{ord(character):04X}"
    return character


def _read_card(path: str, data: bytes) -> dict[str, Any]:
    """Return the card with every key of ours present and of its type; unknown keys are let be."""
    try:
        card = tomllib.loads(_text(path, data, _MOST_CARD))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UnsoundPuzzle(f"{path} is damaged: {error}") from error
    refuse_other_format(path, card.get("format"))
    for key, kind in _CARD_KEYS.items():
        if key not in card:
            raise UnsoundPuzzle(f"{path} is damaged: {key} is missing")
        if not _is_a(kind, card[key]):
            raise UnsoundPuzzle(f"{path} is damaged: {key} must be {_TYPE_WORDS[kind]}")
    digests = card.get("sha256")
    for key in _DIGESTS:
        found = digests.get(key) if isinstance(digests, dict) else None
        if not isinstance(found, str) or not _SHA256.fullmatch(found):
            raise UnsoundPuzzle(f"{path} is damaged: sha256.{key} must be a SHA-256 in hex")
    if not ID.fullmatch(card["id"]):
        raise UnsoundPuzzle(f"{path} is damaged: {card['id']!r} is no puzzle id")
    if not card["subject"].isidentifier() or card["file"] != f"{card['subject']}.py":
        raise UnsoundPuzzle(f"{path} is damaged: {card['file']!r} is not the file of a subject")
    return card


def refuse_other_format(where: str, found: object, *, newest: int = FORMAT) -> None:
    """Raise UnsoundPuzzle for what is no number of a format, and for one not yet known here."""
    if type(found) is not int or found < 1:
        raise UnsoundPuzzle(f"{where} is damaged: format must be a whole number from 1")
    if found > newest:
        raise UnsoundPuzzle(
            f"{where} was made by a newer halfhour (format {found}; this one reads {newest}):"
            " upgrade with: pip install --upgrade halfhour"
        )


def _is_a(kind: type, value: object) -> bool:
    if type(value) is not kind:
        return False
    return not isinstance(value, list) or all(isinstance(item, str) for item in value)


# answer.sealed


def _payload(puzzle: Puzzle, answer: Answer | None) -> str:
    content = {"puzzle": asdict(puzzle), "answer": asdict(answer) if answer else None}
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def _seal(payload: str) -> str:
    packed = base64.b64encode(bz2.compress(payload.encode("utf-8"), 9)).decode("ascii")
    starts = range(0, len(packed), _SEAL_WIDTH)
    return "\n".join([_SEAL_TITLE, *(packed[i : i + _SEAL_WIDTH] for i in starts)]) + "\n"


def _read_seal(path: str, data: bytes, sha256: str) -> tuple[Puzzle, Answer | None]:
    seal = _text(path, data, _MOST_SEAL).replace("\r\n", "\n")
    if _sha256(seal) != sha256:
        raise UnsoundPuzzle(f"{path} is damaged: it is not the one that {CARD} names")
    try:
        content = json.loads(_unseal(seal))
        sealed = content["answer"]
        answer = None if sealed is None else record(Answer, sealed)
        return record(Puzzle, content["puzzle"]), answer
    except (ValueError, KeyError, TypeError, OSError, EOFError, RecursionError) as error:
        raise UnsoundPuzzle(f"{path} is damaged: it does not open ({error})") from error


def _unseal(seal: str) -> str:
    packed = "".join(seal.split("\n")[1:])
    unpacker = bz2.BZ2Decompressor()
    data = unpacker.decompress(base64.b64decode(packed, validate=True), _MOST_UNSEALED)
    if not unpacker.eof:
        raise ValueError("cut short or too large")
    return data.decode("utf-8")


def _bytes(path: Path, limit: int) -> bytes:
    try:
        return files.read_at_most(path, limit)
    except OSError as error:
        raise UnsoundPuzzle(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UnsoundPuzzle(f"{path} is damaged: {error}") from error


def _text(path: str, data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise UnsoundPuzzle(f"{path} is damaged: larger than {limit} bytes")
    try:
        return data.decode("utf-8")
    except ValueError as error:
        raise UnsoundPuzzle(f"{path} is damaged: {error}") from error
