"""`halfhour new`: a folder on stdout, words on stderr, and nothing that spoils in either."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import handmade
import pytest
from standins import FakeCraft, Run, the_object

from halfhour.generator import console, store
from halfhour.generator.errors import UsageError
from halfhour.generator.session import Session


def log_of(folder: Path) -> Session:
    return Session(folder, handmade.puzzle())


def test_new_prints_the_folder_alone_on_stdout(run: Run, desk: Path, craft: FakeCraft) -> None:
    ended = run("new", "--seed", "7")

    assert ended.exit_code == 0
    assert ended.stdout == "puzzles/0badcafe\n"
    assert store.read_puzzle(desk / "puzzles/0badcafe") == handmade.puzzle()
    assert "puzzles/0badcafe/README.md" in ended.stderr
    assert "halfhour check puzzles/0badcafe" in ended.stderr
    assert craft.asked[0]["seed"] == 7


def test_new_starts_the_clock(run: Run, desk: Path, craft: FakeCraft) -> None:
    assert craft.says is None
    run("new")

    assert log_of(desk / "puzzles/0badcafe").hunt.is_open


@pytest.mark.parametrize("terminal", [False, True], ids=["a pipe", "a terminal"])
def test_nothing_that_is_said_spoils(
    run: Run, craft: FakeCraft, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    """The craft names what it proves; a candidate must not read it."""
    assert craft.says is None
    stream = SimpleNamespace(isatty=lambda: terminal)
    monkeypatch.setattr(console, "sys", SimpleNamespace(stdout=stream, stderr=stream))

    ended = run("new", "--debug")

    assert ended.exit_code == 0
    assert ("proving, step 1" in ended.stderr) is terminal
    for word in (handmade.BUG.mutator, handmade.BUG.title, "toy:11"):
        assert word not in ended.output


def test_without_a_seed_one_is_drawn_and_said(run: Run, craft: FakeCraft) -> None:
    ended = run("new", "--out", "a")

    seed = craft.asked[0]["seed"]
    assert f"seed {seed}" in ended.stderr
    run("new", "--out", "b")
    assert craft.asked[1]["seed"] != seed


def test_choices_reach_the_craft(run: Run, craft: FakeCraft) -> None:
    run("new", "--topic", "numerics", "--subject", "toy", "--bugs", "2", "--level", "3")

    (asked,) = craft.asked
    assert [m.name for m in asked["mutators"]] == ["divisor_counts_one_too_many"]
    assert [s.name for s in asked["subjects"]] == ["toy"]
    assert (asked["bugs"], asked["level"]) == (2, 3)


def test_every_bug_may_come_by_default(run: Run, craft: FakeCraft) -> None:
    run("new")

    (asked,) = craft.asked
    assert len(asked["mutators"]) == 2
    assert (asked["bugs"], asked["level"]) == (1, None)
    assert asked["disguise"] is False


def test_a_disguise_is_asked_for(run: Run, craft: FakeCraft) -> None:
    run("new", "--disguise", "--out", "a")
    run("new", "--no-disguise", "--out", "b")

    assert [asked["disguise"] for asked in craft.asked] == [True, False]


@pytest.mark.parametrize(
    ("option", "name", "near"),
    [
        ("--topic", "numeric", "numerics"),
        ("--mutator", "window_lets_two_keys_in", "window_lets_one_key_too_many_in"),
        ("--subject", "toi", "toy"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    *, run: Run, craft: FakeCraft, option: str, name: str, near: str
) -> None:
    ended = run("new", option, name)

    assert ended.exit_code == 2
    assert f"named {name!r}; did you mean {near}" in ended.stderr
    assert craft.asked == []


def test_the_json_object(run: Run, craft: FakeCraft) -> None:
    assert craft.says is None

    assert the_object(run("new", "--seed", "7", "--json")) == {
        "schema": 1,
        "puzzle": "0badcafe",
        "folder": "puzzles/0badcafe",
        "brief": "puzzles/0badcafe/README.md",
        "file": "puzzles/0badcafe/toy.py",
        "subject": "toy",
        "title": "Mean and spread",
        "topics": ["numerics"],
        "level": 2,
        "minutes": 30,
        "bugs": 1,
        "seed": 7,
        "resumed": False,
    }


def test_out_names_the_folder(run: Run, desk: Path, tmp_path: Path, craft: FakeCraft) -> None:
    assert craft.says is None

    assert run("new", "--out", "mine").stdout == "mine\n"
    assert store.is_puzzle(desk / "mine")
    elsewhere = tmp_path / "else where"
    ended = run("new", "--out", str(elsewhere))
    assert ended.stdout == f"{elsewhere}\n"
    assert f"halfhour check '{elsewhere}'" in ended.stderr


def test_a_folder_with_other_things_is_refused_before_the_work(
    run: Run, desk: Path, craft: FakeCraft
) -> None:
    (desk / "thesis.txt").write_text("years of work", encoding="utf-8")

    ended = run("new", "--out", ".")

    assert ended.exit_code == 2
    assert "is not empty" in ended.stderr
    assert craft.asked == []
    assert [path.name for path in desk.iterdir()] == ["thesis.txt"]


def test_a_place_that_cannot_be_written_to_is_a_usage_error(
    run: Run, desk: Path, craft: FakeCraft
) -> None:
    (desk / "puzzles").write_text("a file is in the way", encoding="utf-8")
    assert craft.says is None

    ended = run("new")

    assert ended.exit_code == 2
    assert "a file is in the way" in ended.stderr
    assert [path.name for path in desk.iterdir()] == ["puzzles"]


def test_the_same_puzzle_again_goes_on_with_its_clock(
    run: Run, desk: Path, craft: FakeCraft
) -> None:
    assert craft.says is None
    run("new", "--seed", "7")
    started = log_of(desk / "puzzles/0badcafe").hunt.started

    ended = run("new", "--seed", "7", "--json")

    assert ended.exit_code == 0
    assert the_object(ended)["resumed"] is True
    assert log_of(desk / "puzzles/0badcafe").hunt.started == started


def test_the_same_puzzle_with_edits_is_never_overwritten(
    run: Run, desk: Path, craft: FakeCraft
) -> None:
    assert craft.says is None
    run("new", "--seed", "7")
    (desk / "puzzles/0badcafe/toy.py").write_text("mine = 1\n", encoding="utf-8")

    ended = run("new", "--seed", "7")

    assert ended.exit_code == 2
    assert "holds this puzzle already" in ended.stderr
    assert (desk / "puzzles/0badcafe/toy.py").read_text(encoding="utf-8") == "mine = 1\n"


def test_resume_goes_on_with_the_open_hunt(run: Run, craft: FakeCraft) -> None:
    run("new")

    ended = run("new", "--resume")

    assert ended.stdout == "puzzles/0badcafe\n"
    assert "this hunt is under way" in ended.stderr
    assert len(craft.asked) == 1


def test_resume_makes_a_new_puzzle_where_none_is_open(
    run: Run, desk: Path, craft: FakeCraft
) -> None:
    run("new")
    log_of(desk / "puzzles/0badcafe").revealed()

    run("new", "--resume", "--out", "another")

    assert len(craft.asked) == 2


def test_a_choice_without_puzzles_is_a_usage_error(run: Run, desk: Path, craft: FakeCraft) -> None:
    craft.says = UsageError("no certified puzzle with one bug at level 5 in this choice")

    ended = run("new", "--level", "5")

    assert ended.exit_code == 2
    assert "no certified puzzle" in ended.stderr
    assert list(desk.iterdir()) == []


def test_ctrl_c_leaves_nothing_and_exits_with_130(run: Run, desk: Path, craft: FakeCraft) -> None:
    craft.says = KeyboardInterrupt()

    ended = run("new")

    assert ended.exit_code == 130
    assert "halfhour: interrupted" in ended.stderr
    assert list(desk.iterdir()) == []


def test_ctrl_c_while_writing_leaves_nothing(
    run: Run, desk: Path, craft: FakeCraft, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert craft.says is None
    synced: list[int] = []

    def third_time(handle: int) -> None:
        synced.append(handle)
        if len(synced) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", third_time)

    assert run("new").exit_code == 130
    assert list(desk.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--bugs", "0"], ["--level", "6"], ["--seed", "-1"]])
def test_a_number_out_of_range_is_a_usage_error(
    run: Run, craft: FakeCraft, arguments: list[str]
) -> None:
    assert run("new", *arguments).exit_code == 2
    assert craft.asked == []
