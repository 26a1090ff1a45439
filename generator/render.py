"""Write what people read of a puzzle: the brief before the hunt, the reveal after it.

Pure functions of the records; the words are in `templates/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from .records import Answer, PlantedBug, Promise, Puzzle, Subject
from .template import template

_MOST_SYMPTOMS = 2
"""Per bug: a user reports what they met, not every test that would fail."""


def with_brief(puzzle: Puzzle, subject: Subject, answer: Answer) -> Puzzle:
    """Return the puzzle with its brief: what the file does, the ticket, the rules, the commands."""
    brief = template("brief.md").render(
        puzzle=puzzle,
        bugs=_count(puzzle.bugs),
        description=subject.description,
        reference=subject.reference.rstrip("."),
        symptoms=ticket(answer),
        promises=answer.promises,
        hints=sum(len(bug.hints) for bug in answer.bugs),
    )
    return replace(puzzle, brief=brief)


def ticket(answer: Answer) -> tuple[str, ...]:
    """Return what users report: symptoms of the promises each bug breaks, in the tests' order.

    A bug that no user would notice is reported by the promise it breaks.
    """
    by_name = {promise.name: promise for promise in answer.promises}
    lines: list[str] = []
    for bug in answer.bugs:
        broken = [by_name[name] for name in bug.broken if name in by_name]
        symptoms = list(dict.fromkeys(p.symptom for p in broken if p.symptom))
        lines += symptoms[:_MOST_SYMPTOMS] or [_unnoticed(p) for p in broken[:1]]
    return tuple(dict.fromkeys(lines))


def reveal(puzzle: Puzzle, answer: Answer, *, paint: Callable[[str], str] = str) -> str:
    """Return the answer for a terminal: per bug the diff, the lesson, what it broke, sightings.

    `paint` may colour a diff.
    """
    return template("reveal.txt").render(
        file_name=puzzle.file_name,
        bugs=answer.bugs,
        paint=paint,
        texts={promise.name: promise.text for promise in answer.promises},
    )


def leaks(brief: str, puzzle: Puzzle, answer: Answer) -> list[str]:
    """Return what the brief gives away of the bugs, one sentence each; empty where nothing.

    Looked for: the mutator's name, written in any way, the lesson's title, a hint, a changed line,
    and a line number of the bug.
    """
    plain = _plain(brief)
    found: list[str] = []
    for bug in answer.bugs:
        if _plain(bug.mutator) in plain:
            found.append(f"the brief names the mutator {bug.mutator}")
        if _plain(bug.title) in plain:
            found.append(f"the brief holds the title of the lesson: {bug.title}")
        found += [f"the brief holds a hint: {h}" for h in bug.hints if _plain(h) in plain]
        found += [f"the brief holds a changed line: {c}" for c in _changed(bug) if c in brief]
        places = rf"(?:\blines?\s+|\bL|{re.escape(puzzle.file_name)}:){bug.line}\b"
        if re.search(places, brief, re.IGNORECASE):
            found.append(f"the brief names line {bug.line}")
    return found


def _unnoticed(promise: Promise) -> str:
    return f"Nobody complained yet, but a nightly check of ours fails: {promise.text}"


def _count(bugs: int) -> str:
    return {2: "Two", 3: "Three", 4: "Four"}.get(bugs, str(bugs))


def _plain(text: str) -> str:
    """Return the words alone, so that neither case, underscores nor line breaks hide a text."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def _changed(bug: PlantedBug) -> list[str]:
    """Return the lines that the diff takes or adds, without indentation."""
    body = [line for line in bug.diff.splitlines() if not line.startswith(("---", "+++"))]
    changed = [line[1:].strip() for line in body if line.startswith(("-", "+"))]
    return [line for line in changed if len(line) > 3]
