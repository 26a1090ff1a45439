"""The three files of a week, as bytes: a pure function of its puzzles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

from .. import render, store, textdiff
from .._version import VERSION
from ..errors import EnvironmentFault
from ..records import Answer, Certificate, Puzzle
from ..template import template
from . import names
from .archive import zip_bytes
from .manifest import (
    MANIFEST,
    AnswersManifest,
    Manifest,
    PackedFile,
    PackedPuzzle,
    Recipe,
    manifest_bytes,
)
from .order import Order
from .week_page import week_page

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Crafted:
    """A puzzle of a pack, and what it was made of."""

    puzzle: Puzzle
    answer: Answer
    recipe: Recipe


def pack_files(order: Order, crafted: Sequence[Crafted]) -> dict[str, bytes]:
    """Return the files of a week by name; what candidates get comes last."""
    week = order.week
    told = [_answer_files(each) for each in crafted]
    answers_manifest = AnswersManifest(
        week=week.name,
        version=VERSION,
        torch=crafted[0].answer.certificate.torch,
        seed=order.seed,
        puzzles=_cards(crafted, told),
        recipes=tuple(each.recipe for each in crafted),
    )
    answers = _zip(answers_manifest, told, {})
    given = [
        store.puzzle_files(each.puzzle, each.answer if order.judged else None) for each in crafted
    ]
    manifest = Manifest(
        week=week.name,
        version=VERSION,
        judged=order.judged,
        answers=hashlib.sha256(answers).hexdigest(),
        puzzles=_cards(crafted, given),
    )
    sources = [each.puzzle.source for each in crafted]
    beside = {
        "LICENSE": licence(),
        "README.md": _readme(manifest),
        "index.html": week_page(manifest, sources, inside=True).encode("utf-8"),
    }
    manifest = replace(manifest, beside=_packed(beside))
    return {
        names.answers_zip(week.name): answers,
        names.page(week.name): week_page(manifest, sources).encode("utf-8"),
        names.puzzles_zip(week.name): _zip(manifest, given, beside),
    }


def licence() -> bytes:
    """Return the licence's text, from the checkout or from what is installed."""
    file = _CHECKOUT / "LICENSE"
    if file.is_file():
        return file.read_bytes()
    # Several may be in sight: where a wheel was built, what it was built of lies about too.
    installed = metadata.distributions(name="halfhour")
    texts = (each.read_text("licenses/LICENSE") for each in installed)
    text = next((text for text in texts if text is not None), None)
    if text is None:
        raise EnvironmentFault("halfhour is installed without its licence; install it anew")
    return text.encode("utf-8")


def _answer_files(crafted: Crafted) -> dict[str, bytes]:
    """Return the sealed folder and, to read, what the seal holds."""
    puzzle, answer = crafted.puzzle, crafted.answer
    texts = {
        f"solution/{puzzle.file_name}": answer.original,
        "bug.diff": textdiff.unified(answer.original, puzzle.source, puzzle.file_name),
        "lesson.txt": render.reveal(puzzle, answer, tr=_in_english),
        "certificate.json": _certificate(answer.certificate),
        "promises/test_hidden.py": answer.hidden_tests,
    }
    read = {name: text.encode("utf-8") for name, text in texts.items()}
    return {**store.puzzle_files(puzzle, answer), **read}


def _in_english(message: str, /, **values: object) -> str:
    """A pack is the same whatever its publisher's language."""
    return message.format(**values) if values else message


def _certificate(certificate: Certificate) -> str:
    return json.dumps(asdict(certificate), indent=1, ensure_ascii=False) + "\n"


def _cards(
    crafted: Sequence[Crafted], contents: Sequence[Mapping[str, bytes]]
) -> tuple[PackedPuzzle, ...]:
    return tuple(
        _card(place, each.puzzle, content)
        for place, (each, content) in enumerate(zip(crafted, contents, strict=True), start=1)
    )


def _card(place: int, puzzle: Puzzle, content: Mapping[str, bytes]) -> PackedPuzzle:
    return PackedPuzzle(
        folder=f"{place}-{puzzle.id}",
        id=puzzle.id,
        subject=puzzle.subject,
        title=puzzle.title,
        topics=puzzle.topics,
        level=puzzle.level,
        minutes=puzzle.minutes,
        bugs=puzzle.bugs,
        lines=len(puzzle.source.splitlines()),
        file=puzzle.file_name,
        files=_packed(content),
    )


def _packed(content: Mapping[str, bytes]) -> tuple[PackedFile, ...]:
    return tuple(
        PackedFile(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(content.items())
    )


def _zip(
    manifest: Manifest | AnswersManifest,
    contents: Sequence[Mapping[str, bytes]],
    beside: Mapping[str, bytes],
) -> bytes:
    files = {MANIFEST: manifest_bytes(manifest), **beside}
    for card, content in zip(manifest.puzzles, contents, strict=True):
        files |= {f"{card.folder}/{name}": data for name, data in content.items()}
    top = names.folder(manifest)
    return zip_bytes({f"{top}/{name}": data for name, data in files.items()})


def _readme(manifest: Manifest) -> bytes:
    text = template("pack.md").render(
        week=manifest.week,
        version=manifest.version,
        judged=manifest.judged,
        answers=manifest.answers,
        puzzles=manifest.puzzles,
        many=any(puzzle.bugs > 1 for puzzle in manifest.puzzles),
    )
    return text.encode("utf-8")
