"""What a person should look at in a submission, whatever the judge says of it.

A flag is a hint and no verdict: each says what was seen and on which line. Everything is read with
`ast`; nothing of a submission is ever run here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from ..records import Answer, Puzzle
from .changes import changes, share_rewritten
from .reach import hidden_characters, imported_by, new_imports, new_reach, reached_by
from .reading import read
from .signatures import Signature, changed, signatures
from .special_cases import Inputs, Knowledge, inputs_of, knowledge_of, special_cases

LARGE = 0.2
"""A bug is a line or two in some three hundred, and its fix is rarely longer than ten. Who changes
a fifth of the code wrote another file, and that is to be read as one."""

MOST_OF_A_KIND = 6
"""Whoever has seen six need not be told of the seventh."""


class FlagKind(StrEnum):
    """What a flag is about."""

    SPECIAL_CASE = "special case"
    """It asks whether it is called by the visible test."""
    REACH = "reach"
    """It reaches for what no inference file has any use for."""
    IMPORT = "import"
    """It imports a package that the correct file does not."""
    SIGNATURE = "signature"
    """A public name is gone or is called otherwise."""
    HIDDEN = "hidden"
    """Its text holds characters that nobody sees."""
    LARGE = "large"
    """It is another file rather than a fix."""
    BUDGET = "budget"
    """It changes more lines than was allowed."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One thing to look at."""

    kind: FlagKind
    sentence: str
    line: int | None
    """Of the submission; None where it is about all of it, or about what is not there."""


def flags(
    puzzle: Puzzle, answer: Answer, source: str, *, max_lines: int | None = None
) -> tuple[Flag, ...]:
    """Return what to look at in a text, in the order of `FlagKind`; a text that is no Python has
    none but those on its length."""
    found: list[Flag] = []

    def note(kind: FlagKind, seen: Iterable[tuple[str, int | None]]) -> None:
        """Keep the first ones of a kind, in the order of their lines."""
        every = sorted(seen, key=lambda each: (each[1] or 0, each[0]))
        found.extend(Flag(kind, words, line) for words, line in every[:MOST_OF_A_KIND])
        if len(every) > MOST_OF_A_KIND:
            left = len(every) - MOST_OF_A_KIND
            found.append(Flag(kind, f"and {left} more of this kind", None))

    after = read(source)
    known = _known(puzzle.visible_tests, answer.original, puzzle.source)
    if after is not None and known is not None:
        now = signatures(after.tree)
        note(FlagKind.SPECIAL_CASE, special_cases(known.inputs, known.literals, after))
        note(FlagKind.REACH, new_reach(known.reach, after))
        note(FlagKind.IMPORT, new_imports(known.imports, after))
        note(FlagKind.SIGNATURE, changed(answer.public_names, known.correct, known.given, now))
    if not any(hidden_characters(puzzle.source)):
        note(FlagKind.HIDDEN, hidden_characters(source))
    if after is not None:
        share = share_rewritten(puzzle.source, source)
        if share >= LARGE:
            note(FlagKind.LARGE, [(f"{share:.0%} of the code is not as handed out", None)])
    lines = changes(puzzle.source, source).lines
    if max_lines is not None and lines > max_lines:
        note(FlagKind.BUDGET, [(f"{lines} lines changed, {max_lines} allowed", None)])
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Known:
    """All of a puzzle that a submission is compared with."""

    inputs: Inputs
    literals: Knowledge
    reach: frozenset[str]
    imports: frozenset[str]
    correct: Mapping[str, Signature]
    given: Mapping[str, Signature]


@lru_cache(maxsize=16)
def _known(visible_tests: str, original: str, source: str) -> _Known | None:
    tests, correct, given = read(visible_tests), read(original), read(source)
    if tests is None or correct is None or given is None:
        return None
    return _Known(
        inputs=inputs_of(tests),
        literals=knowledge_of(correct, given),
        reach=reached_by(correct, given),
        imports=imported_by(correct, given),
        correct=signatures(correct.tree),
        given=signatures(given.tree),
    )
