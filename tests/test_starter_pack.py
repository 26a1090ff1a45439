"""The committed puzzles are what the recipe makes, and each is a puzzle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import starter

from halfhour.generator import store
from halfhour.generator.judge import Judge
from halfhour.generator.records import Trial, VerdictKind

FOLDERS = sorted(path for path in starter.PACK.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    with Judge() as judge:
        yield judge


def judged(judge: Judge, folder: Path, source: str) -> VerdictKind:
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)
    trial = Trial(
        name=puzzle.subject,
        source=source,
        tests=answer.hidden_tests,
        promises=answer.promises,
        public_names=answer.public_names,
        seed=9_000_000_019,
    )
    return judge.verdict(trial).kind


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_there_are_four_over_both_subjects_and_several_levels() -> None:
    puzzles = [store.read_puzzle(folder) for folder in FOLDERS]

    assert len(puzzles) == 4
    assert {p.subject for p in puzzles} == {"sliding_window_decoder", "token_sampler"}
    assert len({p.level for p in puzzles}) >= 2


@pytest.mark.parametrize("entry", starter.recipe(), ids=lambda e: e.mutator)
def test_the_recipe_makes_the_same_bytes(entry: starter.Entry, tmp_path: Path) -> None:
    built = starter.build(entry, tmp_path)

    assert contents(built) == contents(starter.PACK / built.name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_puzzle_fails_as_shipped_and_passes_when_healed(judge: Judge, folder: Path) -> None:
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)

    assert judged(judge, folder, puzzle.source) is VerdictKind.NOT_FIXED
    assert judged(judge, folder, answer.original) is VerdictKind.FIXED


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_the_visible_test_passes_as_shipped_with_plain_pytest(folder: Path, tmp_path: Path) -> None:
    mine = Path(shutil.copytree(folder, tmp_path / folder.name))

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_visible.py"],
        cwd=mine,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout
