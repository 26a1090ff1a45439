"""An accusation means a line as it was handed out; a proof fails on the bug and passes without."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import handmade
import pytest

from halfhour.generator import counterexample, diagnosis, store
from halfhour.generator.counterexample import Counterexample
from halfhour.generator.errors import UsageError
from halfhour.generator.session import Session

PUZZLE, ANSWER = handmade.puzzle(), handmade.answer()
BUG_LINE = 11
HANDED_OUT = "a\nb\nc\nd\n"

CATCHES = "import toy\n\n\ndef test_two():\n    assert toy.mean([1.0, 3.0]) == 2.0\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path / "home"))
    store.write_puzzle(tmp_path / "hunt", PUZZLE, ANSWER)
    return tmp_path / "hunt"


# where the bug is


def test_the_changed_line_is_the_bug_and_no_other() -> None:
    assert diagnosis.planted_lines(PUZZLE, ANSWER) == {BUG_LINE}


@pytest.mark.parametrize(
    ("original", "source", "lines"),
    [
        pytest.param("a\nb\nc\n", "a\nB\nc\n", {2}, id="a line was changed"),
        pytest.param("a\nb\nc\n", "a\nB\nD\nc\n", {2, 3}, id="one became two"),
        pytest.param("a\nc\n", "a\nb\nc\n", {2}, id="a line was added"),
        pytest.param("a\nb\nc\n", "a\nc\n", {1, 2}, id="a line was taken: both beside the gap"),
        pytest.param("a\nb\nc\nd\n", "A\nb\nc\nD\n", {1, 4}, id="two bugs"),
        pytest.param("b\na\n", "a\n", {1}, id="the first line was taken"),
    ],
)
def test_what_a_bug_changed(original: str, source: str, lines: set[int]) -> None:
    puzzle, answer = replace(PUZZLE, source=source), replace(ANSWER, original=original)

    assert diagnosis.planted_lines(puzzle, answer) == lines


@pytest.mark.parametrize(
    ("now", "line", "meant"),
    [
        pytest.param(HANDED_OUT, 3, 3, id="not edited"),
        pytest.param("new\na\nb\nc\nd\n", 4, 3, id="a line was added above"),
        pytest.param("c\nd\n", 1, 3, id="two lines were taken above"),
        pytest.param("a\nb\nC\nd\n", 3, 3, id="the line itself was rewritten"),
        pytest.param("a\nb\nC1\nC2\nd\n", 4, 3, id="it became two, the second is meant"),
        pytest.param("a\nb\nnew\nc\nd\n", 3, None, id="the candidate's own line"),
    ],
)
def test_a_line_of_the_edited_file_is_traced_back(now: str, line: int, meant: int | None) -> None:
    assert diagnosis.handed_out_line(HANDED_OUT, now, line) == meant


@pytest.mark.parametrize("line", [0, -1, 5])
def test_a_line_that_is_not_there(line: int) -> None:
    with pytest.raises(UsageError, match="the file has 4"):
        diagnosis.handed_out_line(HANDED_OUT, HANDED_OUT, line)


# accusing


def test_a_hit_is_logged_with_its_reason(folder: Path) -> None:
    found = diagnosis.accuse_line(folder, BUG_LINE, "one too many")

    assert (found.hit, found.over, found.number, found.counted) == (True, False, 1, 0)
    assert found.text.startswith("return total / (len(values)")
    log = Session(folder, PUZZLE)
    assert log.hunt.is_open
    event = dict(log.events[-1])
    event.pop("at")
    assert event == {"event": "accused", "line": 11, "because": "one too many", "hit": True}


def test_an_edited_file_is_accused_where_it_came_from(folder: Path) -> None:
    (folder / "toy.py").write_text("# mine\n# mine too\n" + PUZZLE.source, encoding="utf-8")

    assert diagnosis.accuse_line(folder, BUG_LINE + 2).hit
    assert not diagnosis.accuse_line(folder, BUG_LINE).hit
    with pytest.raises(UsageError, match="was written by you"):
        diagnosis.accuse_line(folder, 1)


def test_a_file_rewritten_from_end_to_end_does_not_hit_everywhere(folder: Path) -> None:
    lines = len(PUZZLE.source.split("\n"))
    (folder / "toy.py").write_text("".join(f"x{n}\n" for n in range(lines)), encoding="utf-8")

    hits = [line for line in range(1, lines) if diagnosis.accuse_line(folder, line).hit]

    assert hits == [BUG_LINE]


def test_the_first_is_free_and_the_same_line_counts_once(folder: Path) -> None:
    counted = [diagnosis.accuse_line(folder, line).counted for line in (3, 3, 8, 11, 8)]

    assert counted == [0, 0, 1, 2, 2]


def test_after_the_end_nothing_is_counted_any_more(folder: Path) -> None:
    diagnosis.accuse_line(folder, 3)
    Session(folder, PUZZLE).revealed()

    found = diagnosis.accuse_line(folder, BUG_LINE)

    assert found.over
    assert len(diagnosis._accusations(Session(folder, PUZZLE), PUZZLE)) == 1


def test_a_file_that_is_gone_or_no_text_is_still_accused(folder: Path) -> None:
    (folder / "toy.py").unlink()
    assert diagnosis.accuse_line(folder, BUG_LINE).hit
    (folder / "toy.py").write_bytes(PUZZLE.source.encode() + b"\xff\xfe\n")
    assert diagnosis.accuse_line(folder, BUG_LINE).hit


def test_a_huge_file_is_refused_in_a_sentence(folder: Path) -> None:
    (folder / "toy.py").write_bytes(b"x\n" * 200_000)

    with pytest.raises(UsageError, match="larger than"):
        diagnosis.accuse_line(folder, 1)


# proving


def proven(folder: Path, text: str, *, limit_s: float = 120.0) -> Counterexample:
    test = folder / "test_mine.py"
    test.write_text(text, encoding="utf-8")
    return counterexample.prove(PUZZLE, ANSWER, test, limit_s=limit_s)


def test_a_test_that_catches_the_bug_is_a_proof(folder: Path) -> None:
    more = "\n\ndef test_one():\n    assert toy.mean([1.0]) == 1.0\n"

    found = proven(folder, CATCHES + more)

    assert found.holds
    assert found.buggy.failed == ("test_two",)
    assert found.original.passed == ("test_two", "test_one")


@pytest.mark.parametrize(
    ("text", "fails_on_buggy", "passes_on_original"),
    [
        pytest.param(
            "import toy\n\n\ndef test_it():\n    assert toy.mean([1.0]) == 1.0\n",
            False,
            True,
            id="it sees no bug",
        ),
        pytest.param(
            "import toy\n\n\ndef test_it():\n    assert toy.mean([1.0]) == 7.0\n",
            True,
            False,
            id="it is wrong itself",
        ),
        pytest.param(
            "import pytest\n\n\n@pytest.mark.skip\ndef test_it():\n    pass\n",
            False,
            False,
            id="it tests nothing",
        ),
        pytest.param(
            "import os\n\n\ndef test_it():\n    os._exit(0)\n", False, False, id="it breaks off"
        ),
    ],
)
def test_it_is_told_which_half_does_not_hold(
    *, folder: Path, text: str, fails_on_buggy: bool, passes_on_original: bool
) -> None:
    found = proven(folder, text)

    assert (found.fails_on_buggy, found.passes_on_original) == (fails_on_buggy, passes_on_original)
    assert not found.holds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("import toi\n", "does not import: ModuleNotFoundError", id="no such module"),
        pytest.param("def test_it(:\n", "does not import: SyntaxError", id="no Python"),
        pytest.param("x = 1\n", "holds no tests", id="no tests"),
    ],
)
def test_what_cannot_be_tried_is_a_usage_error(folder: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        proven(folder, text)


def test_a_test_that_is_missing_too_large_or_named_as_the_file(folder: Path) -> None:
    with pytest.raises(UsageError, match="there is no test file"):
        counterexample.prove(PUZZLE, ANSWER, folder / "nowhere.py")
    with pytest.raises(UsageError, match="there is no test file"):
        counterexample.prove(PUZZLE, ANSWER, folder)
    with pytest.raises(UsageError, match="give it another"):
        counterexample.prove(PUZZLE, ANSWER, folder / "toy.py")
    (folder / "test_huge.py").write_bytes(b"#" * (1 << 20))
    with pytest.raises(UsageError, match="larger than"):
        counterexample.prove(PUZZLE, ANSWER, folder / "test_huge.py")


def test_a_test_without_end_is_ended_with_all_that_it_started(folder: Path) -> None:
    pid = folder / "pid"
    text = (
        "import subprocess, time\n\n\ndef test_it():\n"
        f"    child = subprocess.Popen(['sleep', '600'])\n"
        f"    open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "    time.sleep(600)\n"
    )
    started = time.monotonic()

    found = proven(folder, text, limit_s=8.0)

    assert "did not finish within 8 seconds" in found.buggy.cut_short
    assert not found.holds
    assert time.monotonic() - started < 300
    if pid.exists():
        assert not _runs(int(pid.read_text(encoding="utf-8")))


def test_of_the_run_beside_the_original_no_word_comes_back(folder: Path) -> None:
    """It may say anything there: only what the tests are called is kept."""
    text = (
        "import inspect, toy\n\n\ndef test_it():\n"
        "    print(inspect.getsource(toy))\n"
        "    assert False, inspect.getsource(toy)\n"
    )
    found = proven(folder, text)

    assert found.original == counterexample.Tried(failed=("test_it",))


def test_an_import_that_fails_beside_the_original_alone_says_nothing_of_it(folder: Path) -> None:
    found = proven(
        folder,
        "import toy\n\nif toy.mean([1, 3]) == 2:\n    raise ValueError(toy.__file__)\n"
        "\n\ndef test_it():\n    assert False\n",
    )

    assert found.original.cut_short == "it does not import"


def _runs(pid: int) -> bool:
    for _ in range(50):
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat")
            if state.exists() and state.read_text(encoding="utf-8").split(")")[1].split()[0] == "Z":
                return False
        except (ProcessLookupError, FileNotFoundError):
            return False
        time.sleep(0.1)
    return True
