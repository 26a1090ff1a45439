"""The table of what is certified: read at once, and that of the mutators and files as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import handmade
import pytest
import toy

from halfhour.generator import catalogue, library
from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.pack.table import (
    Certified,
    Table,
    read_table,
    surveyed,
    table_bytes,
    table_of,
)
from halfhour.generator.plant import plant
from halfhour.generator.records import Status
from halfhour.mutators import all_mutators

QUICK = ("streaming_detokenizer", "block_manager")
"""Subjects that are planted whenever the tests run; the others are, with `--thorough`."""


def a_table() -> Table:
    certificate = handmade.answer().certificate
    refused = replace(certificate, status=Status.NOISY, site=1, level=0)
    second = replace(certificate, mutator="another_bug", site=2, level=5)
    return table_of(
        [refused, certificate, second],
        {"toy": [handmade.MUTANT]},
        [toy.subject()],
        {certificate.mutator: "numerics", "another_bug": "sampling"},
    )


def test_it_holds_what_is_certified_in_a_fixed_order() -> None:
    table = a_table()

    assert [(each.mutator, each.topic, each.level) for each in table.puzzles] == [
        ("another_bug", "sampling", 5),
        ("divisor_counts_one_too_many", "numerics", 2),
    ]
    assert table.torch == "2.13.0"
    assert table.levels["toy", "another_bug"] == {5}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "certified.json"
    file.write_bytes(table_bytes(a_table()))

    assert read_table(file) == a_table()


def test_a_puzzle_is_a_line() -> None:
    lines = table_bytes(a_table()).decode().splitlines()

    assert sum('"mutator": "another_bug"' in line for line in lines) == 1
    assert len(lines) == 3 + 2 + 2 * 2 + 1 + 2


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', '{"format": 1, "puzzles": [{}]}'])
def test_a_damaged_table_says_how_to_make_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "certified.json").write_text(text, encoding="utf-8")

    with pytest.raises(EnvironmentFault, match=r"is damaged .*make certify"):
        read_table(tmp_path / "certified.json")


def test_a_missing_table_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match=r"cannot be read .*make certify"):
        read_table(tmp_path / "certified.json")


def test_reading_it_needs_neither_torch_nor_libcst() -> None:
    code = (
        "import sys\nfrom halfhour.generator.pack.table import read_table\nread_table()\n"
        "print(sorted({'torch', 'libcst', 'numpy', 'pytest'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert ended.stdout.strip() == "[]"


def test_every_bug_of_the_table_is_in_the_catalogue_under_its_topic() -> None:
    topics = {entry.name: entry.topic for entry in catalogue.built_in()}

    assert {each.mutator: topics.get(each.mutator) for each in read_table().puzzles} == (
        read_table().topics
    )


@pytest.mark.parametrize("name", sorted(library.folders()))
def test_it_was_made_with_the_files_and_promises_as_they_are(name: str) -> None:
    """Stale? `make certify` writes it anew."""
    known = {each.subject: each.text for each in read_table().subjects}

    assert known.get(name) == surveyed(library.find_subject(name), ()).text


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.thorough])
        for name in sorted(library.folders())
    ],
)
def test_it_was_made_with_the_mutators_as_they_are(name: str) -> None:
    """Stale? `make certify` writes it anew."""
    table, subject = read_table(), library.find_subject(name)
    mutants = plant(subject, all_mutators())
    places = {m.id: (m.mutator, m.site, m.line) for m in mutants}

    listed = [each for each in table.puzzles if each.subject == name]

    assert listed
    for each in listed:
        assert places.get(each.mutant) == (each.mutator, each.site, each.line), each
    assert surveyed(subject, mutants) in table.subjects


def test_levels_are_levels() -> None:
    assert {each.level for each in read_table().puzzles} == {1, 2, 3, 4, 5}
    assert all(isinstance(each, Certified) for each in read_table().puzzles)
    assert json.loads(table_bytes(read_table()))["format"] == 1
