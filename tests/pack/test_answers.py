"""Answers are read from where they lie, or it is said why not."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import packs
import pytest

from halfhour.generator import store
from halfhour.generator.errors import UnsoundPuzzle, UsageError
from halfhour.generator.pack.answers import Answers, read_answers
from halfhour.generator.pack.unpack import unpack

TOY = packs.toy_pair()


@pytest.fixture
def week(tmp_path: Path) -> packs.Lying:
    return packs.make(tmp_path, [TOY])


def test_from_the_zip_of_a_week(week: packs.Lying) -> None:
    digest = hashlib.sha256(week.answers.read_bytes()).hexdigest()

    assert read_answers(week.answers) == Answers(
        "halfhour-2026-W48.answers", "2026-W48", (TOY,), digest
    )


def test_from_the_unpacked_zip_as_from_the_zip(week: packs.Lying, tmp_path: Path) -> None:
    """Whatever else came to lie there."""
    folder, _ = unpack(week.answers, tmp_path / "desk")
    (folder / "1-0badcafe" / "notes.txt").write_text("mine", encoding="utf-8")

    assert read_answers(folder) == read_answers(week.answers)


def test_from_the_folder_of_one_puzzle(tmp_path: Path) -> None:
    store.write_puzzle(tmp_path / "0badcafe", *TOY)

    found = read_answers(tmp_path / "0badcafe")

    assert (found.name, found.week, found.puzzles) == ("0badcafe", None, (TOY,))
    assert re.fullmatch("[0-9a-f]{64}", found.sha256)


def test_two_answers_never_have_one_digest(tmp_path: Path) -> None:
    other = replace(TOY[1], hidden_tests=TOY[1].hidden_tests + "\n")
    store.write_puzzle(tmp_path / "a", *TOY)
    store.write_puzzle(tmp_path / "b", TOY[0], other)

    assert read_answers(tmp_path / "a").sha256 != read_answers(tmp_path / "b").sha256


# what has none


def test_the_puzzles_of_a_week_are_no_answers(week: packs.Lying) -> None:
    with pytest.raises(UsageError, match="holds the puzzles of a week and not its answers"):
        read_answers(week.puzzles)


def test_a_puzzle_that_came_without_its_answer(tmp_path: Path) -> None:
    store.write_puzzle(tmp_path / "hunt", TOY[0], None)

    with pytest.raises(UsageError, match="came without its answer"):
        read_answers(tmp_path / "hunt")


@pytest.mark.parametrize("what", ["missing.zip", "folder"])
def test_what_is_not_there(tmp_path: Path, what: str) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(UsageError, match=r"there is no file|is no puzzle"):
        read_answers(tmp_path / what)


def test_a_zip_that_is_no_pack(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(packs.zipped("inbox", {"ada.py": b"x = 1\n"}))

    with pytest.raises(UsageError, match="is no pack of halfhour"):
        read_answers(tmp_path / "a.zip")


# damage


def changed(name: str, old: bytes = b"", new: bytes | None = None) -> packs.Change:
    """Replace a text in one file of a zip; without a text, take the file away."""

    def change(files: packs.Files) -> packs.Files:
        (found,) = [each for each in files if each.endswith(name)]
        if new is None:
            return {each: data for each, data in files.items() if each != found}
        assert old in files[found]
        return {**files, found: files[found].replace(old, new)}

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(
            changed("solution/toy.py", b"total", b"sum"),
            "solution/toy.py is not the file that was packed",
            id="another-file",
        ),
        pytest.param(changed("answer.sealed"), "answer.sealed is missing", id="missing"),
        pytest.param(
            lambda files: {**files, "1-0badcafe/conftest.py": b""},
            "manifest does not name 1-0badcafe/conftest.py",
            id="one-more-in-a-folder",
        ),
        pytest.param(
            lambda files: {**files, "conftest.py": b""},
            "manifest does not name conftest.py",
            id="one-more-beside",
        ),
        pytest.param(
            changed("manifest.json", b'"level": 2', b'"level": 3'),
            "is not the puzzle of the manifest: its level differs",
            id="another-level",
        ),
        pytest.param(
            changed("manifest.json", b'"format": 1', b'"format": 2'),
            "newer halfhour .*upgrade with: pip install --upgrade halfhour",
            id="newer",
        ),
        pytest.param(
            changed("manifest.json", b"2026-W48", b"2026-W47"), "not the folder", id="another-week"
        ),
    ],
)
def test_a_damaged_zip_is_one_sentence(tmp_path: Path, change: packs.Change, why: str) -> None:
    week = packs.make(tmp_path, [TOY], in_answers=change)

    with pytest.raises(UnsoundPuzzle, match=why) as caught:
        read_answers(week.answers)

    assert str(week.answers) in str(caught.value)


def test_a_zip_that_is_cut_short(week: packs.Lying) -> None:
    week.answers.write_bytes(week.answers.read_bytes()[:-30])

    with pytest.raises(UnsoundPuzzle, match="damaged or cut short"):
        read_answers(week.answers)


def test_an_unpacked_file_that_was_changed(week: packs.Lying, tmp_path: Path) -> None:
    folder, _ = unpack(week.answers, tmp_path / "desk")
    (folder / "1-0badcafe" / "toy.py").write_text("", encoding="utf-8")

    with pytest.raises(UnsoundPuzzle, match="is not the file that was packed"):
        read_answers(folder)


def test_answers_whose_seal_is_empty(tmp_path: Path) -> None:
    """A folder of the candidates' in the answers, well named by the manifest."""
    week = packs.make(tmp_path, [TOY], sealed=False)

    with pytest.raises(UnsoundPuzzle, match="holds no answer to its puzzle"):
        read_answers(week.answers)
