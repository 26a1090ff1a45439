"""The manifests: the same bytes always, and honest about damage."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import handmade
import packs
import pytest

from halfhour.generator.errors import UnsoundPuzzle, UsageError
from halfhour.generator.pack.manifest import (
    AnswersManifest,
    Manifest,
    Recipe,
    manifest_bytes,
    read_answers_manifest,
    read_manifest,
)

MANIFEST = packs.manifest_of([(handmade.puzzle(), handmade.answer())])
ANSWERS = AnswersManifest(
    week=MANIFEST.week,
    version=MANIFEST.version,
    torch="2.13.0",
    seed=7,
    puzzles=MANIFEST.puzzles,
    recipes=(Recipe("toy", (handmade.BUG.mutator,), (0,), seed=7, disguise=False),),
)


def test_what_is_written_is_read_again() -> None:
    assert read_manifest(manifest_bytes(MANIFEST), "m") == MANIFEST
    assert read_answers_manifest(manifest_bytes(ANSWERS), "m") == ANSWERS


def test_any_title_survives() -> None:
    title = 'naïve ∑ 🙂 "quoted" \\ and\nmore'
    manifest = replace(MANIFEST, puzzles=(replace(MANIFEST.puzzles[0], title=title),))

    assert read_manifest(manifest_bytes(manifest), "m") == manifest


def test_the_candidates_manifest_has_no_recipe() -> None:
    text = manifest_bytes(MANIFEST).decode()

    assert not {"recipes", "seed", "mutators", "sites"} & set(json.loads(text))
    assert "divisor_counts_one_too_many" not in text
    assert "divisor_counts_one_too_many" in manifest_bytes(ANSWERS).decode()


def test_keys_of_a_later_halfhour_are_let_be() -> None:
    content = {**json.loads(manifest_bytes(MANIFEST)), "colour": "blue"}

    assert read_manifest(json.dumps(content).encode(), "m") == MANIFEST


def test_each_manifest_is_known_from_the_other() -> None:
    with pytest.raises(UsageError, match="holds the answers of a week"):
        read_manifest(manifest_bytes(ANSWERS), "there")
    with pytest.raises(UsageError, match="holds the puzzles of a week"):
        read_answers_manifest(manifest_bytes(MANIFEST), "there")


def test_one_of_a_newer_halfhour_says_to_upgrade() -> None:
    with pytest.raises(UnsoundPuzzle, match=r"newer halfhour \(format 2; .* pip install"):
        read_manifest(b'{"format": 2}', "there")


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[]", b"null", b'{"format": 1', b"[" * 100_000, b'{"format": ' + b"9" * 5000],
    ids=["empty", "no text", "list", "null", "cut short", "deep", "long number"],
)
def test_what_is_no_manifest_is_damaged(data: bytes) -> None:
    with pytest.raises(UnsoundPuzzle, match="there is damaged: "):
        read_manifest(data, "there")


def _set(*path: str | int, to: object) -> Callable[[Any], None]:
    def change(content: Any) -> None:
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = to

    return change


def _double(content: Any) -> None:
    content["puzzles"].append({**content["puzzles"][0], "folder": "2-0badcafe"})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("format", to=0), "whole number from 1"),
        (_set("format", to=True), "whole number from 1"),
        (_set("kind", to="other"), "kind"),
        (_set("week", to="2026-W54"), "2026-W54 is no week"),
        (_set("answers", to="0" * 63), "SHA-256"),
        (_set("judged", to=1), "bool was expected"),
        (_set("puzzles", to=[]), "1 to 10 puzzles"),
        (_set("puzzles", to={}), "a list was expected"),
        (_set("puzzles", 0, "level", to=6), "level 6"),
        (_set("puzzles", 0, "level", to="2"), "int was expected"),
        (_set("puzzles", 0, "bugs", to=0), "must be positive"),
        (_set("puzzles", 0, "id", to="../evil"), "is no puzzle id"),
        (_set("puzzles", 0, "folder", to="2-0badcafe"), "not the folder of puzzle 1"),
        (_set("puzzles", 0, "file", to="../toy.py"), "is not the file of a subject"),
        (_set("puzzles", 0, "files", 0, "name", to="/etc/passwd"), "is no name of a file"),
        (_set("puzzles", 0, "files", 0, "name", to="a/../b"), "is no name of a file"),
        (_set("puzzles", 0, "files", 0, "name", to="toy.py"), "names a file twice"),
        (_set("puzzles", 0, "files", 0, "sha256", to="x"), "SHA-256"),
        (lambda content: content.pop("version"), "'version' is missing"),
        (_double, "the same id"),
    ],
)
def test_a_manifest_that_cannot_be_is_damaged(change: Callable[[Any], None], says: str) -> None:
    content = json.loads(manifest_bytes(MANIFEST))
    change(content)

    with pytest.raises(UnsoundPuzzle, match=f"there is damaged: .*{says}"):
        read_manifest(json.dumps(content).encode(), "there")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_set("recipes", to=[]), "not those of its puzzles"),
        (_set("recipes", 0, "subject", to="other"), "not those of its puzzles"),
        (_set("recipes", 0, "sites", to=[0, 1]), "another number of bugs"),
        (_set("seed", to="7"), "int was expected"),
    ],
)
def test_recipes_belong_to_the_puzzles(change: Callable[[Any], None], says: str) -> None:
    content = json.loads(manifest_bytes(ANSWERS))
    change(content)

    with pytest.raises(UnsoundPuzzle, match=says):
        read_answers_manifest(json.dumps(content).encode(), "there")


def test_types_of_the_two() -> None:
    assert isinstance(read_manifest(manifest_bytes(MANIFEST), "m"), Manifest)
    assert isinstance(read_answers_manifest(manifest_bytes(ANSWERS), "m"), AnswersManifest)
