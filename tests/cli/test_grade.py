"""`halfhour grade`: other people's files, one row each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import handmade
import pytest
from standins import Run, the_object

from halfhour.generator import store
from halfhour.generator.commands import _machine
from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.grading.records import Graded, Submission
from halfhour.generator.grading.run import Progress
from halfhour.generator.pack.answers import Answers
from halfhour.generator.records import (
    Outcome,
    PromiseResult,
    Verdict,
    VerdictKind,
)


class FakeGrade:
    """Says of each file what its name says."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.known: tuple[str, ...] = ()
        """Texts that the journal holds."""

    def __call__(
        self,
        answers: Answers,
        submissions: Sequence[Submission],
        *,
        report: Callable[[Progress], None],
        **asked: Any,
    ) -> tuple[Graded, ...]:
        self.asked = asked
        ((_, answer),) = answers.puzzles
        found: list[Graded] = []
        for submission in submissions:
            kind = VerdictKind(Path(submission.where).stem)
            kept = Outcome.KEPT if kind is VerdictKind.FIXED else Outcome.WRONG
            judged = kind in (VerdictKind.FIXED, VerdictKind.NOT_FIXED)
            results = tuple(PromiseResult(p, kept) for p in answer.promises) if judged else ()
            verdict = Verdict(kind, submission.problem or "the reason", results, rung="L3")
            if submission.source is not None and submission.source not in self.known:
                report(Progress(len(found) + 1, len(submissions), submission, verdict))
            found.append(Graded(submission, verdict, runs=2))
        return tuple(found)


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> FakeGrade:
    grader = FakeGrade()
    monkeypatch.setattr(_machine, "grade", grader)
    return grader


@pytest.fixture
def puzzle(desk: Path) -> str:
    store.write_puzzle(desk / "puzzle", handmade.puzzle(), handmade.answer())
    for kind in VerdictKind:
        (desk / f"{kind}.py").write_text(handmade.puzzle().source + f"# {kind}\n")
    return "puzzle"


def test_every_submission_has_its_row(run: Run, grader: FakeGrade, puzzle: str) -> None:
    ended = run("grade", puzzle, "fixed.py", "not_fixed.py", "invalid.py")

    assert ended.exit_code == 0
    rows = [line.split()[:6] for line in ended.stdout.splitlines()[1:]]
    of = len(handmade.answer().promises)
    assert rows == [
        ["fixed", "fixed.py", "fixed", f"{of}/{of}", "1", "-"],
        ["invalid", "invalid.py", "invalid", "-", "1", "-"],
        ["not_fixed", "not_fixed.py", "not_fixed", f"0/{of}", "1", "-"],
    ]
    assert "1 fixed, 1 invalid, 1 not_fixed" in ended.stderr
    assert grader.asked == {
        "jobs": 1,
        "scheduler": None,
        "device": "cpu",
        "accept_risk": False,
        "journal": None,
        "fresh": False,
    }


def test_what_is_asked_for_reaches_the_engine(run: Run, grader: FakeGrade, puzzle: str) -> None:
    options = ("--jobs", "2", "--journal", "j.jsonl", "--fresh", "--scheduler", "tcp://host:1")

    assert run("grade", puzzle, "fixed.py", "--accept-risk", *options).exit_code == 0
    assert grader.asked == {
        "jobs": 2,
        "scheduler": "tcp://host:1",
        "device": "cpu",
        "accept_risk": True,
        "journal": Path("j.jsonl"),
        "fresh": True,
    }


def test_the_json_object(run: Run, grader: FakeGrade, puzzle: str) -> None:
    found = the_object(run("grade", puzzle, "not_fixed.py", "--json", "--accept-risk"))

    (row,) = found["submissions"]
    assert found["puzzles"] == [{"id": "0badcafe", "subject": "toy"}]
    assert (row["candidate"], row["file"], row["verdict"], row["rung"], row["kept"]) == (
        *("not_fixed", "not_fixed.py", "not_fixed", "L3"),
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
def test_the_puzzle_has_its_column_where_there_are_several(
    run: Run, puzzle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _machine.answers(Path(puzzle))
    other = replace(handmade.puzzle(), id="00facade", subject="other", file_name="other.py")
    two = replace(one, puzzles=(*one.puzzles, (other, handmade.answer())))
    monkeypatch.setattr(_machine, "answers", lambda _: two)
    monkeypatch.setattr(_machine, "grade", invalid)
    Path("toy.py").write_text("x = 1\n")

    ended = run("grade", puzzle, "toy.py", "fixed.py")

    assert ended.stdout.splitlines()[0].split()[2] == "puzzle"
    assert [line.split()[2] for line in ended.stdout.splitlines()[1:]] == ["toy", "-"]


def invalid(_: Answers, submissions: Sequence[Submission], **__: object) -> tuple[Graded, ...]:
    return tuple(Graded(each, Verdict(VerdictKind.INVALID, "no"), 0) for each in submissions)


@pytest.mark.usefixtures("grader")
def test_a_table_and_a_page_are_written_over_what_was_there(run: Run, puzzle: str) -> None:
    Path("grades.csv").write_text("old")
    options = ("--csv", "grades.csv", "--html", "grades.html", "--max-lines", "0")

    ended = run("grade", puzzle, "fixed.py", *options)

    assert ended.exit_code == 0
    assert "budget" in ended.stdout
    table = Path("grades.csv").read_text("utf-8-sig")
    assert [line.split(",")[4:6] for line in table.splitlines()] == [
        ["file", "verdict"],
        ["fixed.py", "fixed"],
    ]
    assert "<html" in Path("grades.html").read_text("utf-8")
    assert "+# fixed" in Path("grades.html").read_text("utf-8")


@pytest.mark.usefixtures("grader")
def test_reports_of_the_last_time_are_no_submissions(run: Run, puzzle: str) -> None:
    Path("in").mkdir()
    Path("fixed.py").rename("in/fixed.py")
    options = ("--csv", "in/grades.csv", "--html", "in/grades.html", "--journal", "in/j.jsonl")
    Path("in/j.jsonl").write_text("x")

    first = run("grade", puzzle, "in", *options, "--json")
    second = run("grade", puzzle, "in", *options, "--json")

    assert the_object(first) == the_object(second)
    assert len(the_object(second)["submissions"]) == 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (("--csv", "none/it"), "there is no folder none"),
        (("--html", "none/it"), "there is no folder none"),
        (("--csv", "."), ". is a folder"),
        (("--html", "."), ". is a folder"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_a_report_that_could_not_be_written_is_told_before_anything_is_judged(
    run: Run, grader: FakeGrade, puzzle: str, asked: Sequence[str], sentence: str
) -> None:
    ended = run("grade", puzzle, "fixed.py", *asked)

    assert ended.exit_code == 2
    assert sentence in ended.stderr
    assert not grader.asked


@pytest.mark.usefixtures("grader")
def test_a_file_that_could_not_be_tried_is_not_passed_over(run: Run, puzzle: str) -> None:
    assert run("grade", puzzle, "fixed.py", "environment.py").exit_code == 4


def test_what_was_judged_before_is_told(run: Run, grader: FakeGrade, puzzle: str) -> None:
    grader.known = (Path("fixed.py").read_text(),)

    ended = run("grade", puzzle, "fixed.py", "not_fixed.py")

    assert "1 of 2 were judged before; --fresh judges them again" in ended.stderr
    assert "before" not in run("grade", puzzle, "not_fixed.py").stderr


@pytest.mark.usefixtures("grader")
def test_a_list_gives_names_and_says_who_is_missing(run: Run, puzzle: str) -> None:
    Path("names.csv").write_text("file,name\nfixed.py,Ada\nnone.py,Bob\n")

    ended = run("grade", puzzle, "fixed.py", "--names", "names.csv", "--json")

    assert the_object(ended)["submissions"][0]["candidate"] == "Ada"
    assert "none.py is on the list of names, and was not handed in" in ended.stderr


@pytest.mark.usefixtures("grader")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("none", "fixed.py"), "none"),
        (("fixed.py", "fixed.py"), "fixed.py"),
        (("puzzle", "fixed.py", "--names", "none.csv"), "none.csv cannot be read"),
    ],
    ids=["no answers", "a file as answers", "no list"],
)
def test_what_is_not_there_is_one_sentence(
    run: Run, puzzle: str, arguments: Sequence[str], sentence: str
) -> None:
    assert puzzle

    ended = run("grade", *arguments)

    assert ended.exit_code in (2, 4)
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not ended.stdout


def test_a_machine_that_is_too_weak_is_one_sentence(
    run: Run, puzzle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> tuple[Graded, ...]:
        raise EnvironmentFault("other people's files are not run here")

    monkeypatch.setattr(_machine, "grade", refuse)

    ended = run("grade", puzzle, "fixed.py")

    assert ended.exit_code == 4
    assert "other people's files are not run here" in ended.stderr
    assert not ended.stdout


def test_an_interrupt_says_that_nothing_is_lost(
    run: Run, puzzle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> tuple[Graded, ...]:
        raise KeyboardInterrupt

    monkeypatch.setattr(_machine, "grade", interrupt)

    ended = run("grade", puzzle, "fixed.py")

    assert ended.exit_code == 130
    assert "the same command goes on from there" in ended.stderr
