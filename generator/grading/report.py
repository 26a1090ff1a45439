"""What a person reads when all is judged: rows, a table for a spreadsheet, one page.

The order of rows follows from what was handed in, never from the order of judging. Names and texts
are anyone's: they can neither steer a terminal, nor become a formula, nor markup.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..judge.plain import plain
from ..records import Answer, Puzzle, Verdict, VerdictKind
from ..template import template
from .changes import Changes, alike, changes, code_digest
from .flags import Flag, flags
from .records import Graded, Submission

if TYPE_CHECKING:
    from ..pack.answers import Answers

MOST_DIFF_LINES = 200
"""What is longer is no diff any more, and the file itself is easier to read."""
_COLUMNS = (
    *("number", "puzzle", "asked for", "candidate", "file", "verdict", "kept", "of", "why"),
    *("lines", "added", "removed", "flags", "what to look at", "same as", "alike"),
    *("runs", "rung", "device", "sha256"),
)
_MOST_CELL = 2000
_MOST_DIFF_LINE = 500
_FORMULA = "=+-@\t\r＝＋－＠"  # noqa: RUF001 (a spreadsheet may read the wide ones too)
_MARKS = {"+": "new", "-": "old", "@": "place", "\\": "place"}


@dataclass(frozen=True, slots=True)
class Row:
    """One submission with all that is to be said of it."""

    number: int
    """Its place, from 1."""
    submission: Submission
    puzzle: Puzzle | None
    """None where nothing tells which one is meant."""
    verdict: Verdict
    runs: int
    changes: Changes | None
    """From the file as handed out; None where there is no text."""
    flags: tuple[Flag, ...]
    same_as: str
    """`the correct file` or `the file as handed out`, where its code is that; else empty."""
    alike: tuple[int, ...]
    """The numbers of other rows with this code; empty where `same_as` says why they have it."""

    @property
    def kept(self) -> int:
        return sum(result.kept for result in self.verdict.results)


@dataclass(frozen=True, slots=True)
class _Read:
    """What is said of a text, whoever handed it in."""

    changes: Changes
    flags: tuple[Flag, ...]
    code: str
    same_as: str


@dataclass(frozen=True, slots=True)
class _Chapter:
    """A puzzle with its rows and how many of them there are of each kind."""

    title: str
    file: str
    rows: tuple[Row, ...]

    def count(self, kind: str) -> int:
        return sum(row.verdict.kind == kind for row in self.rows)


def rows(
    graded: Sequence[Graded], answers: Answers, *, max_lines: int | None = None
) -> tuple[Row, ...]:
    """Return what is to be said of each submission: by puzzle, candidate and place."""
    pairs = {puzzle.id: (puzzle, answer) for puzzle, answer in answers.puzzles}
    places = {puzzle: place for place, puzzle in enumerate(pairs)}

    def order(each: Graded) -> tuple[int, str, str, str]:
        one = each.submission
        return places.get(one.puzzle, len(places)), one.candidate, one.where, one.digest

    ordered = sorted(graded, key=order)
    known: dict[tuple[str, str], _Read] = {}
    read: list[_Read | None] = []
    for each in ordered:
        one = each.submission
        key = one.puzzle, one.digest
        if one.source is not None and one.puzzle in pairs and key not in known:
            known[key] = _read(*pairs[one.puzzle], one.source, max_lines)
        read.append(known.get(key))
    codes = [
        (number, f"{each.submission.puzzle} {seen.code}")
        for number, (each, seen) in enumerate(zip(ordered, read, strict=True), start=1)
        if seen is not None and not seen.same_as
    ]
    others = alike(codes)
    return tuple(
        Row(
            number=number,
            submission=each.submission,
            puzzle=pairs[each.submission.puzzle][0] if each.submission.puzzle in pairs else None,
            verdict=each.verdict,
            runs=each.runs,
            changes=seen.changes if seen else None,
            flags=seen.flags if seen else (),
            same_as=seen.same_as if seen else "",
            alike=others.get(number, ()),
        )
        for number, (each, seen) in enumerate(zip(ordered, read, strict=True), start=1)
    )


def as_json(row: Row, *, quiet: bool = False) -> dict[str, object]:
    """Return a row for scripts; `quiet` names no promise."""
    verdict, changed = row.verdict, row.changes
    return {
        "number": row.number,
        "candidate": row.submission.candidate,
        "file": row.submission.where,
        "puzzle": row.submission.puzzle,
        "sha256": row.submission.digest,
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "kept": row.kept,
        "of": len(verdict.results),
        "broken": [] if quiet else list(verdict.broken),
        "runs": row.runs,
        "device": verdict.device,
        "rung": verdict.rung,
        "lines": None if changed is None else changed.lines,
        "added": None if changed is None else changed.added,
        "removed": None if changed is None else changed.removed,
        "flags": [
            {"kind": flag.kind, "sentence": flag.sentence, "line": flag.line} for flag in row.flags
        ],
        "same_as": row.same_as,
        "alike": list(row.alike),
    }


def csv_text(table: Sequence[Row], *, quiet: bool = False) -> str:
    """Return a table for a spreadsheet, in which no cell is a formula; `quiet` names no promise."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(_COLUMNS)
    for row in table:
        changed = row.changes
        size = (changed.lines, changed.added, changed.removed) if changed else ("", "", "")
        cells: tuple[object, ...] = (
            *(row.number, row.submission.puzzle, row.puzzle.file_name if row.puzzle else ""),
            *(row.submission.candidate, row.submission.where, row.verdict.kind),
            *(row.kept, len(row.verdict.results), why(row, quiet=quiet), *size),
            len(row.flags),
            "; ".join(flag_words(flag) for flag in row.flags),
            *(row.same_as, " ".join(map(str, row.alike))),
            *(row.runs, row.verdict.rung, row.verdict.device, row.submission.digest),
        )
        writer.writerow([_cell(cell) for cell in cells])
    return out.getvalue()


def html_text(table: Sequence[Row], answers: Answers, *, quiet: bool = False) -> str:
    """Return one page that needs nothing but itself; `quiet` names no promise."""
    chapters = [
        _Chapter(p.title, p.file_name, tuple(row for row in table if row.puzzle == p))
        for p, _ in answers.puzzles
    ]
    strays = tuple(row for row in table if row.puzzle is None)
    if strays:
        chapters.append(_Chapter("Of no puzzle", "", strays))
    shown: dict[tuple[str, str], int] = {}
    for row in table:
        shown.setdefault((row.submission.puzzle, row.submission.digest), row.number)
    return template("grades.html").render(
        name=plain(answers.name, limit=200),
        kinds=[str(kind) for kind in VerdictKind],
        counts=Counter(str(row.verdict.kind) for row in table),
        chapters=chapters,
        rows=table,
        quiet=quiet,
        plain=lambda text: plain(text, limit=_MOST_CELL),
        why=lambda row: why(row, quiet=quiet),
        words=lambda kind: str(kind).replace("_", " "),
        first=lambda row: shown[row.submission.puzzle, row.submission.digest],
        diff_lines=_diff_lines,
        left_out=lambda diff: max(0, diff.count("\n") - 2 - MOST_DIFF_LINES),
    )


def why(row: Row, *, quiet: bool = False) -> str:
    """Say in a line why the verdict is what it is; `quiet` names no promise."""
    if row.verdict.kind is VerdictKind.NOT_FIXED and not quiet:
        return ", ".join(row.verdict.broken)
    return plain(row.verdict.reason, limit=_MOST_CELL)


def flag_words(flag: Flag) -> str:
    """Return a flag as one line."""
    place = f"line {flag.line} " if flag.line is not None else ""
    return plain(f"{flag.kind}: {place}{flag.sentence}", limit=_MOST_CELL)


def _read(puzzle: Puzzle, answer: Answer, source: str, max_lines: int | None) -> _Read:
    code = code_digest(source)
    names: Mapping[str, str] = {
        code_digest(puzzle.source): "the file as handed out",
        code_digest(answer.original): "the correct file",
    }
    return _Read(
        changes=changes(puzzle.source, source, puzzle.file_name),
        flags=flags(puzzle, answer, source, max_lines=max_lines),
        code=code,
        same_as=names.get(code, ""),
    )


def _cell(value: object) -> str:
    """Return a cell that a spreadsheet shows and does not work out."""
    text = plain(str(value), limit=_MOST_CELL)
    return f"'{text}" if text.lstrip()[:1] in (*_FORMULA,) else text


def _diff_lines(diff: str) -> list[tuple[str, str]]:
    """Return the first lines of a diff, each with what it is."""
    body = diff.rstrip("\n").split("\n")[2 : 2 + MOST_DIFF_LINES] if diff else []
    return [
        (_MARKS.get(line[:1], "same"), plain(line, limit=_MOST_DIFF_LINE, lines=True))
        for line in body
    ]
