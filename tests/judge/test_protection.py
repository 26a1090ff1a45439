"""The rung of this machine is tried once and remembered; on it a submission is kept to itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from halfhour.generator import library
from halfhour.generator.judge import Judge, Rung, protection, rungs
from halfhour.generator.judge.rungs import Protection
from halfhour.generator.records import Trial, Verdict, VerdictKind

CONFINED = (Rung.L1, Rung.L2, Rung.L3)


class Prober:
    """Finds a rung without trying anything, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, *, ladder: object) -> Protection:
        assert ladder
        self.asked += 1
        return Protection(Rung.L1, layers=(), refused=(), allowed=())


@pytest.fixture
def prober(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Prober:
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path))
    prober = Prober()
    monkeypatch.setattr(rungs, "probe", prober)
    return prober


def memory(home: Path) -> Path:
    return home / "cache" / "protection.json"


def test_the_rung_is_tried_once(prober: Prober) -> None:
    assert [protection.rung_here(), protection.rung_here()] == [Rung.L1, Rung.L1]
    assert prober.asked == 1


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param('{"key": "of another machine", "rung": "L3"}', id="of another machine"),
    ],
)
def test_what_is_remembered_of_anything_else_is_not_believed(
    prober: Prober, tmp_path: Path, damage: str
) -> None:
    protection.rung_here()
    memory(tmp_path).write_text(damage, encoding="utf-8")

    assert protection.rung_here() is Rung.L1
    assert prober.asked == 2
    assert json.loads(memory(tmp_path).read_text(encoding="utf-8"))["rung"] == "L1"


def test_a_home_that_cannot_be_written_to_only_means_trying_again(
    prober: Prober, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    monkeypatch.setenv("HALFHOUR_HOME", str(tmp_path / "file"))

    assert [protection.rung_here(), protection.rung_here()] == [Rung.L1, Rung.L1]
    assert prober.asked == 2


DEEDS = {
    "reads the hidden tests": "open({hidden!r}).read()",
    "reads a file of the user's": "open({planted!r}).read()",
    "writes a file": "open({planted!r}, 'w')",
    "opens a connection": "__import__('socket').create_connection(('127.0.0.1', 9))",
    "starts a program": "__import__('subprocess').run(['/bin/true'])",
    "forks": "__import__('os').fork()",
    "signals the judge": "__import__('os').kill(__import__('os').getppid(), 0)",
    "reads the judge's memory": "open('/proc/%d/mem' % __import__('os').getppid(), 'rb')",
}


@pytest.mark.parametrize("deed", DEEDS)
def test_a_confined_submission_is_refused(
    judged: Callable[..., Verdict], tmp_path: Path, deed: str
) -> None:
    """The deed raises, wherever it is tried; the file is judged by what it returns."""
    if protection.rung_here() not in CONFINED:
        pytest.skip("this machine's kernel cannot confine a worker")
    (tmp_path / "planted").write_text("private", encoding="utf-8")
    hidden = library.BUILT_IN / "token_sampler" / "test_hidden.py"
    code = DEEDS[deed].format(hidden=str(hidden), planted=str(tmp_path / "planted"))
    source = f"""
def deed():
    try:
        {code}
    except OSError as error:
        return type(error).__name__
    return "done"
"""
    tests = "def test_deed(subject):\n    assert subject.deed() != 'done'\n"

    assert judged(source, tests).kind is VerdictKind.FIXED
    assert (tmp_path / "planted").read_text(encoding="utf-8") == "private"


def test_the_same_deed_is_done_where_nothing_refuses_it(
    unconfined: Judge, trial: Callable[..., Trial], tmp_path: Path
) -> None:
    """So that the refusals above are the rung's."""
    (tmp_path / "planted").write_text("private", encoding="utf-8")
    source = f"def deed():\n    return open({str(tmp_path / 'planted')!r}).read()\n"
    tests = "def test_deed(subject):\n    assert subject.deed() == 'private'\n"

    assert unconfined.verdict(trial(source, tests)).kind is VerdictKind.FIXED
