"""The ladder of one bug: five steps from far to near, written from the file and its certificate.

1. what to leave alone: two parts of the file without a bug, which the broken promises run, too
2. an experiment: the script that shows the bug, without what it prints, or something to try
3. the function, and a promise that it breaks
4. the line with its neighbours, the values with the bug and without, the rule
5. the fix

The first two steps tell no name of the changed line (see `spoilers`), the third no line number.
Pure functions of the records.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from difflib import SequenceMatcher

from . import spoilers, textdiff
from .anatomy import Anatomy, Function
from .records import Demonstration, Edit, PlantedBug, Subject

STEPS = 5
_RULED_OUT = 2
_WORTH_NAMING = 4
"""Lines of a function: one that is shorter is no part of a file to wonder about."""
_LINE_NUMBER = re.compile(r"\b(?:lines?|L)\s*\d+\b|\.py:\d+", re.IGNORECASE)


def ladder(
    subject: Subject,
    bug: PlantedBug,
    edit: Edit,
    *,
    handed_out: str,
    elsewhere: Collection[int] = (),
) -> tuple[str, ...]:
    """Return the five steps for a bug whose `hints` are still its mutator's own three.

    `edit` plants the bug alone; `handed_out` is the file with all the bugs of the puzzle, of which
    the others stand at the lines `elsewhere` of the correct file.
    """
    far, near, rule = bug.hints
    file = Anatomy(subject.source)
    names = spoilers.secret_names(bug.diff, subject.source)
    return (
        _leave_alone(subject, bug, file, names, {bug.line, *elsewhere}),
        _try(subject, bug, names, far),
        _look_at(subject, bug, file, near),
        _between(subject, bug, handed_out, rule),
        _fix(subject, edit),
    )


def problems(bug: PlantedBug, original: str) -> list[str]:
    """Return what a ladder gives away too early, a sentence each; empty where nothing."""
    names = spoilers.secret_names(bug.diff, original)
    found: list[str] = []
    for number, step in enumerate(bug.hints[:2], start=1):
        prose, _, script = step.partition("\n\n")
        early = spoilers.told(prose, names)
        if script:
            early += spoilers.told_by_script(_flush(script), names)
        found += [f"hint {number} names {name}, which the changed line holds" for name in early]
    found += [f"hint 3 names a line: {said}" for said in _LINE_NUMBER.findall(bug.hints[2])]
    return found


def _leave_alone(
    subject: Subject,
    bug: PlantedBug,
    file: Anatomy,
    names: Collection[str],
    buggy_lines: Collection[int],
) -> str:
    spared = _innocent(subject, bug, file, names, buggy_lines)
    if not spared:
        return "Names, types, comments and docstrings are right: the bug is in what is computed."
    if len(spared) == 1:
        return f"Leave `{spared[0]}` alone: it is right as it stands."
    first, second = spared
    return f"Leave `{first}` and `{second}` alone: both are right as they stand."


def _innocent(
    subject: Subject,
    bug: PlantedBug,
    file: Anatomy,
    names: Collection[str],
    buggy_lines: Collection[int],
) -> list[str]:
    """Return the public functions that most of the broken promises run, which hold no bug.

    What the changed line itself calls is not named, so that no name here points at it.
    """
    reached = [
        file.reached(file.entered_by(subject.hidden_tests, promise)) for promise in bug.broken
    ]
    mentioned = spoilers.names_in(spoilers.changed_lines(bug.diff))
    guilty = {f.name for line in buggy_lines if (f := file.at(line)) is not None}

    def suspicion(function: Function) -> tuple[int, int, int]:
        often = sum(function.name in each for each in reached)
        return -often, -(function.last - function.first), function.first

    candidates = [
        f
        for f in file.functions
        if f.public
        and f.name not in guilty
        and f.bare not in mentioned
        and f.owner not in mentioned
        and f.last - f.first >= _WORTH_NAMING
        and not spoilers.told(f"`{f.name}`", names)
    ]
    chosen = sorted(candidates, key=suspicion)[:_RULED_OUT]
    return [f.name for f in sorted(chosen, key=lambda f: f.first)]


def _try(subject: Subject, bug: PlantedBug, names: Collection[str], far: str) -> str:
    shown = bug.demonstration
    if shown is not None and not spoilers.told_by_script(shown.script, names):
        return (
            "Run this beside your file (it prints one thing with the bug and another without), and"
            " work out by hand what it should print:\n\n" + _indented(shown.script)
        )
    if not spoilers.told(far, names):
        return far
    text = _text(subject, bug)
    return f"Take the smallest input that you can work out by hand, and try this on it: {text}"


def _look_at(subject: Subject, bug: PlantedBug, file: Anatomy, near: str) -> str:
    function = file.at(bug.line)
    if function is not None:
        place = f"`{function.name}`"
    else:
        within = [n for n, (first, last) in file.classes.items() if first <= bug.line <= last]
        place = f"the fields of `{within[0]}`" if within else "what stands outside of functions"
    said = f"\n{near}" if not _LINE_NUMBER.search(near) else ""
    return f"The bug is in {place}. It breaks this promise: {_text(subject, bug)}{said}"


def _between(subject: Subject, bug: PlantedBug, handed_out: str, rule: str) -> str:
    lines = handed_out.split("\n")
    first, last = place_in(subject.source, handed_out, bug.line)
    above, below = max(1, first - 1), min(len(lines), last + 1)
    width = len(str(below))
    shown = [f"    {number:>{width}}  {lines[number - 1]}" for number in range(above, below + 1)]
    parts = ["It is here:", "\n".join(line.rstrip() for line in shown)]
    if bug.demonstration is not None:
        parts.append(values(bug.demonstration))
    return "\n\n".join([*parts, rule])


def values(shown: Demonstration) -> str:
    """Say what the script of a demonstration prints beside either file."""
    return (
        "With the bug the experiment prints\n\n"
        f"{_indented(shown.buggy)}\n\nand without it\n\n{_indented(shown.correct)}"
    )


def _fix(subject: Subject, edit: Edit) -> str:
    buggy = edit.apply(subject.source)
    diff = textdiff.unified(buggy, subject.source, subject.file_name)
    return "The fix (- as it is, + as it should be):\n\n" + diff.rstrip("\n")


def place_in(original: str, handed_out: str, line: int) -> tuple[int, int]:
    """Return first and last line, in the file as handed out, of the change at a correct line.

    Where lines were taken away it is the line above the gap and the one below it.
    """
    matcher = SequenceMatcher(None, original.split("\n"), handed_out.split("\n"), autojunk=False)
    changes = [each for each in matcher.get_opcodes() if each[0] != "equal"]
    if not changes:
        return line, line

    def distance(change: tuple[str, int, int, int, int]) -> int:
        _, start, stop, _, _ = change
        return max(start + 1 - line, line - max(start + 1, stop), 0)

    _, _, _, start, stop = min(changes, key=distance)
    return (start + 1, stop) if stop > start else (max(1, start), start + 1)


def _text(subject: Subject, bug: PlantedBug) -> str:
    """Return a broken promise in words: that of the demonstration, else the first."""
    texts = {promise.name: promise.text for promise in subject.promises}
    names: Sequence[str] = bug.broken
    if bug.demonstration is not None and bug.demonstration.promise in texts:
        names = [bug.demonstration.promise]
    return next((texts[name] for name in names if name in texts), "")


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.rstrip("\n").split("\n"))


def _flush(text: str) -> str:
    return "\n".join(line[4:] for line in text.split("\n"))
