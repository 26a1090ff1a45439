"""A subject with calls, a bug in it, and the bug's ladder."""

from __future__ import annotations

from dataclasses import replace

import toy

from halfhour.generator import hints, textdiff
from halfhour.generator.records import Demonstration, Mutant, PlantedBug, Subject

SOURCE = '''"""Shares of a whole."""


class Counter:
    """Counts by name."""

    def __init__(self, names: list[str]) -> None:
        self._known = dict.fromkeys(names, 0)

    def add(self, name: str) -> None:
        """Count one."""
        self._known[name] += 1

    def shares(self) -> list[float]:
        """Return the share of each name, in order."""
        counts = list(self._known.values())
        return normalized(counts)

    def ranking(self) -> list[str]:
        """Return the names, the most frequent first."""
        ranked = sorted(self._known, key=lambda name: -self._known[name])
        if not ranked:
            return []
        best = ranked[0]
        others = ranked[1:]
        return [best, *others]


def normalized(counts: list[int]) -> list[float]:
    """Return the counts over their sum."""
    grand_total = _sum(counts)
    if grand_total == 0:
        return [0.0 for _ in counts]
    shares = [count / grand_total for count in counts]
    return shares


def _sum(counts: list[int]) -> int:
    found = 0
    for count in counts:
        found += count
    return found


def rounded(values: list[float]) -> list[float]:
    """Round to two digits."""
    result = []
    for value in values:
        result.append(round(value, 2))
    return result
'''
VISIBLE = '''"""One happy path."""

import toy


def test_nothing() -> None:
    """Nothing has no shares."""
    assert toy.normalized([]) == []
'''
HIDDEN = '''"""The promises."""


def _counted(subject, names):
    counter = subject.Counter(sorted(set(names)))
    for name in names:
        counter.add(name)
    return counter


def test_shares_sum_to_one(subject):
    """Shares sum to one."""
    assert sum(_counted(subject, "aab").shares()) == 1


def test_ranking(subject):
    """The most frequent name is first."""
    assert _counted(subject, "abb").ranking() == ["b", "a"]


def test_rounded(subject):
    """Values keep two digits."""
    assert subject.rounded([0.123]) == [0.12]
'''
SUBJECT = toy.subject(source=SOURCE, visible=VISIBLE, hidden=HIDDEN)
FAR, NEAR, RULE = "Count two names.", "What is divided by what?", "A share is a part of the sum."
SCRIPT = "import toy\nresult = toy.normalized([1, 3])\nprint(result)\n"
SHOWN = Demonstration(SCRIPT, "[0.25, 0.75]\n", "[0.2, 0.6]\n", "test_shares_sum_to_one")
MUTANT = toy.mutant("count / grand_total for", "count / (grand_total + 1) for", of=SUBJECT)


def planted(
    mutant: Mutant = MUTANT,
    *,
    shown: Demonstration | None = SHOWN,
    subject: Subject = SUBJECT,
    said: tuple[str, str, str] = (FAR, NEAR, RULE),
) -> PlantedBug:
    """Return the bug with its ladder."""
    bare = PlantedBug(
        mutant=mutant.id,
        mutator="share_of_one_more",
        topic="numerics",
        site=0,
        line=mutant.line,
        title="A share is too small.",
        lesson="",
        hints=said,
        sightings=(),
        diff=textdiff.unified(subject.source, mutant.source, "toy.py"),
        broken=("test_shares_sum_to_one",),
        demonstration=shown,
    )
    found = hints.ladder(subject, bare, mutant.edit, handed_out=mutant.source)
    return replace(bare, hints=found)
