"""The puzzle folder: the same bytes always, whole or not at all, and honest about damage."""

from __future__ import annotations

import base64
import bz2
import errno
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import handmade
import pytest

from halfhour.generator import store
from halfhour.generator.errors import EnvironmentFault, UnsoundPuzzle, UsageError
from halfhour.generator.records import Answer

PUZZLE = handmade.puzzle()
ANSWER = handmade.answer()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.write_puzzle(tmp_path / "hunt", PUZZLE, ANSWER)
    return tmp_path / "hunt"


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def damage(folder: Path, old: str, new: str) -> None:
    card = folder / store.CARD
    text = card.read_text(encoding="utf-8")
    assert text.count(old) == 1
    card.write_text(text.replace(old, new), encoding="utf-8")


def test_what_is_written_is_read_again(folder: Path) -> None:
    assert store.read_puzzle(folder) == PUZZLE
    assert store.read_answer(folder) == ANSWER


def test_a_folder_holds_these_files_and_no_others(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "toy.py",
        "test_visible.py",
        "puzzle.toml",
        "answer.sealed",
    }
    assert {path.name for path in folder.parent.iterdir()} == {"hunt"}


def test_the_same_records_give_the_same_bytes() -> None:
    """A digest from another day: what changes it changes every committed puzzle."""
    puzzle = replace(PUZZLE, version="0.1.0", source="x = 1\n", visible_tests="y\n", brief="∑\n")
    answer = replace(ANSWER, original="x = 2\n", hidden_tests="z\n", promises=(), public_names=())
    files = store.puzzle_files(puzzle, answer)

    joined = b"".join(name.encode() + b"\0" + data for name, data in sorted(files.items()))

    assert hashlib.sha256(joined).hexdigest() == (
        "d469a2c109fab0394cdabab402f83c7cae88a8248ae09054332b0c852e0cb7dd"
    )
    assert not any(b"\r" in data for data in files.values())


def test_the_card_spoils_nothing(folder: Path) -> None:
    card = (folder / store.CARD).read_text(encoding="utf-8")

    bug = handmade.BUG
    assert bug.mutator not in card
    assert bug.title not in card
    assert str(bug.line) not in re.sub(r'"[0-9a-f]{64}"', "", card)


def test_the_seal_says_what_it_is_and_shows_nothing(folder: Path) -> None:
    seal = (folder / store.SEAL).read_text(encoding="ascii")

    assert seal.startswith("Sealed against accidental spoilers only")
    assert "divisor" not in seal
    assert max(map(len, seal.splitlines())) <= 76


def test_digests_of_the_card_are_those_that_sha256sum_prints(folder: Path) -> None:
    digests = tomllib.loads((folder / store.CARD).read_text(encoding="utf-8"))["sha256"]

    names = {"file": "toy.py", "visible_tests": "test_visible.py", "brief": "README.md"}
    for key, name in {**names, "answer": "answer.sealed"}.items():
        assert digests[key] == hashlib.sha256((folder / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "title",
    ['say "why"', "back\\slash", "two\nlines\ttab", "\x00\x1f\x7f", "naïve ∑ 🙂", "' = [x] # y"],
)
def test_any_text_survives_the_card(tmp_path: Path, title: str) -> None:
    puzzle = replace(PUZZLE, title=title, topics=(title, "other"))

    store.write_puzzle(tmp_path / "hunt", puzzle, ANSWER)

    assert store.read_puzzle(tmp_path / "hunt") == puzzle


def test_a_puzzle_that_is_there_already_is_not_written_again(folder: Path) -> None:
    before = everything_below(folder)

    assert store.write_puzzle(folder, PUZZLE, ANSWER) is False
    assert everything_below(folder) == before


def test_an_edited_puzzle_is_never_overwritten(folder: Path) -> None:
    (folder / "toy.py").write_text("mine = 1\n", encoding="utf-8")

    with pytest.raises(UsageError, match="halfhour reset"):
        store.write_puzzle(folder, PUZZLE, ANSWER)

    assert (folder / "toy.py").read_text(encoding="utf-8") == "mine = 1\n"


def test_another_puzzle_is_never_overwritten(folder: Path) -> None:
    before = everything_below(folder)

    with pytest.raises(UsageError, match="holds another puzzle"):
        store.write_puzzle(folder, replace(PUZZLE, seed=8), ANSWER)

    assert everything_below(folder) == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")

    with pytest.raises(UsageError, match="is not empty"):
        store.write_puzzle(tmp_path, PUZZLE, ANSWER)

    assert everything_below(tmp_path) == {"thesis.txt": b"years of work"}


def test_an_empty_folder_is_filled_and_stays_the_same_folder(tmp_path: Path) -> None:
    """A shell that stands in it must not lose its footing."""
    before = tmp_path.stat().st_ino

    assert store.write_puzzle(tmp_path, PUZZLE, ANSWER) is True
    assert tmp_path.stat().st_ino == before
    assert store.read_puzzle(tmp_path) == PUZZLE


def test_missing_parents_are_made(tmp_path: Path) -> None:
    store.write_puzzle(tmp_path / "a" / "b" / "hunt", PUZZLE, ANSWER)

    assert store.is_puzzle(tmp_path / "a" / "b" / "hunt")


def test_a_file_in_the_way_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "puzzles").write_text("a file", encoding="utf-8")

    with pytest.raises(UsageError, match="a file is in the way"):
        store.write_puzzle(tmp_path / "puzzles" / "hunt", PUZZLE, ANSWER)
    with pytest.raises(UsageError, match="a file is in the way"):
        store.write_puzzle(tmp_path / "puzzles", PUZZLE, ANSWER)

    assert everything_below(tmp_path) == {"puzzles": b"a file"}


@pytest.mark.parametrize(
    ("existing", "function", "nth"),
    [
        *[(existing, "fsync", nth) for existing in (False, True) for nth in range(1, 6)],
        (False, "rename", 1),
        *[(True, "rename", nth) for nth in range(1, 6)],
    ],
)
@pytest.mark.parametrize(
    ("raised", "expected", "says"),
    [
        pytest.param(KeyboardInterrupt(), KeyboardInterrupt, None, id="Ctrl-C"),
        pytest.param(OSError(errno.ENOSPC, "-"), EnvironmentFault, "no space", id="disk full"),
        pytest.param(PermissionError(errno.EACCES, "-"), UsageError, "may not", id="not writable"),
        pytest.param(OSError(errno.EIO, "bad disk"), EnvironmentFault, "bad disk", id="bad disk"),
    ],
)
def test_a_write_that_is_cut_short_leaves_nothing(
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    existing: bool,
    nth: int,
    function: str,
    raised: BaseException,
    expected: type[BaseException],
    says: str | None,
) -> None:
    folder = tmp_path / "puzzles" / "hunt"
    if existing:
        folder.mkdir(parents=True)
    before = everything_below(tmp_path)
    calls = iter(range(1, 100))

    def cut_short(call: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*args: object) -> object:
            if next(calls) == nth:
                raise raised
            return call(*args)

        return wrapped

    owner = os if function == "fsync" else Path
    monkeypatch.setattr(owner, function, cut_short(getattr(owner, function)))
    with pytest.raises(expected, match=says):
        store.write_puzzle(folder, PUZZLE, ANSWER)
    monkeypatch.undo()

    assert everything_below(tmp_path) == before
    assert store.write_puzzle(folder, PUZZLE, ANSWER) is True


def test_the_card_is_the_last_file_to_appear() -> None:
    """So that half a folder never looks like a puzzle."""
    assert list(store.puzzle_files(PUZZLE, ANSWER))[-1] == store.CARD


def test_the_candidates_own_files_may_be_edited_or_gone(folder: Path) -> None:
    (folder / "toy.py").write_text("mine = 1\n", encoding="utf-8")
    (folder / "test_visible.py").unlink()
    (folder / "README.md").write_bytes(b"\xff\xfe")

    assert store.read_puzzle(folder) == PUZZLE


def test_a_checkout_with_other_line_ends_still_opens(folder: Path) -> None:
    for name in (store.SEAL, store.CARD):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data.replace(b"\n", b"\r\n"))

    assert store.read_answer(folder) == ANSWER


def test_no_folder_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        store.read_puzzle(tmp_path / "nowhere")


def test_a_folder_that_is_no_puzzle_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no puzzle: it holds no puzzle\.toml"):
        store.read_puzzle(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        pytest.param("minutes = 30", "minutes = ", "damaged", id="no TOML"),
        pytest.param("minutes = 30\n", "", "minutes is missing", id="a key gone"),
        pytest.param("minutes = 30", 'minutes = "30"', "minutes must be a whole", id="wrong type"),
        pytest.param("bugs = 1", "bugs = true", "bugs must be a whole number", id="a bool"),
        pytest.param('["numerics"]', "[1]", "topics must be a list of texts", id="list of ints"),
        pytest.param("minutes = 30", "minutes = 300", "minutes is not 30", id="more time"),
        pytest.param('id = "0badcafe"', 'id = "../up"', "no puzzle id", id="an id that climbs"),
        pytest.param('file = "toy.py"', 'file = "../toy.py"', "not the file", id="a file outside"),
        pytest.param("[sha256]", "[md5]", r"sha256\.file must be", id="no digests"),
        pytest.param("format = 1", 'format = "1"', "format must be", id="format is text"),
        pytest.param("format = 1", "", "format must be", id="format gone"),
    ],
)
def test_a_damaged_card_is_unsound(folder: Path, old: str, new: str, says: str) -> None:
    damage(folder, old, new)

    with pytest.raises(UnsoundPuzzle, match=says):
        store.read_puzzle(folder)


def test_a_newer_format_asks_for_an_upgrade(folder: Path) -> None:
    """Whatever else a newer card may lack or hold."""
    (folder / store.CARD).write_text("format = 2\n", encoding="utf-8")

    with pytest.raises(UnsoundPuzzle, match=r"newer halfhour \(format 2; this one reads 1\): upgr"):
        store.read_puzzle(folder)


def test_another_version_of_the_same_format_is_fine(tmp_path: Path) -> None:
    store.write_puzzle(tmp_path / "hunt", handmade.puzzle(version="0.0.7"), ANSWER)

    assert store.read_puzzle(tmp_path / "hunt").version == "0.0.7"


def test_keys_of_a_later_version_are_let_be(folder: Path) -> None:
    damage(folder, "format = 1\n", "format = 1\nmood = 'sunny'\n")

    assert store.read_puzzle(folder) == PUZZLE


def test_an_endless_card_is_not_read(folder: Path) -> None:
    with (folder / store.CARD).open("a", encoding="utf-8") as card:
        card.write("#" * 100_000)

    with pytest.raises(UnsoundPuzzle, match="larger than"):
        store.read_puzzle(folder)


def test_a_card_that_is_no_text_is_unsound(folder: Path) -> None:
    (folder / store.CARD).write_bytes(b"\xff\x00")

    with pytest.raises(UnsoundPuzzle, match="is damaged"):
        store.read_puzzle(folder)


def test_a_missing_seal_is_unsound(folder: Path) -> None:
    (folder / store.SEAL).unlink()

    with pytest.raises(UnsoundPuzzle, match="is missing"):
        store.read_answer(folder)


def test_a_puzzle_may_come_without_its_answer(tmp_path: Path) -> None:
    store.write_puzzle(tmp_path / "hunt", PUZZLE, None)

    assert store.read_puzzle(tmp_path / "hunt") == PUZZLE
    assert store.read(tmp_path / "hunt") == (PUZZLE, None)
    with pytest.raises(UsageError, match=r"without its answer: send your toy\.py to whoever"):
        store.read_answer(tmp_path / "hunt")


def test_without_an_answer_nothing_of_it_is_in_the_seal() -> None:
    seal = store.puzzle_files(PUZZLE, None)[store.SEAL].decode()
    opened = bz2.decompress(base64.b64decode("".join(seal.split("\n")[1:]))).decode()

    assert json.loads(opened)["answer"] is None
    assert handmade.BUG.mutator not in opened
    assert "test_mean_is_sum_over_count" not in opened


@pytest.mark.parametrize("answer", [ANSWER, None], ids=["answer", "no answer"])
def test_the_files_of_a_folder_are_read_from_memory_too(answer: Answer | None) -> None:
    content = store.puzzle_files(PUZZLE, answer)

    assert store.from_files("there", content) == (PUZZLE, answer)


def test_files_from_memory_are_held_to_the_same_format() -> None:
    content = store.puzzle_files(PUZZLE, ANSWER)

    with pytest.raises(UsageError, match="there is no puzzle"):
        store.from_files("there", {store.SEAL: content[store.SEAL]})
    with pytest.raises(UnsoundPuzzle, match=r"there/answer\.sealed is missing"):
        store.from_files("there", {store.CARD: content[store.CARD]})
    with pytest.raises(UnsoundPuzzle, match=r"there/puzzle\.toml is damaged: larger than"):
        store.from_files("there", {**content, store.CARD: b"#" * 100_000})
    with pytest.raises(UnsoundPuzzle, match=r"there/answer\.sealed is damaged"):
        store.from_files("there", {**content, store.SEAL: content[store.SEAL][:-40]})


@pytest.mark.parametrize("cut", [0, 40, 200, -2], ids=["all", "title", "middle", "end"])
def test_a_seal_that_was_cut_is_unsound(folder: Path, cut: int) -> None:
    seal = folder / store.SEAL
    seal.write_bytes(seal.read_bytes()[:cut])

    with pytest.raises(UnsoundPuzzle, match="not the one that"):
        store.read_answer(folder)


def sealed(payload: bytes, *, cut: int = 0) -> bytes:
    packed = bz2.compress(payload)
    return base64.b64encode(packed[: len(packed) - cut])


def payload(**changes: object) -> bytes:
    """Return what is inside a seal, with some values of the puzzle changed."""
    content = {"puzzle": {**asdict(PUZZLE), **changes}, "answer": asdict(ANSWER)}
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"no base64!", id="no base64"),
        pytest.param(base64.b64encode(b"no bz2"), id="no bz2"),
        pytest.param(sealed(payload(), cut=4), id="bz2 cut short"),
        pytest.param(sealed(b"\xff"), id="no text"),
        pytest.param(sealed(b"[]"), id="no object"),
        pytest.param(sealed(b"{}"), id="no puzzle"),
        pytest.param(sealed(b'{"puzzle": [], "answer": {}}'), id="puzzle is a list"),
        pytest.param(sealed(b'{"puzzle": {"id": "x"}, "answer": {}}'), id="a key gone"),
        pytest.param(sealed(payload(seed="7")), id="wrong type"),
        pytest.param(sealed(payload(topics="numerics")), id="text for a list"),
        pytest.param(sealed(b"[" * 100_000), id="too deep"),
        pytest.param(sealed(payload() + b" " * (1 << 26)), id="a bomb"),
    ],
)
def test_a_seal_with_a_right_digest_may_still_not_open(folder: Path, packed: bytes) -> None:
    content = b"title\n" + packed + b"\n"
    old = hashlib.sha256((folder / store.SEAL).read_bytes()).hexdigest()
    (folder / store.SEAL).write_bytes(content)
    damage(folder, old, hashlib.sha256(content).hexdigest())

    with pytest.raises(UnsoundPuzzle, match="does not open"):
        store.read_answer(folder)


def test_such_a_seal_opens_where_nothing_is_wrong_with_it(folder: Path) -> None:
    content = b"title\n" + sealed(payload()) + b"\n"
    old = hashlib.sha256((folder / store.SEAL).read_bytes()).hexdigest()
    (folder / store.SEAL).write_bytes(content)
    damage(folder, old, hashlib.sha256(content).hexdigest())

    assert store.read_puzzle(folder) == PUZZLE


def test_restore_keeps_each_edit_beside(folder: Path) -> None:
    file = folder / "toy.py"
    kept = []
    for edit in ("first = 1\n", "second = 2\n"):
        file.write_text(edit, encoding="utf-8")
        kept.append(store.restore(folder))

    assert file.read_text(encoding="utf-8") == PUZZLE.source
    assert kept == [folder / "toy.py.1.bak", folder / "toy.py.2.bak"]
    assert (folder / "toy.py.1.bak").read_text(encoding="utf-8") == "first = 1\n"
    assert (folder / "toy.py.2.bak").read_text(encoding="utf-8") == "second = 2\n"


def test_restore_of_an_unedited_file_keeps_nothing(folder: Path) -> None:
    before = everything_below(folder)

    assert store.restore(folder) is None
    assert everything_below(folder) == before


def test_restore_brings_back_what_is_missing(folder: Path) -> None:
    before = everything_below(folder)
    for name in ("toy.py", "test_visible.py", "README.md"):
        (folder / name).unlink()

    assert store.restore(folder) is None
    assert everything_below(folder) == before


def test_restore_leaves_an_edited_visible_test_alone(folder: Path) -> None:
    (folder / "test_visible.py").write_text("mine\n", encoding="utf-8")

    store.restore(folder)

    assert (folder / "test_visible.py").read_text(encoding="utf-8") == "mine\n"


@pytest.mark.parametrize("function", ["rename", "replace"])
def test_a_restore_that_is_cut_short_loses_no_edit(
    folder: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    (folder / "toy.py").write_text("mine = 1\n", encoding="utf-8")
    before = everything_below(folder)

    def cut_short(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, function, cut_short)
    with pytest.raises(KeyboardInterrupt):
        store.restore(folder)

    assert everything_below(folder) == before
