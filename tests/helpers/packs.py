"""The zips of a week, put together by hand: nothing is drawn, nothing is crafted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import handmade
import toy
from starter import PACK

from halfhour.generator import store, textdiff
from halfhour.generator._version import VERSION
from halfhour.generator.certify import seeds
from halfhour.generator.pack import names
from halfhour.generator.pack.archive import zip_bytes
from halfhour.generator.pack.manifest import (
    MANIFEST,
    AnswersManifest,
    Manifest,
    PackedFile,
    PackedPuzzle,
    Recipe,
    manifest_bytes,
)
from halfhour.generator.pack.week_page import week_page
from halfhour.generator.records import Answer, Puzzle

WEEK = "2026-W48"
Pair = tuple[Puzzle, Answer]
Files = dict[str, bytes]
Change = Callable[[Files], Files]


def as_it_is(files: Files) -> Files:
    return files


@dataclass(frozen=True, slots=True)
class Lying:
    """Where the files of a week lie."""

    puzzles: Path
    answers: Path
    page: Path


def toy_pair() -> Pair:
    """The toy with its bug, and a certificate that the judge will find right."""
    answer = handmade.answer()
    broken = tuple(promise.name for promise in answer.promises[:3])
    certificate = replace(answer.certificate, broken=broken, seeds=seeds(toy.subject()))
    return replace(handmade.puzzle(), seed=0), replace(answer, certificate=certificate)


def titled(title: str) -> Pair:
    """The toy under another title."""
    puzzle, answer = toy_pair()
    return replace(puzzle, title=title), answer


def starter_pairs() -> list[Pair]:
    """Starter puzzles of different files, by level."""
    pairs: dict[str, Pair] = {}
    for folder in sorted(path for path in PACK.iterdir() if store.is_puzzle(path)):
        puzzle = store.read_puzzle(folder)
        pairs.setdefault(puzzle.subject, (puzzle, store.read_answer(folder)))
    return sorted(pairs.values(), key=lambda pair: pair[0].level)


def make(
    folder: Path,
    pairs: Sequence[Pair],
    *,
    week: str = WEEK,
    version: str = VERSION,
    judged: bool = False,
    handed_out: Sequence[Pair] | None = None,
    committed: str | None = None,
    sealed: bool = True,
    repack: Change = as_it_is,
    retell: Change = as_it_is,
    in_puzzles: Change = as_it_is,
    in_answers: Change = as_it_is,
) -> Lying:
    """Write the files of a week; `in_…` change what lies in a zip after its manifest is made.

    `repack` changes each puzzle's folder for the candidates before that, `retell` each in the
    answers. `handed_out` are other puzzles for the candidates than those of the answers; without
    `sealed` the answers hold none.
    """
    answered = [(pair, retell(answer_files(*pair, sealed=sealed))) for pair in pairs]
    answers = AnswersManifest(
        week=week,
        version=version,
        torch="2.13.0",
        seed=0,
        puzzles=_cards(answered),
        recipes=tuple(_recipe(*pair) for pair in pairs),
    )
    below = _below(answers.puzzles, [files for _, files in answered])
    below[MANIFEST] = manifest_bytes(answers)
    answers_zip = zipped(f"halfhour-{week}.answers", in_answers(below))
    given = [
        (pair, repack(store.puzzle_files(pair[0], pair[1] if judged else None)))
        for pair in handed_out or pairs
    ]
    commitment = committed or hashlib.sha256(answers_zip).hexdigest()
    manifest = Manifest(week, version, judged, commitment, _cards(given))
    below = _below(manifest.puzzles, [files for _, files in given])
    readme = b"# A week\n"
    manifest = replace(manifest, beside=_packed({"README.md": readme}))
    below |= {MANIFEST: manifest_bytes(manifest), "README.md": readme}
    folder.mkdir(parents=True, exist_ok=True)
    lying = Lying(
        folder / names.puzzles_zip(week),
        folder / names.answers_zip(week),
        folder / names.page(week),
    )
    lying.puzzles.write_bytes(zipped(f"halfhour-{week}", in_puzzles(below)))
    lying.answers.write_bytes(answers_zip)
    page = week_page(manifest, [puzzle.source for (puzzle, _), _ in given])
    lying.page.write_text(page, encoding="utf-8")
    return lying


def manifest_of(pairs: Sequence[Pair]) -> Manifest:
    """Return what the candidates' zip of these puzzles would say."""
    given = [(pair, store.puzzle_files(pair[0], None)) for pair in pairs]
    return Manifest(WEEK, VERSION, False, "5ea1ed" + "0" * 58, _cards(given))


def answer_files(puzzle: Puzzle, answer: Answer, *, sealed: bool = True) -> Files:
    return {
        **store.puzzle_files(puzzle, answer if sealed else None),
        f"solution/{puzzle.file_name}": answer.original.encode(),
        "bug.diff": textdiff.unified(answer.original, puzzle.source, puzzle.file_name).encode(),
        "promises/test_hidden.py": answer.hidden_tests.encode(),
    }


def zipped(folder: str, files: Mapping[str, bytes]) -> bytes:
    return zip_bytes({f"{folder}/{name}": data for name, data in files.items()})


def _below(cards: Sequence[PackedPuzzle], files: Sequence[Files]) -> Files:
    return {
        f"{card.folder}/{name}": data
        for card, each in zip(cards, files, strict=True)
        for name, data in each.items()
    }


def _cards(packed: Sequence[tuple[Pair, Files]]) -> tuple[PackedPuzzle, ...]:
    return tuple(
        _card(place, puzzle, files) for place, ((puzzle, _), files) in enumerate(packed, start=1)
    )


def _card(place: int, puzzle: Puzzle, files: Files) -> PackedPuzzle:
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
        files=_packed(files),
    )


def _packed(files: Files) -> tuple[PackedFile, ...]:
    return tuple(
        PackedFile(name, hashlib.sha256(data).hexdigest()) for name, data in sorted(files.items())
    )


def _recipe(puzzle: Puzzle, answer: Answer) -> Recipe:
    return Recipe(
        subject=puzzle.subject,
        mutators=tuple(bug.mutator for bug in answer.bugs),
        sites=tuple(bug.site for bug in answer.bugs),
        seed=puzzle.seed,
        disguise=False,
    )
