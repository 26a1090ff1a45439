"""The catalogue reads what the registry runs, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from halfhour.generator import catalogue
from halfhour.generator.errors import AuthorError
from halfhour.generator.records import SeenIn

FILE = '''"""A bug."""

import libcst as cst
from halfhour.mutators import Sighting, mutator


def _helper() -> None:
    """Not the bug."""


@mutator(
    topic="masking",
    family="window-edge",
    hints=["far", "near" "er", "near"],
    sightings=[
        Sighting("https://example.org/1", "a server"),
        Sighting(url="https://b.org", note="b"),
    ],
    mutates={"a": "b"},
)
def window_is_wide(node: cst.Name):
    """A window is wide.

    The rule.

    Why nobody noticed.
    """
    raise SystemExit("a listing runs nothing")
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "window_is_wide.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def test_an_entry_is_read_from_the_text(file: Path) -> None:
    assert catalogue.read_entry(file) == catalogue.Entry(
        name="window_is_wide",
        topic="masking",
        family="window-edge",
        title="A window is wide.",
        lesson="The rule.\n\nWhy nobody noticed.",
        hints=("far", "nearer", "near"),
        sightings=(SeenIn("https://example.org/1", "a server"), SeenIn("https://b.org", "b")),
        where=f"{file}:11",
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('topic="masking"', "topic=TOPIC", "11: `window_is_wide` must say its topic"),
        ('    family="window-edge",\n', "", "11: `window_is_wide` must say its topic, family"),
        ('hints=["far"', "hints=[far()", "as plain text"),
        ('Sighting("https://example.org/1", "a server")', "SEEN", "as plain text"),
        ("sightings=[", "sightings=SEEN + [", "as plain text"),
        ("@mutator(", "@other(", "1: holds no mutator"),
        ("def window_is_wide", "def def", "21: invalid syntax"),
    ],
)
def test_an_authors_mistake_starts_with_its_place(
    file: Path, old: str, new: str, says: str
) -> None:
    file.write_text(FILE.replace(old, new), encoding="utf-8")

    with pytest.raises(AuthorError) as caught:
        catalogue.read_entry(file)

    assert str(caught.value).startswith(f"{file}:")
    assert says in str(caught.value).removeprefix(f"{file}:")


def test_the_catalogue_is_the_registry() -> None:
    """Every mutator that runs is listed, in the same order and with the same words."""
    from halfhour.mutators import TOPICS, all_mutators

    assert catalogue.topics() == TOPICS
    listed = catalogue.entries()
    running = all_mutators()
    assert [entry.name for entry in listed] == [mutator.name for mutator in running]
    for entry, mutator in zip(listed, running, strict=True):
        assert (entry.title, entry.lesson) == (mutator.title, mutator.lesson)
        assert entry.where == mutator.where
        assert (entry.hints, entry.family) == (mutator.hints, mutator.family)
        assert [(s.url, s.note) for s in entry.sightings] == [
            (s.url, s.note) for s in mutator.sightings
        ]
