"""`replay`, `report` and `stats`: looking back, in a terminal, on a page and in numbers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace

import handmade
import pytest
from standins import FakeCraft, FakeJudge, Run, the_object

from halfhour.generator import store
from halfhour.generator.commands import history as commands
from halfhour.generator.session import Session


def log_of(hunt: Path) -> Session:
    return Session(hunt, handmade.puzzle())


@pytest.fixture
def played(run: Run, hunt: Path, judge: FakeJudge) -> Path:
    """A hunt with one of everything, still open."""
    log = log_of(hunt)
    log.start()
    log.record("saved", text=handmade.answer().original)
    log.record("ran", passed=1, failed=0, seconds=0.2)
    run("hint", str(hunt))
    run("accuse", "11", str(hunt), "--because", "<b>odd</b>")
    run("check", str(hunt))
    judge.broken = ()
    return hunt


# replay


def test_a_replay_in_a_pipe_prints_all_at_once(
    run: Run, played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))

    ended = run("replay", str(played))

    assert ended.exit_code == 0
    lines = ended.stdout.splitlines()
    events = [line for line in lines if line[:8].strip()]
    assert [line[10:].rstrip() for line in events] == [
        "started   30 minutes",
        "saved     the file was saved",
        "ran       1 passed, 0 failed",
        "hinted    step 1",
        "accused   line 11: <b>odd</b>",
        "checked   not fixed, 2 of 4 promises kept",
    ]
    assert "          +    return total / len(values)" in lines


def test_on_a_terminal_it_waits_as_long_as_the_speed_says_and_never_long(
    run: Run, hunt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([1000.0, 1000.0, 1000.0, 1060.0, 1060.0, 4000.0])
    log = Session(hunt, handmade.puzzle(), clock=lambda: next(moments))
    log.record("started", minutes=30)
    log.record("reset")
    log.record("hinted", step=1)
    log.record("hinted", step=2)
    log.record("reset")
    log.record("revealed")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    stream = SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr(commands, "sys", SimpleNamespace(stdout=stream))

    run("replay", str(hunt))
    run("replay", str(hunt), "--speed", "120")
    run("replay", str(hunt), "--speed", "0")

    assert waits == [0, 0, 0, 1, 0, 2, 0, 0, 0, 0.5, 0, 2]


def test_a_replay_as_json(run: Run, played: Path) -> None:
    found = the_object(run("replay", str(played), "--json"))

    assert [m["event"] for m in found["moments"]][:3] == ["started", "saved", "ran"]
    assert found["moments"][1]["diff"].startswith("--- a/toy.py\n")
    assert found["moments"][2]["diff"] is None


@pytest.mark.parametrize("command", ["replay", "report"])
def test_of_a_puzzle_that_was_never_touched_nothing_is_recorded(
    run: Run, hunt: Path, command: str
) -> None:
    ended = run(command, str(hunt))

    assert ended.exit_code == 2
    assert ended.stderr == "halfhour: nothing is recorded of puzzles/0badcafe yet\n"
    assert not (hunt / "report.html").exists()


# report


def test_a_report_lies_in_the_folder_and_is_written_anew(run: Run, played: Path) -> None:
    first = run("report", str(played))
    run("reveal", str(played), "--yes")
    second = run("report", str(played))

    assert first.exit_code == second.exit_code == 0
    assert first.stdout == "puzzles/0badcafe/report.html\n"
    text = (played / "report.html").read_text(encoding="utf-8")
    assert "Mean and spread: revealed" in text
    assert handmade.BUG.title in text
    assert "&lt;b&gt;odd&lt;/b&gt;" in text
    assert sorted(path.name for path in played.iterdir() if path.name[0] == ".") == []


def test_while_the_hunt_is_open_neither_spoils(run: Run, played: Path) -> None:
    run("report", str(played), "--out", "a.html")

    told = run("replay", str(played)).stdout + Path("a.html").read_text(encoding="utf-8")
    for secret in (handmade.BUG.title, handmade.BUG.lesson.split("\n")[0], "(hit)", ">hit<"):
        assert secret not in told


def test_a_report_goes_where_it_is_told(run: Run, played: Path, desk: Path) -> None:
    assert the_object(run("report", str(played), "--out", "new/of/me.html", "--json")) == {
        "schema": 1,
        "puzzle": "0badcafe",
        "report": "new/of/me.html",
    }
    assert (desk / "new/of/me.html").is_file()


@pytest.mark.parametrize(
    ("out", "says"),
    [
        pytest.param("mine.txt", "is there already; nothing was written", id="another file"),
        pytest.param("mine.txt/a.html", "a file is in the way", id="a file as a folder"),
        pytest.param(".", "is there already", id="a folder"),
    ],
)
def test_a_report_is_never_written_over_what_is_not_one(
    run: Run, played: Path, desk: Path, out: str, says: str
) -> None:
    (desk / "mine.txt").write_text("mine", encoding="utf-8")
    before = sorted(desk.rglob("*"))

    ended = run("report", str(played), "--out", out)

    assert ended.exit_code == 2
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert sorted(desk.rglob("*")) == before
    assert (desk / "mine.txt").read_text(encoding="utf-8") == "mine"


def test_a_folder_that_may_not_be_written_to_is_said(
    run: Run, played: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("halfhour.generator.files._write", refused)

    ended = run("report", str(played), "--out", "there/a.html")

    assert ended.exit_code == 2
    assert "may not be written to; choose another folder" in ended.stderr
    assert not Path("there").exists()


# stats


def test_before_the_first_hunt_there_is_a_way_on(run: Run) -> None:
    ended = run("stats")

    assert ended.exit_code == 0
    assert ended.stdout == "no hunt is over yet\n"
    assert ended.stderr == "next: halfhour new\n"


def test_an_open_hunt_is_only_counted(run: Run, played: Path) -> None:
    assert played.is_dir()

    ended = run("stats")

    assert ended.stdout == "no hunt is over yet; 1 under way\n"
    assert "numerics" not in ended.output


@pytest.mark.usefixtures("known_names")
def test_the_record_of_one_hunt(run: Run, played: Path) -> None:
    run("check", str(played))

    ended = run("stats")

    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "topic     hunts  solved  median  hints  right at first",
        "numerics      1       1  0:00        1  1 of 1",
        "",
        "level  hunts  solved  median  hints  right at first",
        "    2      1       1  0:00        1  1 of 1",
        "",
        "halfhour: 1 of 1 hunts solved, half of them within 0:00, 1.0 hints a hunt,"
        " first accusation right 1 of 1",
        "to practise next: masking, with: halfhour new",
    ]


@pytest.mark.usefixtures("known_names")
def test_the_record_as_json_and_as_one_line(run: Run, played: Path) -> None:
    run("check", str(played))

    found = the_object(run("stats", "--json"))
    shared = run("stats", "--share").stdout

    assert (found["hunts"], found["open"], found["next_topic"]) == (1, 0, "masking")
    assert found["topics"][0]["name"] == "numerics"
    assert shared == found["share"] + "\n"
    for spoiler in ("numerics", "toy", handmade.BUG.mutator, "0badcafe"):
        assert spoiler not in shared


def test_logs_that_are_garbage_stop_no_one(run: Run, played: Path, tmp_path: Path) -> None:
    (log,) = (tmp_path / "home" / "state" / "hunts").glob("*.jsonl")
    with log.open("ab") as file:
        file.write(b'\xff\xfe\n{"event": "saved", "at": NaN, "text": "\\ud800"}\n[[[[\n{"ev')
        file.write(b'\n{"event": "saved", "at": 1e999, "text": 3}\n')
        file.write(json.dumps({"event": "saved", "at": time.time(), "text": "\ud800"}).encode())

    for command in (["replay", str(played)], ["report", str(played)], ["stats"]):
        ended = run(*command)
        assert ended.exit_code == 0, ended.output
        assert "unexpected" not in ended.stderr


# new


def over(run: Run, folder: Path) -> None:
    run("reveal", str(folder), "--yes")


def test_without_a_record_new_draws_from_all(run: Run, craft: FakeCraft) -> None:
    run("new")

    (asked,) = craft.asked
    assert len(asked["mutators"]) == 2
    assert asked["met"] == ()


def test_new_draws_the_weakest_topic_first_and_no_bug_twice(
    run: Run, craft: FakeCraft, desk: Path
) -> None:
    run("new")
    over(run, desk / "puzzles/0badcafe")

    ended = run("new", "--out", "b")

    assert ended.exit_code == 0
    asked = craft.asked[-1]
    assert [m.name for m in asked["mutators"]] == ["divisor_counts_one_too_many"]
    assert asked["met"] == {("toy", "divisor_counts_one_too_many")}
    assert "and your record: looking for" in ended.stderr
    assert "numerics" not in ended.output


def test_what_was_met_is_known_when_its_folder_is_gone(
    run: Run, craft: FakeCraft, desk: Path
) -> None:
    run("new")
    folder = desk / "puzzles/0badcafe"
    over(run, folder)
    for file in folder.iterdir():
        file.unlink()

    run("new", "--out", "b")

    assert craft.asked[-1]["met"] == {("toy", "divisor_counts_one_too_many")}


def test_an_open_hunt_keeps_its_bug_from_coming_again_and_chooses_no_topic(
    run: Run, craft: FakeCraft
) -> None:
    run("new")
    run("new", "--out", "b")

    asked = craft.asked[-1]
    assert len(asked["mutators"]) == 2
    assert asked["met"] == {("toy", "divisor_counts_one_too_many")}


@pytest.mark.parametrize(
    "choice",
    [
        ["--seed", "7"],
        ["--topic", "masking"],
        ["--subject", "toy"],
        ["--mutator", "divisor_counts_one_too_many"],
        ["--level", "2"],
        ["--bugs", "2"],
    ],
    ids=lambda choice: choice[0],
)
def test_a_choice_of_your_own_has_no_regard_to_the_record(
    run: Run, craft: FakeCraft, desk: Path, choice: list[str]
) -> None:
    run("new")
    over(run, desk / "puzzles/0badcafe")

    run("new", "--out", "b", *choice)

    assert craft.asked[-1]["met"] == ()


def test_where_all_were_met_they_come_again(
    run: Run, craft: FakeCraft, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from halfhour.generator.commands import _machine
    from halfhour.generator.errors import UsageError

    run("new")
    over(run, desk / "puzzles/0badcafe")
    tries: list[tuple[int, bool]] = []

    def only_again(subjects: object, mutators: list[object], **asked: object) -> object:
        tries.append((len(mutators), bool(asked["met"])))
        if asked["met"]:
            raise UsageError("no certified puzzle")
        return craft(subjects, mutators, **asked)  # type: ignore[arg-type]

    monkeypatch.setattr(_machine, "craft", only_again)

    assert run("new", "--out", "b").exit_code == 0
    assert tries == [(1, True), (1, True), (2, False)]
    assert store.is_puzzle(desk / "b")
