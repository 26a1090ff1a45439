"""A pack is unpacked whole or not at all, and over nobody's work."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import packs
import pytest

from halfhour.generator import files, store
from halfhour.generator.errors import EnvironmentFault, UnsoundPuzzle, UsageError
from halfhour.generator.pack.unpack import unpack

TOY = packs.toy_pair()


@pytest.fixture
def week(tmp_path: Path) -> packs.Lying:
    return packs.make(tmp_path / "out", [TOY])


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_the_puzzles_can_be_hunted_in(week: packs.Lying, tmp_path: Path) -> None:
    folder, written = unpack(week.puzzles, tmp_path / "desk")

    assert (folder, written) == (tmp_path / "desk" / "halfhour-2026-W48", True)
    assert store.read_puzzle(folder / "1-0badcafe") == TOY[0]
    assert not (folder / "1-0badcafe" / "solution").exists()


def test_the_answers_too(week: packs.Lying, tmp_path: Path) -> None:
    folder, _ = unpack(week.answers, tmp_path)

    assert store.read_answer(folder / "1-0badcafe") == TOY[1]
    assert (folder / "1-0badcafe/solution/toy.py").read_text(encoding="utf-8") == TOY[1].original


def test_plain_pytest_is_enough_for_the_visible_tests(week: packs.Lying, tmp_path: Path) -> None:
    """Unzipped by any tool, where halfhour cannot be imported."""
    with zipfile.ZipFile(week.puzzles) as archive:
        archive.extractall(tmp_path / "desk")
    alone = "import sys; sys.modules['halfhour'] = None; import pytest; sys.exit(pytest.main())"

    ended = subprocess.run(
        [sys.executable, "-B", "-c", alone],
        cwd=tmp_path / "desk" / "halfhour-2026-W48" / "1-0badcafe",
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout
    assert "1 passed" in ended.stdout


def test_an_empty_folder_is_filled(week: packs.Lying, tmp_path: Path) -> None:
    (tmp_path / "halfhour-2026-W48").mkdir()

    folder, written = unpack(week.puzzles, tmp_path)

    assert written
    assert store.is_puzzle(folder / "1-0badcafe")


def test_again_changes_nothing(week: packs.Lying, tmp_path: Path) -> None:
    unpack(week.puzzles, tmp_path)

    folder, written = unpack(week.puzzles, tmp_path)

    assert not written
    assert store.is_puzzle(folder / "1-0badcafe")


def test_work_that_lies_there_is_not_written_over(week: packs.Lying, tmp_path: Path) -> None:
    folder, _ = unpack(week.puzzles, tmp_path)
    mine = folder / "1-0badcafe" / "toy.py"
    mine.write_text("mine", encoding="utf-8")

    with pytest.raises(UsageError, match="holds something else"):
        unpack(week.puzzles, tmp_path)

    assert mine.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("kind", ["file", "broken link", "link to nowhere of ours"])
def test_what_is_in_the_way_stays(week: packs.Lying, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "halfhour-2026-W48"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").touch()
    if kind == "file":
        place.touch()
    else:
        place.symlink_to("gone" if kind == "broken link" else "elsewhere")

    with pytest.raises(UsageError):
        unpack(week.puzzles, tmp_path)

    assert below(tmp_path / "elsewhere") == ["mine"]


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        pytest.param(
            "1-0badcafe/toy.py", b"x = 1\n", "not the file that was packed", id="a puzzle"
        ),
        pytest.param("README.md", b"# Mine\n", "not the file that was packed", id="beside them"),
        pytest.param("index.html", b"<p>", "does not name index.html", id="one more"),
    ],
)
def test_a_damaged_pack_writes_nothing(tmp_path: Path, name: str, data: bytes, why: str) -> None:
    def change(found: packs.Files) -> packs.Files:
        return {**found, name: data}

    week = packs.make(tmp_path / "out", [TOY], in_puzzles=change)

    with pytest.raises(UnsoundPuzzle, match=why):
        unpack(week.puzzles, tmp_path / "desk")

    assert not (tmp_path / "desk").exists()


@pytest.mark.parametrize("there", [True, False], ids=["into an empty folder", "into a new one"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(errno.ENOSPC, "full"), EnvironmentFault), (KeyboardInterrupt(), KeyboardInterrupt)],
    ids=["disk full", "Ctrl-C"],
)
@pytest.mark.parametrize("after", [0, 3, 5])
def test_an_end_in_the_middle_leaves_nothing(
    *,
    week: packs.Lying,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    error: BaseException,
    raised: type[BaseException],
    after: int,
) -> None:
    desk = tmp_path / "desk"
    if there:
        (desk / "halfhour-2026-W48").mkdir(parents=True)
    written: list[Path] = []

    def write(path: Path, data: bytes) -> None:
        if len(written) == after:
            raise error
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(files, "_write", write)

    with pytest.raises(raised):
        unpack(week.puzzles, desk)

    assert not desk.exists() or below(desk) == []


def test_an_end_while_folders_are_moved_takes_them_away_again(
    week: packs.Lying, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "halfhour-2026-W48").mkdir()
    rename = Path.rename

    def interrupted(self: Path, target: Any) -> Path:
        if self.name == "README.md":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)

    with pytest.raises(KeyboardInterrupt):
        unpack(week.puzzles, tmp_path)

    assert os.listdir(tmp_path / "halfhour-2026-W48") == []
    assert sorted(os.listdir(tmp_path)) == ["halfhour-2026-W48", "out"]
