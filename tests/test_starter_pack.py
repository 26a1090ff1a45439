"""The committed puzzles are what the recipe makes, and each is a puzzle."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import starter
from homes import make_home
from shop import one_shop
from tiers import leading

from halfhour.generator import store
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.judge import Judge
from halfhour.generator.library import find_subject
from halfhour.generator.plant import plant
from halfhour.generator.records import Trial, VerdictKind
from halfhour.mutators import find_mutator

FOLDERS = sorted(path for path in starter.PACK.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, court: Judge, screen: Demonstrator
) -> Iterator[None]:
    """A home where nothing is proven yet."""
    home = make_home(tmp_path_factory.mktemp("starter") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HALFHOUR_HOME", str(home))
        with one_shop(court, screen):
            yield


def judged(court: Judge, folder: Path, source: str) -> VerdictKind:
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)
    trial = Trial(
        name=puzzle.subject,
        source=source,
        tests=answer.hidden_tests,
        promises=answer.promises,
        public_names=answer.public_names,
        seed=9_000_000_019,
    )
    return court.verdict(trial).kind


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_there_are_four_over_both_subjects_and_several_levels() -> None:
    puzzles = [store.read_puzzle(folder) for folder in FOLDERS]

    assert len(puzzles) == 4
    assert {p.subject for p in puzzles} == {"sliding_window_decoder", "token_sampler"}
    assert len({p.level for p in puzzles}) >= 2


@pytest.mark.parametrize("entry", starter.recipe(), ids=lambda e: e.mutator)
def test_a_puzzle_holds_what_its_recipe_names_as_it_is_today(entry: starter.Entry) -> None:
    """What changes in a correct file, its tests or a bug leaves no puzzle behind."""
    subject, bug = find_subject(entry.subject), find_mutator(entry.mutator)
    (mutant,) = [each for each in plant(subject, [bug]) if each.site == entry.site]

    (folder,) = [f for f in FOLDERS if store.read_answer(f).bugs[0].mutator == entry.mutator]

    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)
    assert (puzzle.source, puzzle.visible_tests) == (mutant.source, subject.visible_tests)
    assert (answer.original, answer.hidden_tests) == (subject.source, subject.hidden_tests)
    assert (answer.promises, answer.public_names) == (subject.promises, subject.public_names)
    assert (answer.bugs[0].title, answer.bugs[0].lesson) == (bug.title, bug.lesson)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("entry", leading(1, starter.recipe()[::-1]), ids=lambda e: e.mutator)
def test_the_recipe_makes_the_same_bytes(entry: starter.Entry, tmp_path: Path) -> None:
    built = starter.build(entry, tmp_path)

    assert contents(built) == contents(starter.PACK / built.name)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_a_puzzle_fails_as_shipped_and_passes_when_healed(court: Judge, folder: Path) -> None:
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)

    assert judged(court, folder, puzzle.source) is VerdictKind.NOT_FIXED
    assert judged(court, folder, answer.original) is VerdictKind.FIXED


@pytest.mark.parametrize("folder", leading(2, FOLDERS), ids=lambda f: f.name)
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
