"""A week is made in earnest: disguised, proven, and the same bytes wherever it is made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import toy
import toypack

from halfhour.generator.disguise import disguise
from halfhour.generator.judge.protection import rung_here
from halfhour.generator.pack.answers import answers_of
from halfhour.generator.pack.build import build
from halfhour.generator.pack.opened import Opened, open_zip
from halfhour.generator.pack.verify import differences, open_pack
from halfhour.generator.places import cache_dir
from halfhour.generator.records import Status

HELPERS = Path(toypack.__file__).parent


@dataclass(frozen=True, slots=True)
class Built:
    files: dict[str, bytes]
    told: list[tuple[int, int]]
    folder: Path

    def opened(self, name: str) -> Opened:
        return open_zip(self.folder / name)


def new_home(folder: Path) -> str:
    """Return a home in which nothing is proven, and known which protection there is."""
    rung_here()
    (folder / "cache").mkdir(parents=True)
    for known in cache_dir().glob("protection-*.json"):
        shutil.copy(known, folder / "cache")
    return str(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFHOUR_HOME", new_home(tmp_path_factory.mktemp("here") / "home"))
        told: list[tuple[int, int]] = []
        files = build(
            toypack.ORDER, toypack.catalogue(), (), progress=lambda *each: told.append(each)
        )
        folder = tmp_path_factory.mktemp("week")
        for name, data in files.items():
            (folder / name).write_bytes(data)
        yield Built(files, told, folder)


def test_what_is_built_is_sound(built: Built) -> None:
    assert list(differences(open_pack(built.folder / "halfhour-2026-W48.zip"))) == []


def test_the_puzzle_is_certified_in_its_disguise(built: Built) -> None:
    opened = built.opened("halfhour-2026-W48.answers.zip")
    ((puzzle, answer),) = answers_of(opened).puzzles
    (recipe,) = opened.answers.recipes

    assert (recipe.mutators, recipe.disguise) == (("distance_below_counts_as_none",), True)
    assert answer.original == disguise(toypack.subject("toy"), recipe.seed).source != toy.SOURCE
    assert answer.certificate.status is Status.CERTIFIED
    assert (puzzle.level, answer.certificate.level) == (3, 3)
    assert all(round(term.value, 6) == term.value for term in answer.certificate.terms)


def test_the_seed_is_told_to_the_publisher_alone(built: Built) -> None:
    opened = built.opened("halfhour-2026-W48.answers.zip")
    ((puzzle, _),) = answers_of(opened).puzzles
    (recipe,) = opened.answers.recipes

    assert (opened.answers.seed, puzzle.seed) == (5, 0)
    assert str(recipe.seed).encode() not in built.files["halfhour-2026-W48.zip"]
    assert "seed" not in puzzle.brief


def test_progress_tells_of_puzzles_and_steps_alone(built: Built) -> None:
    """One of the table's two bugs changes nothing, and is passed over if it is drawn first."""
    assert {place for place, _ in built.told} == {1}
    assert [step for _, step in built.told] == list(range(1, len(built.told) + 1))


def test_another_process_builds_the_same_bytes(built: Built, tmp_path: Path) -> None:
    """Another hash seed, another home and folder, another language."""
    found = subprocess.run(
        [sys.executable, str(HELPERS / "toypack.py")],
        env={
            **os.environ,
            "PYTHONHASHSEED": "4711",
            "HALFHOUR_HOME": new_home(tmp_path / "home"),
            "LANGUAGE": "de",
            "TZ": "Asia/Tokyo",
        },
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    assert json.loads(found.stdout) == toypack.digests(built.files)
