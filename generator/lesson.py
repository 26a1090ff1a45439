"""What a reveal teaches beside the bug itself: why the visible tests missed it, and the way to it.

Written when the puzzle is crafted, kept as text. Pure functions of the records and of one traced
run of the visible tests.
"""

from __future__ import annotations

from collections.abc import Collection

from .anatomy import Anatomy
from .records import Certificate, PlantedBug, Subject
from .screen.profile import Profile


def missed(
    subject: Subject, bug: PlantedBug, certificate: Certificate, visible: Profile | None
) -> str:
    """Say why the visible tests pass with the bug; `visible` is a trace of them, if there is one.

    Without a trace nothing is said.
    """
    if visible is None:
        return ""
    file = Anatomy(subject.source)
    function = file.at(bug.line)
    texts = {promise.name: promise.text for promise in subject.visible_promises}
    if function is None:
        return f"{_tests(texts)} on inputs for which what stands there makes no difference."
    inside = range(function.first + 1, function.last + 1)
    if not any(line in lines for lines in visible.depths.values() for line in inside):
        return f"{_tests(texts)} without any call of `{function.name}`."
    first, last = file.statement_at(bug.line)
    through = [
        name
        for name in texts  # in the order of the tests, whatever the order of the trace
        if any(line in visible.depths.get(name, {}) for line in range(first, last + 1))
    ]
    if not through:
        return (
            f"{_tests(texts)} through `{function.name}`, but on a way that leaves out line"
            f" {bug.line}."
        )
    looked = texts[through[0]]
    said = f"The line does run in the visible tests, on an input for which it is right: {looked}"
    # What runs the line and does not mind says how special the input has to be.
    special = [t.words for t in certificate.terms if t.name == "special" and t.value > 0]
    return f"{said} Even so, {special[0]}." if special else said


def route(subject: Subject, bug: PlantedBug) -> tuple[str, ...]:
    """Return the way from a broken promise to the line by reading, a sentence for each stop.

    Taken is the promise from which the fewest calls lead there.
    """
    file = Anatomy(subject.source)
    goal = file.at(bug.line)
    texts = {promise.name: promise.text for promise in subject.promises}
    broken = [name for name in bug.broken if name in texts]
    if not broken:
        return ()
    if goal is None:
        return (
            f"`halfhour check` says what is broken: {texts[broken[0]]}",
            f"What it rests on is set outside of functions, in line {bug.line}.",
        )
    ways = [(file.path(file.entered_by(subject.hidden_tests, name), goal), name) for name in broken]
    way, name = min(
        ((way, name) for way, name in ways if way),
        key=lambda found: (len(found[0]), broken.index(found[1])),
        default=((goal,), broken[0]),
    )
    return (
        f"`halfhour check` says what is broken: {texts[name]}",
        f"`{way[0].name}` in line {way[0].first} has to keep that: begin there.",
        *(f"It calls `{below.name}`, line {below.first}." for below in way[1:]),
        f"Ask of each line what the promise makes of it; line {bug.line} has no good answer.",
    )


def _tests(texts: Collection[str]) -> str:
    return "The visible test passes" if len(texts) == 1 else "The visible tests pass"
