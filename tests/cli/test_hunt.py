"""`hint`, `status`, `reset`, `reveal`, and `halfhour` alone: the quick commands of a hunt."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import handmade
import pot
import pytest
from standins import FakeJudge, Run, the_object

from halfhour.generator import console, store
from halfhour.generator.commands import hunt as commands
from halfhour.generator.records import VerdictKind
from halfhour.generator.session import Session

HINTS = handmade.BUG.hints


def log_of(hunt: Path) -> Session:
    return Session(hunt, handmade.puzzle())


def test_hints_come_one_by_one_from_far_to_near(run: Run, hunt: Path) -> None:
    ended = [run("hint", str(hunt)) for _ in range(3)]

    assert [e.exit_code for e in ended] == [0, 0, 0]
    assert [e.stdout for e in ended] == [
        f"hint {step} of 3: {text}\n" for step, text in enumerate(HINTS, start=1)
    ]
    assert "reveal" not in ended[0].stderr
    assert "that was the last hint; the answer: halfhour reveal" in ended[2].stderr


def test_after_the_last_hint_there_is_only_the_reveal(run: Run, hunt: Path) -> None:
    for _ in range(3):
        run("hint", str(hunt))

    ended = run("hint", str(hunt))

    assert ended.exit_code == 0
    assert ended.stdout == ""
    assert "there is no further hint; the answer: halfhour reveal puzzles/0badcafe" in ended.stderr
    assert log_of(hunt).hunt.hints == 3


def test_hints_as_json(run: Run, hunt: Path) -> None:
    found = [the_object(run("hint", str(hunt), "--json")) for _ in range(4)]

    assert found[1] == {
        "schema": 1,
        "puzzle": "0badcafe",
        "step": 2,
        "of": 3,
        "hint": HINTS[1],
        "hints": list(HINTS[:2]),
        "cost": 1 + 2,
        "cost_of": 1 + 2 + 4,
    }
    assert found[3]["hint"] is None
    assert found[3]["hints"] == list(HINTS)


def test_what_was_told_is_told_again_for_nothing(run: Run, hunt: Path) -> None:
    assert "no hint was told yet" in run("hint", "--again", str(hunt)).stderr
    assert log_of(hunt).hunt.started is None
    told = [run("hint", str(hunt)).stdout for _ in range(2)]

    again = run("hint", "--again", str(hunt))
    found = the_object(run("hint", "--again", "--json", str(hunt)))

    assert again.stdout == "".join(told)
    assert (found["hint"], found["hints"], found["cost"]) == (None, list(HINTS[:2]), 3)
    assert log_of(hunt).hunt.hints == 2


def test_each_hint_is_noted_with_what_it_cost(run: Run, hunt: Path) -> None:
    for _ in range(4):
        run("hint", str(hunt))

    noted = [event for event in log_of(hunt).events if event["event"] == "hinted"]
    assert [(event["step"], event["cost"]) for event in noted] == [(1, 1), (2, 2), (3, 4)]


def test_a_first_hint_starts_the_clock(run: Run, hunt: Path) -> None:
    run("hint", str(hunt))

    assert log_of(hunt).hunt.is_open


def test_looking_at_the_status_starts_nothing(run: Run, hunt: Path) -> None:
    ended = run("status", str(hunt))

    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "puzzle   Mean and spread (puzzles/0badcafe)",
        "clock    30 minutes; the clock starts with the first check or hint",
        "hints    0 of 3",
        "verdict  none yet",
        "next     halfhour check puzzles/0badcafe",
    ]
    assert log_of(hunt).hunt.started is None


def test_the_status_of_a_hunt(run: Run, hunt: Path, judge: FakeJudge) -> None:
    assert judge.broken
    run("hint", str(hunt))
    run("check", str(hunt))

    ended = run("status", str(hunt))
    found = the_object(run("status", str(hunt), "--json"))

    assert "hints    1 of 3" in ended.stdout
    assert "verdict  not fixed, 2 of 4 promises kept" in ended.stdout
    assert found == {
        "schema": 1,
        "puzzle": "0badcafe",
        "folder": "puzzles/0badcafe",
        "subject": "toy",
        "title": "Mean and spread",
        "state": "open",
        "minutes": 30,
        "elapsed_seconds": found["elapsed_seconds"],
        "remaining_seconds": 1800 - found["elapsed_seconds"],
        "late": False,
        "hints": 1,
        "hints_of": 3,
        "checks": 1,
        "last": {"verdict": "not_fixed", "kept": 2, "of": 4},
        "next": "halfhour check puzzles/0badcafe",
    }


def test_the_status_after_the_end(run: Run, hunt: Path, judge: FakeJudge) -> None:
    judge.broken = ()
    run("check", str(hunt))
    solved = the_object(run("status", str(hunt), "--json"))
    run("reveal", str(hunt))
    revealed = the_object(run("status", str(hunt), "--json"))

    assert (solved["state"], solved["next"]) == ("solved", "halfhour reveal puzzles/0badcafe")
    assert (revealed["state"], revealed["next"]) == ("solved", "halfhour new")


def test_reset_puts_the_file_back_and_keeps_the_edit(run: Run, hunt: Path) -> None:
    (hunt / "toy.py").write_text("mine = 1\n", encoding="utf-8")

    ended = run("reset", str(hunt))

    assert ended.exit_code == 0
    assert ended.stdout == "puzzles/0badcafe/toy.py\n"
    assert "puzzles/0badcafe/toy.py.1.bak" in ended.stderr
    assert (hunt / "toy.py").read_text(encoding="utf-8") == handmade.MUTANT.source
    assert (hunt / "toy.py.1.bak").read_text(encoding="utf-8") == "mine = 1\n"
    assert log_of(hunt).hunt.resets == 1


def test_reset_of_an_unedited_file_keeps_no_copy(run: Run, hunt: Path) -> None:
    ended = run("reset", str(hunt))

    assert ended.exit_code == 0
    assert "kept" not in ended.stderr
    assert not list(hunt.glob("*.bak"))


def test_reveal_shows_everything_and_ends_the_hunt(run: Run, hunt: Path) -> None:
    log_of(hunt).start()

    ended = run("reveal", str(hunt))

    assert ended.exit_code == 0
    for part in (handmade.BUG.title, handmade.BUG.diff, handmade.BUG.sightings[0].url):
        assert part in ended.stdout
    assert "revealed after 0:00 minutes" in ended.stderr
    assert not log_of(hunt).hunt.is_open


def test_reveal_as_json(run: Run, hunt: Path) -> None:
    found = the_object(run("reveal", str(hunt), "--json"))

    assert found["solved"] is False
    (bug,) = found["bugs"]
    assert bug["mutator"] == handmade.BUG.mutator
    assert bug["line"] == 11
    assert bug["broken"] == list(handmade.BROKEN)
    assert (bug["demonstration"], bug["missed"], bug["route"]) == (None, "", [])
    assert bug["sightings"] == [{"url": "https://example.org/pull/7", "note": "a running mean"}]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        commands, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True))
    )


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_reveal_asks_first(run: Run, hunt: Path) -> None:
    log_of(hunt).start()

    ended = run("reveal", str(hunt), input="n\n")

    assert ended.exit_code == 0
    assert ended.stdout == ""
    assert "nothing is revealed" in ended.stderr
    assert log_of(hunt).hunt.is_open


@pytest.mark.usefixtures("terminal")
def test_yes_a_solved_hunt_and_json_are_not_asked(run: Run, hunt: Path, judge: FakeJudge) -> None:
    assert handmade.BUG.title in run("reveal", str(hunt), input="y\n").stdout
    assert handmade.BUG.title in run("reveal", str(hunt), "--yes", input="").stdout
    assert the_object(run("reveal", str(hunt), "--json", input=""))["bugs"]
    log_of(hunt).start()
    judge.broken = ()
    run("check", str(hunt))
    assert log_of(hunt).hunt.checks[-1].verdict is VerdictKind.FIXED
    assert handmade.BUG.title in run("reveal", str(hunt), input="").stdout


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_the_cost_of_a_hint_is_said_before_it_is_told(run: Run, hunt: Path) -> None:
    refused = run("hint", str(hunt), input="n\n")

    assert refused.exit_code == 0
    assert "hint 1 of 3 costs 1 of 7 points, go on? [y/N]" in refused.stderr
    assert "no hint is told" in refused.stderr
    assert refused.stdout.strip() in {"", "n"}
    assert HINTS[0] not in refused.output
    assert log_of(hunt).hunt.started is None

    assert HINTS[0] in run("hint", str(hunt), input="y\n").stdout
    assert "costs 2 of 7 points" in run("hint", str(hunt), input="n\n").stderr
    assert log_of(hunt).hunt.hints == 1


@pytest.mark.usefixtures("terminal")
def test_no_question_under_yes_under_json_or_where_no_hint_is_left(run: Run, hunt: Path) -> None:
    assert HINTS[0] in run("hint", str(hunt), "--yes", input="").stdout
    assert the_object(run("hint", str(hunt), "--json", input=""))["hint"] == HINTS[1]
    assert HINTS[2] in run("hint", str(hunt), "--yes", input="").stdout
    assert "costs" not in run("hint", str(hunt), input="").stderr


def test_halfhour_alone_says_how_to_begin(run: Run) -> None:
    ended = run()

    assert ended.exit_code == 0
    assert "next: halfhour new" in ended.stdout


def test_halfhour_alone_says_where_you_are(run: Run, hunt: Path) -> None:
    log_of(hunt).start()

    ended = run()

    assert ended.exit_code == 0
    assert "next     halfhour check puzzles/0badcafe" in ended.stdout


def test_a_solved_hunt_is_still_the_one_that_reveal_means(
    run: Run, hunt: Path, judge: FakeJudge
) -> None:
    judge.broken = ()
    run("check", str(hunt))

    assert handmade.BUG.title in run("reveal").stdout


def test_a_state_that_cannot_be_kept_is_said_once_and_stops_nothing(
    run: Run, hunt: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file is in the way", encoding="utf-8")

    ended = run("hint", str(hunt))

    assert ended.exit_code == 0
    assert ended.stdout == f"hint 1 of 3: {HINTS[0]}\n"
    assert ended.stderr.count("HALFHOUR_HOME") == 1
    for command in ("status", "reset", "reveal"):
        assert run(command, str(hunt)).exit_code == 0


def test_a_puzzle_of_another_version_is_played_with_a_note(run: Run, desk: Path) -> None:
    store.write_puzzle(desk / "old", handmade.puzzle(version="0.0.7"), handmade.answer())

    ended = run("hint", "old")

    assert ended.exit_code == 0
    assert "note: made by halfhour 0.0.7" in ended.stderr


@pytest.mark.parametrize("command", ["check", "hint", "status", "reset", "reveal"])
@pytest.mark.parametrize(
    ("card", "code", "says"),
    [
        pytest.param("format = ", 4, "is damaged", id="damaged"),
        pytest.param("format = 2\n", 4, "newer halfhour (format 2; this one reads 1)", id="newer"),
        pytest.param(None, 2, "is no puzzle", id="no puzzle"),
    ],
)
def test_a_bad_folder_is_said_and_nothing_is_lost(
    *, run: Run, hunt: Path, command: str, card: str | None, code: int, says: str
) -> None:
    (hunt / "toy.py").write_text("mine = 1\n", encoding="utf-8")
    if card is None:
        (hunt / store.CARD).unlink()
    else:
        (hunt / store.CARD).write_text(card, encoding="utf-8")
    before = {path.name: path.read_bytes() for path in hunt.iterdir()}

    ended = run(command, str(hunt))

    assert ended.exit_code == code
    assert ended.stdout == ""
    assert says in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in hunt.iterdir()} == before


@pytest.mark.parametrize("command", ["check", "hint", "status", "reset", "reveal"])
def test_a_folder_that_is_not_there_is_a_usage_error(run: Run, command: str) -> None:
    ended = run(command, "nowhere")

    assert ended.exit_code == 2
    assert "there is no folder nowhere" in ended.stderr


def test_status_speaks_the_language_of_a_catalogue(
    run: Run, hunt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pot.write_toy(tmp_path / "locale", "tlh")
    monkeypatch.setenv("HALFHOUR_LOCALE", str(tmp_path / "locale"))
    monkeypatch.setenv("LANGUAGE", "tlh")

    assert run("status", str(hunt)).stdout.splitlines() == [
        "~puzzle   Mean and spread (puzzles/0badcafe)",
        "~clock    ~30 minutes; the clock starts with the first check or hint",
        "~hints    ~0 of 3",
        "~verdict  ~none yet",
        "~next     halfhour check puzzles/0badcafe",
    ]
    assert the_object(run("status", str(hunt), "--json"))["state"] == "not_started"


def test_no_word_is_broken_on_a_narrow_terminal(
    run: Run, hunt: Path, judge: FakeJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert judge.broken
    monkeypatch.setattr(console, "_is_terminal", lambda _: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((40, 30)))

    lines = run("check", str(hunt)).stdout.splitlines() + run("hint", str(hunt)).stdout.splitlines()

    assert "      The mean is the sum divided by the" in lines
    assert "      count." in lines
    assert "hint 1 of 3: Take the mean of two equal" in lines
