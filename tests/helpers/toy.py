"""A subject of a dozen lines, and mutants of it that end in every status."""

from __future__ import annotations

import json
from pathlib import Path

from halfhour.generator.library import promises, public_names
from halfhour.generator.records import Edit, Mutant, Subject, digest

SOURCE = '''"""Mean and spread of a list of numbers."""


def mean(values: list[float]) -> float:
    """Return the mean of at least one value."""
    if not values:
        raise ValueError("values must not be empty")
    total = 0.0
    for value in values:
        total += value
    return total / len(values)


def spread(values: list[float]) -> float:
    """Return the mean distance from the mean."""
    middle = mean(values)
    return mean([abs(value - middle) for value in values])
'''

VISIBLE = '''"""One happy path."""

import toy


def test_mean_of_one_value() -> None:
    """The mean of one value is that value."""
    assert toy.mean([3.0]) == 3.0
'''

HIDDEN = '''"""The promises."""

import random

import pytest


@pytest.mark.symptom("Averages look too small.")
def test_mean_is_sum_over_count(subject, seed):
    """The mean is the sum divided by the count."""
    values = [random.Random(seed).uniform(1, 2) for _ in range(7)]
    assert subject.mean(values) == pytest.approx(sum(values) / 7)


@pytest.mark.symptom("The spread grows when everything moves up.")
def test_spread_ignores_a_shift(subject):
    """Adding the same number to all values leaves the spread alone."""
    assert subject.spread([1.0, 2.0, 6.0]) == pytest.approx(subject.spread([11.0, 12.0, 16.0]))


def test_spread_by_hand(subject):
    """The spread of 1, 2 and 6 is two."""
    assert subject.spread([1.0, 2.0, 6.0]) == pytest.approx(2.0)


def test_no_values_are_refused(subject):
    """An empty list is a caller's mistake."""
    with pytest.raises(ValueError):
        subject.mean([])
'''


def subject(
    *, source: str = SOURCE, visible: str = VISIBLE, hidden: str = HIDDEN, name: str = "toy"
) -> Subject:
    """Return the toy, or a variation of it."""
    return Subject(
        name=name,
        title="Mean and spread",
        topics=("numerics",),
        description="Two statistics of a list. Anyone may use it.",
        reference="by hand",
        source=source,
        visible_tests=visible,
        hidden_tests=hidden,
        promises=promises(hidden, Path("test_hidden.py")),
        visible_promises=promises(visible, Path("test_visible.py")),
        public_names=public_names(source, Path("toy.py")),
    )


def write(shelf: Path) -> None:
    """Write the toy as a folder of that shelf."""
    toy = subject()
    folder = shelf / toy.name
    folder.mkdir(parents=True)
    card = {"title": toy.title, "description": toy.description, "reference": toy.reference}
    lines = [f"{key} = {json.dumps(text)}" for key, text in card.items()]
    lines.append(f"topics = {json.dumps(toy.topics)}")
    texts = {
        "subject.toml": "\n".join(lines),
        toy.file_name: toy.source,
        "test_visible.py": toy.visible_tests,
        "test_hidden.py": toy.hidden_tests,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def mutant(old: str, new: str, *, of: Subject | None = None) -> Mutant:
    """Replace the only occurrence of `old` in the subject's text."""
    text = (of or subject()).source
    assert text.count(old) == 1, old
    start = text.index(old)
    edit = Edit(start, start + len(old), new)
    return Mutant(
        id=digest(text, old, new),
        subject="toy",
        mutator="by_hand",
        site=0,
        edit=edit,
        line=text.count("\n", 0, start) + 1,
        source=edit.apply(text),
    )
