"""`halfhour grade`: other people's files, one row each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import handmade
import pytest
from standins import Run, the_object

from halfhour.generator import store
from halfhour.generator.commands import _machine
from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.grade import Graded
from halfhour.generator.records import (
    Answer,
    Outcome,
    PromiseResult,
    Verdict,
    VerdictKind,
)


class FakeGrade:
    """Says of each file what its name says."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def __call__(
        self, answer: Answer, name: str, files: Sequence[Path], **asked: Any
    ) -> Iterator[Graded]:
        self.asked = {"name": name, **asked}
        for file in files:
            kind = VerdictKind(file.stem)
            kept = Outcome.KEPT if kind is VerdictKind.FIXED else Outcome.WRONG
            judged = kind in (VerdictKind.FIXED, VerdictKind.NOT_FIXED)
            results = tuple(PromiseResult(p, kept) for p in answer.promises) if judged else ()
            yield Graded(file, Verdict(kind, "the reason", results, rung="L3"))


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> FakeGrade:
    grader = FakeGrade()
    monkeypatch.setattr(_machine, "grade", grader)
    return grader


@pytest.fixture
def puzzle(desk: Path) -> str:
    store.write_puzzle(desk / "puzzle", handmade.puzzle(), handmade.answer())
    return "puzzle"


def test_every_submission_has_its_row(run: Run, grader: FakeGrade, puzzle: str) -> None:
    ended = run("grade", puzzle, "fixed.py", "not_fixed.py", "invalid.py")

    assert ended.exit_code == 0
    rows = [line.split()[:3] for line in ended.stdout.splitlines()[1:]]
    of = len(handmade.answer().promises)
    assert rows == [
        ["fixed.py", "fixed", f"{of}/{of}"],
        ["not_fixed.py", "not_fixed", f"0/{of}"],
        ["invalid.py", "invalid", "-"],
    ]
    assert "1 fixed, 1 invalid, 1 not_fixed" in ended.stderr
    assert grader.asked == {"name": "toy", "device": "cpu", "accept_risk": False}


def test_the_json_object(run: Run, grader: FakeGrade, puzzle: str) -> None:
    found = the_object(run("grade", puzzle, "not_fixed.py", "--json", "--accept-risk"))

    (row,) = found["submissions"]
    assert (row["file"], row["verdict"], row["rung"], row["kept"]) == (
        *("not_fixed.py", "not_fixed", "L3"),
        0,
    )
    assert row["broken"] == [promise.name for promise in handmade.answer().promises]
    assert grader.asked["accept_risk"] is True


@pytest.mark.usefixtures("grader")
def test_quiet_promises_are_only_counted(run: Run, puzzle: str) -> None:
    ended = run("grade", puzzle, "not_fixed.py", "--quiet-promises")
    found = the_object(run("grade", puzzle, "not_fixed.py", "--quiet-promises", "--json"))

    assert "test_" not in ended.output
    assert found["submissions"][0]["broken"] == []


@pytest.mark.usefixtures("grader")
def test_a_file_that_could_not_be_tried_is_not_passed_over(run: Run, puzzle: str) -> None:
    assert run("grade", puzzle, "fixed.py", "environment.py").exit_code == 4


def test_a_machine_that_is_too_weak_is_one_sentence(
    run: Run, puzzle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Iterator[Graded]:
        raise EnvironmentFault("other people's files are not run here")

    monkeypatch.setattr(_machine, "grade", refuse)

    ended = run("grade", puzzle, "fixed.py")

    assert ended.exit_code == 4
    assert "other people's files are not run here" in ended.stderr
    assert not ended.stdout
