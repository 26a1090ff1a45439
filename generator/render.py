"""Write what people read of a puzzle: the brief before the hunt, the reveal after it.

Pure functions of the records; the words are in `templates/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from . import spoilers
from .messages import tr
from .records import Answer, Packed, PlantedBug, Promise, Puzzle, Subject
from .template import template

_MOST_SYMPTOMS = 2
"""Per bug: a user reports what they met, not every test that would fail."""
_WORDS_OF_A_HINT = 3
"""A line of a hint that is shorter may stand in any text."""
_HEADS_OF_A_DIFF = ("--- a/", "+++ b/")
"""Of these lines only the file's name is a word, and every brief tells that."""


def with_brief(
    puzzle: Puzzle,
    subject: Subject,
    answer: Answer,
    *,
    blind: bool = False,
    packed: Packed | None = None,
) -> Puzzle:
    """Return the puzzle with its brief: what the file does, the ticket, the rules, the commands.

    `blind` leaves out the ticket. The brief of a packed puzzle names no seed; without a judge it
    tells what can be done without one.
    """
    brief = template("brief.md").render(
        puzzle=puzzle,
        bugs=_count(puzzle.bugs),
        description=subject.description,
        flow=subject.flow,
        reference=subject.reference.rstrip("."),
        symptoms=() if blind else ticket(answer),
        promises=answer.promises,
        hints=sum(len(bug.hints) for bug in answer.bugs),
        packed=packed is not None,
        judged=packed is not Packed.WITHOUT_JUDGE,
    )
    return replace(puzzle, brief=brief)


def ticket(answer: Answer) -> tuple[str, ...]:
    """Return what users report: symptoms of the promises each bug breaks, in the tests' order.

    A symptom that names something of the changed line is left out. A bug that no user would
    notice is reported by the promise it breaks.
    """
    by_name = {promise.name: promise for promise in answer.promises}
    lines: list[str] = []
    for bug in answer.bugs:
        broken = [by_name[name] for name in bug.broken if name in by_name]
        symptoms = list(dict.fromkeys(p.symptom for p in broken if p.symptom))
        symptoms = [s for s in symptoms if not _told_by_ticket(s, bug, answer)]
        others = [_unnoticed(p) for p in broken]
        others = [text for text in others if not _told_by_ticket(text, bug, answer)]
        lines += symptoms[:_MOST_SYMPTOMS] or others[:1] or [_UNNAMED]
    return tuple(dict.fromkeys(lines))


def reveal(
    puzzle: Puzzle,
    answer: Answer,
    *,
    paint: Callable[[str], str] = str,
    tr: Callable[..., str] = tr,
) -> str:
    """Return the answer for a terminal, per bug: the diff and the lesson, the smallest input with
    its values, why the visible tests missed it, the way to it, and where it truly happened.

    What an older puzzle does not hold is left out. `paint` may colour a diff, `tr` translates.
    """
    return template("reveal.txt").render(
        file_name=puzzle.file_name,
        bugs=answer.bugs,
        paint=paint,
        tr=tr,
        texts={promise.name: promise.text for promise in answer.promises},
    )


def leaks(brief: str, puzzle: Puzzle, answer: Answer) -> list[str]:
    """Return what the brief gives away of the bugs, one sentence each; empty where nothing.

    Looked for: the mutator's name, written in any way; the lesson's title; a line of a hint, the
    promises aside; a line of the demonstration; a changed line; a line number of the bug; and the
    names of the changed line. Of these the whole brief may tell none that is private to the file
    (a local variable, a helper), and the ticket, which alone depends on the bug, none at all that
    the rest of the brief does not tell. What counts as telling is said in `spoilers.told`: a word
    of plain English that is also a name tells nothing.
    """
    plain = _plain(brief)
    promised = [_plain(promise.text) for promise in answer.promises]
    found: list[str] = []
    for bug in answer.bugs:
        if _plain(bug.mutator) in plain:
            found.append(f"the brief names the mutator {bug.mutator}")
        if _plain(bug.title) in plain:
            found.append(f"the brief holds the title of the lesson: {bug.title}")
        found += [
            f"the brief holds a hint: {line}"
            for line in _lines_of_hints(bug)
            if _plain(line) in plain and not any(_plain(line) in text for text in promised)
        ]
        changed = [
            line
            for line in spoilers.changed_lines(bug.diff)
            if len(line) > 3 and not line.isidentifier()  # `break` alone is a word of English
        ]
        held = [line for line in changed if line in brief]
        found += [f"the brief holds a changed line: {line}" for line in held]
        places = rf"(?:\blines?\s+|\bL|{re.escape(puzzle.file_name)}:){bug.line}\b"
        if re.search(places, brief, re.IGNORECASE):
            found.append(f"the brief names line {bug.line}")
        if held:
            continue  # its names are told with it
        names = spoilers.told(brief, spoilers.secret_names(bug.diff, answer.original))
        names += [
            name
            for line in brief.splitlines()
            if line.startswith("> ")
            for name in _told_by_ticket(line, bug, answer, rest=_without_ticket(brief))
        ]
        found += [f"the brief names {n} of the changed line" for n in dict.fromkeys(names)]
    return found


def _told_by_ticket(text: str, bug: PlantedBug, answer: Answer, *, rest: str = "") -> list[str]:
    """Return the names of the changed line that a symptom tells, and what is fixed does not."""
    names = spoilers.names_in(spoilers.changed_lines(bug.diff))
    rest = rest or " ".join(promise.text for promise in answer.promises)
    return [name for name in spoilers.told(text, names) if not re.search(rf"\b{name}\b", rest)]


def _without_ticket(brief: str) -> str:
    return "\n".join(line for line in brief.splitlines() if not line.startswith("> "))


def _lines_of_hints(bug: PlantedBug) -> list[str]:
    texts = list(bug.hints)
    if bug.demonstration is not None:
        texts.append(bug.demonstration.script)
    lines = [line.strip() for text in texts for line in text.split("\n")]
    told = [line for line in lines if not line.startswith(_HEADS_OF_A_DIFF)]
    return [line for line in told if len(_plain(line).split()) >= _WORDS_OF_A_HINT]


_UNNAMED = "Nobody complained yet, but a nightly check of ours fails. Nobody looked into it so far."


def _unnoticed(promise: Promise) -> str:
    return f"Nobody complained yet, but a nightly check of ours fails: {promise.text}"


def _count(bugs: int) -> str:
    return {2: "Two", 3: "Three", 4: "Four"}.get(bugs, str(bugs))


def _plain(text: str) -> str:
    """Return the words alone, so that neither case, underscores nor line breaks hide a text."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))
