"""A pack of one toy, proven in earnest; as a script, print the digests of its files."""

from __future__ import annotations

import hashlib
import json

import toy

from halfhour.generator.pack.build import Catalogue, build
from halfhour.generator.pack.order import Order
from halfhour.generator.pack.table import Certified, Table
from halfhour.generator.pack.week import Week
from halfhour.generator.records import Subject
from halfhour.mutators import Sighting, mutator

ORDER = Order(Week(2026, 48), seed=5, count=1)

MORE = '''

def test_spread_of_equal_values_is_none(subject):
    """Equal values have no spread."""
    assert subject.spread([4.0, 4.0, 4.0]) == 0.0


def test_spread_is_never_negative(subject):
    """A spread is zero or more."""
    assert subject.spread([-3.0, 1.0]) >= 0.0
'''


@mutator(
    topic="numerics",
    family="by-hand",
    hints=["Try it.", "Look there.", "The rule."],
    sightings=[Sighting("https://example.org/issues/1", "in a toy")],
    rewrites={"abs($value - $middle)": "max(0.0, $value - $middle)"},
    mutates={"x = abs(a - b)": "x = max(0.0, a - b)"},
)
def distance_below_counts_as_none() -> None:
    """What lies below the middle has no distance.

    A lesson.
    """


@mutator(
    topic="numerics",
    family="by-hand",
    hints=["Try it.", "Look there.", "The rule."],
    sightings=[Sighting("https://example.org/issues/1", "in a toy")],
    rewrites={"abs($value - $middle)": "abs($middle - $value)"},
    mutates={"x = abs(a - b)": "x = abs(b - a)"},
)
def distance_is_turned_around() -> None:
    """The distance is taken the other way round, which changes nothing.

    A lesson.
    """


def subject(name: str) -> Subject:
    """Return the toy with promises that do not mind its bug: it is of level 3 then."""
    assert name == "toy"
    return toy.subject(hidden=toy.HIDDEN + MORE)


def catalogue() -> Catalogue:
    """Return the toy's two bugs, of which the table has it that both are puzzles."""
    bugs = {each.name: each for each in (distance_below_counts_as_none, distance_is_turned_around)}
    rows = [Certified("toy", name, "numerics", 0, 18, 3, "m" * 64) for name in sorted(bugs)]
    return Catalogue(Table("1", "1", (), tuple(rows)), subject, bugs)


def digests(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


if __name__ == "__main__":
    print(json.dumps(digests(build(ORDER, catalogue(), ()))))
