"""Write an author's first file: a bug or a correct file that already works, with plain words at
each place that is left to fill in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .template import template

_OPEN = re.compile(r"FILL IN\b:?\s*(?P<what>[^\"]*)")


def mutator_file(name: str, topic: str) -> str:
    """Return the text of a mutator whose examples hold."""
    return template("mutator.py").render(name=name, topic=topic)


def subject_files(name: str) -> dict[str, str]:
    """Return the texts of a subject's folder, by file name; the card comes last."""
    title = name.replace("_", " ").capitalize()
    return {
        target: template(source).render(name=name, title=title)
        for target, source in (
            (f"{name}.py", "subject.py"),
            ("test_visible.py", "subject_visible.py"),
            ("test_hidden.py", "subject_hidden.py"),
            ("subject.toml", "subject.toml"),
        )
    }


def still_open(text: str) -> Iterator[tuple[int, str]]:
    """Yield what an author has not filled in yet: the line, from 1, and what belongs there."""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _OPEN.search(line):
            yield number, found["what"].partition(". ")[0].strip().rstrip(".")
