"""Hold a week to its word: the answers are those committed to, and every puzzle is still one.

The judge of this machine tries everything again; nothing that was proven before is looked up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from .. import textdiff
from ..certify import hidden_trial, visible_trial
from ..errors import JudgeError, UnsoundSubject, UsageError
from ..judge import Judge
from ..judge.plain import plain
from ..library import promises
from ..records import Answer, Puzzle, Status, Subject, Trial, Verdict, VerdictKind
from ..store import BRIEF, VISIBLE_TESTS
from . import names
from .answers import answers_of, puzzle_in
from .manifest import AnswersManifest, PackedPuzzle
from .opened import Opened, open_zip

_LONGEST = 500
"""Of a text that is shown: the names of promises are the publisher's."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of one puzzle under the judge of this machine."""

    puzzle: Puzzle
    sound: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Both zips of a week, each as its own manifest says."""

    puzzles: Opened
    answers: Opened

    @property
    def committed(self) -> str:
        """The SHA-256 that the puzzles were published with."""
        return self.puzzles.puzzles.answers

    @property
    def version(self) -> str:
        """The halfhour that made it, as it says itself."""
        return plain(self.puzzles.puzzles.version, limit=_LONGEST)


def open_pack(file: Path, answers: Path | None = None) -> Pack:
    """Return both zips of a week; either may be given, the other lies beside it.

    `answers` says where the answers lie, if not beside the puzzles. Raises UsageError where one is
    missing, and as `open_zip` does.
    """
    given = open_zip(file)
    if isinstance(given.manifest, AnswersManifest):
        if answers is not None:
            raise UsageError(f"{file} holds answers already; give the puzzles and --answers")
        return Pack(_beside(file, "puzzles", "give the zip of the puzzles and --answers"), given)
    if answers is not None:
        other = open_zip(answers)
    else:
        other = _beside(file, "answers", "say where they are with --answers FILE")
    pack = Pack(given, other)
    _ = given.puzzles, other.answers  # each says what it is not
    return pack


def differences(pack: Pack) -> Iterator[str]:
    """Yield in what the answers are not those of the puzzles, a sentence each."""
    cards, answered = pack.puzzles.puzzles, pack.answers.answers
    if pack.committed != pack.answers.sha256:
        yield (
            "the answers are not those that the puzzles were published with:"
            f" SHA-256 {pack.answers.sha256[:16]}… instead of {pack.committed[:16]}…"
        )
    if cards.week != answered.week:
        yield f"the puzzles are of {cards.week}, the answers of {answered.week}"
    if [_card(each) for each in cards.puzzles] != [_card(each) for each in answered.puzzles]:
        yield "the two manifests do not name the same puzzles"
        return
    for card, (puzzle, answer) in zip(cards.puzzles, answers_of(pack.answers).puzzles, strict=True):
        handed_out, sealed = puzzle_in(pack.puzzles, card)
        if handed_out != puzzle or not _as_sealed(pack.puzzles.of(card), puzzle):
            yield f"{card.folder} was not handed out as the answers have it"
        if sealed != (answer if cards.judged else None):
            yield f"the judge sealed in {card.folder} is not that of the answers"
        if not _as_told(pack.answers.of(card), puzzle, answer):
            yield f"the solution to read in {card.folder} is not the one that is judged by"


def prove(
    pack: Pack, judge: Judge, *, progress: Callable[[str], None] = lambda _: None
) -> Iterator[Proof]:
    """Yield the proof of each puzzle: the original is right and the file silently wrong.

    The tests in the answers are run: they are the publisher's code. Raises JudgeError where the
    judge fails.
    """
    for puzzle, answer in answers_of(pack.answers).puzzles:
        progress(f"proving {puzzle.id}, {puzzle.file_name}")
        wanting = _wanting(judge, puzzle, answer)
        certificate = answer.certificate
        well = f"breaks {len(certificate.broken)} of {len(answer.promises)} promises, as certified"
        yield Proof(puzzle, not wanting, plain(wanting or well, limit=_LONGEST))


def _beside(file: Path, what: str, todo: str) -> Opened:
    place = names.sibling(file)
    if not place.is_file():
        raise UsageError(f"the {what} are not beside {file}, where {place.name} should be: {todo}")
    return open_zip(place)


def _card(puzzle: PackedPuzzle) -> PackedPuzzle:
    """What both manifests say of a puzzle: its folder holds other files in each."""
    return replace(puzzle, files=())


def _as_sealed(found: dict[str, bytes], puzzle: Puzzle) -> bool:
    return _same(
        found,
        {
            BRIEF: puzzle.brief,
            puzzle.file_name: puzzle.source,
            VISIBLE_TESTS: puzzle.visible_tests,
        },
    )


def _as_told(found: dict[str, bytes], puzzle: Puzzle, answer: Answer) -> bool:
    return _as_sealed(found, puzzle) and _same(
        found,
        {
            f"solution/{puzzle.file_name}": answer.original,
            "bug.diff": textdiff.unified(answer.original, puzzle.source, puzzle.file_name),
            "promises/test_hidden.py": answer.hidden_tests,
        },
    )


def _same(found: dict[str, bytes], texts: dict[str, str]) -> bool:
    return all(found.get(name) == text.encode("utf-8") for name, text in texts.items())


def _wanting(judge: Judge, puzzle: Puzzle, answer: Answer) -> str:
    """Say why a puzzle is none; empty where its certificate holds."""
    certificate = answer.certificate
    if certificate.status is not Status.CERTIFIED or not (certificate.broken and certificate.seeds):
        return f"its certificate proves nothing: {certificate.status}"
    try:
        subject = _subject(puzzle, answer)
    except UnsoundSubject as error:
        return f"its visible test cannot be read: {error}"
    for text, whose in ((answer.original, "the correct file"), (puzzle.source, "the file")):
        seen = _judged(judge, visible_trial(subject, text))
        if seen.kind is not VerdictKind.FIXED:
            return f"{whose} fails the visible test: {_what(seen)}"
    for seed in certificate.seeds:
        kept = _judged(judge, hidden_trial(subject, answer.original, seed))
        if kept.kind is not VerdictKind.FIXED:
            return f"the correct file does not keep its promises: {_what(kept)}"
    runs = []
    for seed in certificate.seeds:
        run = _judged(judge, hidden_trial(subject, puzzle.source, seed))
        if run.kind is VerdictKind.INVALID:
            return f"the file cannot be judged: {run.reason}"
        runs.append(set(run.broken))
    always, ever = set.intersection(*runs), set.union(*runs)
    if always != set(certificate.broken):
        return f"it breaks {_listed(always)}; certified is {_listed(set(certificate.broken))}"
    if ever - always != set(certificate.unsteady):
        return (
            f"under one seed alone it breaks {_listed(ever - always)};"
            f" certified is {_listed(set(certificate.unsteady))}"
        )
    return ""


def _subject(puzzle: Puzzle, answer: Answer) -> Subject:
    """Return the file and its promises as the pack has them, whatever is installed here."""
    return Subject(
        name=puzzle.subject,
        title=puzzle.title,
        topics=puzzle.topics,
        description="",
        reference="",
        source=answer.original,
        visible_tests=puzzle.visible_tests,
        hidden_tests=answer.hidden_tests,
        promises=answer.promises,
        visible_promises=promises(puzzle.visible_tests, Path(VISIBLE_TESTS)),
        public_names=answer.public_names,
    )


def _judged(judge: Judge, trial: Trial) -> Verdict:
    verdict = judge.verdict(trial)
    if verdict.kind is VerdictKind.ENVIRONMENT:
        raise JudgeError(f"the judge could not try {trial.name}: {verdict.reason}")
    return verdict


def _what(verdict: Verdict) -> str:
    return ", ".join(verdict.broken) or verdict.reason


def _listed(found: set[str]) -> str:
    return ", ".join(sorted(found)) or "nothing"
