"""What lies in the three files of a week, and what does not."""

from __future__ import annotations

import gettext
import json
from dataclasses import replace
from pathlib import Path

import handmade
import pytest
import weekly

from halfhour.generator import messages, store
from halfhour.generator.pack.layout import Crafted, licence, pack_files
from halfhour.generator.pack.opened import Opened, open_zip
from halfhour.generator.pack.order import Order
from halfhour.generator.pack.week import Week

ORDER = Order(Week(2026, 48), seed=31337, count=2)
CRAFTED = (weekly.crafted(1), weekly.crafted(5, bugs=("secret_5", "secret_6")))
ROOT = Path(__file__).resolve().parents[2]


def opened(folder: Path, files: dict[str, bytes], end: str) -> Opened:
    (name,) = (name for name in files if name.endswith(end))
    (folder / name).write_bytes(files[name])
    return open_zip(folder / name)


@pytest.fixture
def files() -> dict[str, bytes]:
    return pack_files(ORDER, CRAFTED)


def test_there_are_three_and_what_candidates_get_comes_last(files: dict[str, bytes]) -> None:
    assert list(files) == [
        "halfhour-2026-W48.answers.zip",
        "halfhour-2026-W48.html",
        "halfhour-2026-W48.zip",
    ]


def test_candidates_get_folders_a_page_a_manifest_and_the_licence(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    zipped = opened(tmp_path, files, "W48.zip")
    one, two = (f"{n}-{each.puzzle.id}" for n, each in enumerate(CRAFTED, start=1))

    beside = {"LICENSE", "README.md", "index.html", "manifest.json"}
    names = (store.BRIEF, store.VISIBLE_TESTS, store.SEAL, store.CARD)
    assert set(zipped.files) == beside | {
        f"{folder}/{name}"
        for folder, file in ((one, "toy_1.py"), (two, "toy_5.py"))
        for name in (*names, file)
    }
    assert zipped.files["LICENSE"] == licence()
    assert [file.name for file in zipped.puzzles.beside] == ["LICENSE", "README.md", "index.html"]


def test_the_answers_are_sealed_and_to_read(files: dict[str, bytes], tmp_path: Path) -> None:
    zipped = opened(tmp_path, files, ".answers.zip")
    found = zipped.of(zipped.answers.puzzles[0])
    puzzle, answer = CRAFTED[0].puzzle, CRAFTED[0].answer

    assert store.from_files("here", found) == (puzzle, answer)
    assert found["solution/toy_1.py"].decode() == answer.original
    assert found["promises/test_hidden.py"].decode() == answer.hidden_tests
    assert json.loads(found["certificate.json"])["level"] == 1
    assert handmade.BUG.title in found["lesson.txt"].decode()
    added = [line for line in found["bug.diff"].decode().splitlines() if line[:2] == "+ "]
    assert added == ["+    return total / (len(values) + (len(values) > 1))"]


def test_each_recipe_is_with_the_answers(files: dict[str, bytes], tmp_path: Path) -> None:
    manifest = opened(tmp_path, files, ".answers.zip").answers

    assert manifest.seed == 31337
    assert manifest.recipes == tuple(each.recipe for each in CRAFTED)
    assert manifest.recipes[1].mutators == ("secret_5", "secret_6")


@pytest.mark.parametrize("end", ["W48.zip", ".html"])
def test_nothing_for_candidates_spoils(files: dict[str, bytes], end: str) -> None:
    """Zips are stored, not compressed: what is in them can be searched for."""
    (data,) = (data for name, data in files.items() if name.endswith(end))

    for spoiler in (b"secret_", b"31337", b"test_mean_is_sum", handmade.BUG.title.encode()):
        assert spoiler not in data


def test_without_the_judge_the_seal_holds_no_answer(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    zipped = opened(tmp_path, files, "W48.zip")

    for card in zipped.puzzles.puzzles:
        assert store.from_files("here", zipped.of(card))[1] is None
    assert zipped.puzzles.judged is False
    assert "Send them the files" in zipped.files["README.md"].decode()


def test_with_the_judge_it_holds_the_answer(tmp_path: Path) -> None:
    zipped = opened(tmp_path, pack_files(replace(ORDER, judged=True), CRAFTED), "W48.zip")

    for card, each in zip(zipped.puzzles.puzzles, CRAFTED, strict=True):
        assert store.from_files("here", zipped.of(card)) == (each.puzzle, each.answer)
    assert zipped.puzzles.judged is True
    assert "halfhour check" in zipped.files["README.md"].decode()


def test_the_readme_names_each_puzzle_and_the_digest_of_the_answers(
    files: dict[str, bytes], tmp_path: Path
) -> None:
    zipped = opened(tmp_path, files, "W48.zip")
    readme = zipped.files["README.md"].decode()

    assert zipped.puzzles.answers in readme
    for card in zipped.puzzles.puzzles:
        assert f"| `{card.folder}` | `{card.file}` | {card.level} of 5 | {card.lines} |" in readme
    assert "| bugs |" in readme


class Shouting(gettext.NullTranslations):
    """Another language than English."""

    def gettext(self, message: str) -> str:
        return message.upper()


def test_the_publishers_language_changes_nothing(
    files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_here", Shouting)

    assert messages.tr("so it was") == "SO IT WAS"
    assert pack_files(ORDER, CRAFTED) == files


def test_the_bytes_follow_from_the_records(files: dict[str, bytes]) -> None:
    assert pack_files(ORDER, CRAFTED) == files
    other = Crafted(replace(CRAFTED[0].puzzle, title="Other"), CRAFTED[0].answer, CRAFTED[0].recipe)
    assert pack_files(ORDER, (other, CRAFTED[1])) != files


def test_the_licence_is_ours() -> None:
    assert b"Apache License" in licence()
    if (ROOT / "pyproject.toml").is_file():
        assert licence() == (ROOT / "LICENSE").read_bytes()
