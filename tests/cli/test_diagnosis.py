"""`accuse` and `prove`: what is said, what is kept back, and the exit codes."""

from __future__ import annotations

from pathlib import Path

import handmade
import pytest
from standins import Run, the_object

from halfhour.generator import counterexample
from halfhour.generator.counterexample import Counterexample, Tried
from halfhour.generator.session import Session

BUG_LINE = 11


def log_of(hunt: Path) -> Session:
    return Session(hunt, handmade.puzzle())


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[Counterexample]:
    """What the two runs find; one found is asked for once."""
    found: list[Counterexample] = []
    monkeypatch.setattr(counterexample, "prove", lambda *_: found.pop())
    return found


@pytest.mark.parametrize("line", [BUG_LINE, 8], ids=["a hit", "a miss"])
def test_while_the_hunt_is_open_a_hit_and_a_miss_sound_the_same(
    run: Run, hunt: Path, line: int
) -> None:
    ended = run("accuse", str(line), str(hunt), "--because", "it looks odd")

    assert ended.exit_code == 0
    assert ended.stdout.startswith(f"accused line {line}: ")
    assert ended.stderr == (
        "accusation 1: free\n"
        "whether it hit is said when the hunt is over: halfhour check puzzles/0badcafe\n"
    )
    assert log_of(hunt).events[-1]["because"] == "it looks odd"


def test_more_than_one_is_counted(run: Run, hunt: Path) -> None:
    ended = [run("accuse", line, str(hunt)) for line in ("3", "8", "11", "8")]

    assert [e.stderr.splitlines()[0] for e in ended] == [
        "accusation 1: free",
        "accusation 2: 1 counted",
        "accusation 3: 2 counted",
        "accusation 3: 2 counted",
    ]


def test_with_tell_and_after_the_end_it_is_said(run: Run, hunt: Path) -> None:
    assert "line 11 (hit): " in run("accuse", "11", str(hunt), "--tell").stdout
    assert "line 8 (missed): " in run("accuse", "8", str(hunt), "--tell").stdout
    assert "(" not in run("accuse", "9", str(hunt)).stdout.split(":")[0]
    run("reveal", str(hunt), "--yes")
    ended = run("accuse", "11", str(hunt))
    assert "line 11 (hit): " in ended.stdout
    assert ended.stderr == ""


def test_an_accusation_as_json(run: Run, hunt: Path) -> None:
    text = "return total / (len(values) + (len(values) > 1))"
    common = {"schema": 1, "puzzle": "0badcafe", "line": 11, "text": text, "counted": 0}

    assert the_object(run("accuse", "11", str(hunt), "--json")) == {
        **common,
        "accusations": 1,
        "hit": None,
    }
    assert the_object(run("accuse", "11", str(hunt), "--json", "--tell"))["hit"] is True


@pytest.mark.parametrize(
    ("line", "says"),
    [("9999", "there is no line 9999"), ("0", "0"), ("-3", "-3"), ("eleven", "eleven")],
)
def test_a_line_that_is_none_is_a_usage_error(run: Run, hunt: Path, line: str, says: str) -> None:
    ended = run("accuse", "--", line, str(hunt))

    assert ended.exit_code == 2
    assert says in ended.stderr
    assert log_of(hunt).events == ()


def test_a_test_that_catches_the_bug_is_proven(run: Run, hunt: Path, desk: Path) -> None:
    """The two runs are real ones."""
    (desk / "test_mine.py").write_text(
        "import toy\n\n\ndef test_two():\n    assert toy.mean([1.0, 3.0]) == 2.0\n",
        encoding="utf-8",
    )

    ended = run("prove", "test_mine.py", str(hunt))

    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "proven",
        "  yes  it fails on the file as handed out: test_two",
        "  yes  it passes on the correct file",
    ]
    assert log_of(hunt).events[-1]["event"] == "proved"
    assert log_of(hunt).hunt.is_open


@pytest.mark.parametrize(
    ("buggy", "original", "lines"),
    [
        pytest.param(
            Tried(passed=("test_a",)),
            Tried(passed=("test_a",)),
            [
                "  no   it does not fail on the file as handed out:"
                " every test passes or is skipped",
                "  yes  it passes on the correct file",
            ],
            id="it sees no bug",
        ),
        pytest.param(
            Tried(failed=("a", "b", "c", "d", "e")),
            Tried(passed=("b",), failed=("a",)),
            [
                "  yes  it fails on the file as handed out: a, b, c and 2 more",
                "  no   it does not pass on the correct file: a failed",
            ],
            id="it fails on both",
        ),
        pytest.param(
            Tried(cut_short="it did not finish within 120 seconds"),
            Tried(),
            [
                "  no   it does not fail on the file as handed out:"
                " it did not finish within 120 seconds",
                "  no   it does not pass on the correct file: no test passed",
            ],
            id="neither",
        ),
    ],
)
def test_what_does_not_hold_is_named(
    *,
    run: Run,
    hunt: Path,
    tried: list[Counterexample],
    buggy: Tried,
    original: Tried,
    lines: list[str],
) -> None:
    tried.append(Counterexample(buggy, original))

    ended = run("prove", "test_mine.py", str(hunt))

    assert ended.exit_code == 1
    assert ended.stdout.splitlines() == ["not proven", *lines]
    assert log_of(hunt).events[-1]["holds"] is False


def test_a_proof_as_json(run: Run, hunt: Path, tried: list[Counterexample]) -> None:
    tried.append(Counterexample(Tried(failed=("test_a",)), Tried(cut_short="it broke off")))

    assert the_object(run("prove", "test_mine.py", str(hunt), "--json")) == {
        "schema": 1,
        "puzzle": "0badcafe",
        "holds": False,
        "fails_on_buggy": True,
        "passes_on_original": False,
        "buggy": {"passed": [], "failed": ["test_a"], "cut_short": None},
        "original": {"passed": [], "failed": [], "cut_short": "it broke off"},
    }


def test_a_test_that_is_not_there_starts_nothing(run: Run, hunt: Path) -> None:
    ended = run("prove", "nowhere.py", str(hunt))

    assert ended.exit_code == 2
    assert ended.stderr == "halfhour: there is no test file nowhere.py\n"
    assert log_of(hunt).events == ()


@pytest.mark.parametrize("command", [["accuse", "3"], ["prove", "test_mine.py"]])
def test_without_a_hunt_there_is_nothing_to_diagnose(run: Run, command: list[str]) -> None:
    ended = run(*command)

    assert ended.exit_code == 2
    assert "start one with: halfhour new" in ended.stderr
