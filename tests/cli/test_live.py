"""`hunt`, `pause`, `resume` and `completion` as commands; the screen has tests of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import handmade
import pytest
from standins import FakeCraft, FakeJudge, Run, the_object

from halfhour.generator import store
from halfhour.generator.commands import _machine
from halfhour.generator.session import Session


@dataclass
class FakeScreen:
    """Presses keys, and remembers how the hunt was begun."""

    keys: str = ""
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(
        self,
        folder: Path,
        puzzle: object,
        log: Session,
        actions: Mapping[str, Callable[[str, bool], None]],
        **options: Any,
    ) -> None:
        assert store.is_puzzle(folder)
        assert puzzle
        assert log.hunt.is_open
        self.options = options
        for key in self.keys:
            actions[key]("", False)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> FakeScreen:
    fake = FakeScreen()
    monkeypatch.setattr(_machine, "hunt", fake)
    return fake


def log_of(hunt: Path, *, minutes_ago: float = 0) -> Session:
    return Session(hunt, handmade.puzzle(), clock=lambda: time.time() - minutes_ago * 60)


def test_a_hunt_starts_the_clock_and_says_what_is_recorded_once(
    run: Run, hunt: Path, screen: FakeScreen
) -> None:
    first, second = run("hunt", str(hunt)), run("hunt", str(hunt))

    assert (first.exit_code, second.exit_code) == (0, 0)
    log = log_of(hunt)
    assert f"recorded in {log.path}; to stop: --no-record" in first.stderr
    assert "recorded" not in second.stderr
    assert "go on with: halfhour hunt puzzles/0badcafe" in second.stderr
    assert [event["event"] for event in log.events] == ["started", "recording"]
    assert screen.options["record"]
    assert screen.options["plain"], "no terminal is here"
    assert not screen.options["poll"]


def test_no_record_is_remembered_until_it_is_changed(
    run: Run, hunt: Path, screen: FakeScreen
) -> None:
    recorded = []
    for options in (["--no-record"], [], ["--record"], []):
        run("hunt", *options, str(hunt))
        recorded.append(screen.options["record"])

    assert recorded == [False, False, True, True]


def test_keys_do_what_their_commands_do(
    run: Run, hunt: Path, screen: FakeScreen, judge: FakeJudge
) -> None:
    (hunt / "toy.py").write_text(handmade.MUTANT.source + "# mine\n", encoding="utf-8")
    screen.keys = "hdcrd"

    ended = run("hunt", str(hunt))

    assert ended.exit_code == 0
    for words in ("hint 1 of 3", "+# mine", "not fixed: 2 of 4 promises", "as handed out"):
        assert words in ended.output
    assert len(judge.trials) == 1
    assert (hunt / "toy.py").read_text(encoding="utf-8") == handmade.MUTANT.source
    assert (log_of(hunt).hunt.hints, log_of(hunt).hunt.resets) == (1, 1)


def test_a_key_that_fails_ends_in_a_sentence_and_the_hunt_goes_on(
    run: Run, hunt: Path, screen: FakeScreen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)
    (hunt / "toy.py").unlink()
    screen.keys = "doah"

    ended = run("hunt", str(hunt))

    assert ended.exit_code == 0
    assert "set VISUAL or EDITOR to your editor" in ended.stderr
    assert "say which line: a LINE [WHY]" in ended.stderr
    assert "hint 1 of 3" in ended.stdout


def test_a_line_is_accused_with_a_reason(
    run: Run, hunt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def accuse(*arguments: Any, **_: Any) -> None:
        arguments[3]["a"]("11  it divides -- wrongly", False)
        arguments[3]["a"]("eleven", False)
        arguments[3]["a"]("99999", False)

    monkeypatch.setattr(_machine, "hunt", accuse)

    ended = run("hunt", str(hunt))

    assert ended.exit_code == 0
    (accused,) = (event for event in log_of(hunt).events if event["event"] == "accused")
    assert (accused["line"], accused["because"]) == (11, "it divides -- wrongly")
    assert "'eleven' is not a valid integer" in ended.stderr
    assert "there is no line 99999" in ended.stderr


def test_minutes_and_extra_are_for_the_start(run: Run, hunt: Path, screen: FakeScreen) -> None:
    begun = run("hunt", "--minutes", "20", "--extra", "50", str(hunt))
    again = run("hunt", "--minutes", "40", str(hunt))

    assert begun.exit_code == 0
    assert screen.options
    assert log_of(hunt).hunt.minutes == 30
    assert log_of(hunt).events[0]["base"] == 20
    assert log_of(hunt).events[0]["extra"] == 50
    assert again.exit_code == 2
    assert "the clock of this hunt runs with 30 minutes already" in again.stderr


@pytest.mark.parametrize("options", [["--minutes", "0"], ["--extra", "30"], ["--minutes", "721"]])
def test_a_clock_that_makes_no_sense_is_refused(run: Run, hunt: Path, options: list[str]) -> None:
    assert run("hunt", *options, str(hunt)).exit_code == 2
    assert not log_of(hunt).events


def test_new_takes_minutes_and_extra(run: Run, desk: Path, craft: FakeCraft) -> None:
    assert craft
    ended = run("new", "--minutes", "40", "--extra", "100", "--out", "here", "--json")

    assert the_object(ended)["minutes"] == 80
    assert log_of(desk / "here").hunt.minutes == 80
    assert the_object(run("status", "here", "--json"))["minutes"] == 80


def test_a_hunt_that_is_over_is_not_begun_again(run: Run, hunt: Path, screen: FakeScreen) -> None:
    log_of(hunt).start()
    log_of(hunt).revealed()

    ended = run("hunt", str(hunt))

    assert ended.exit_code == 0
    assert "this hunt is over; next: halfhour new" in ended.stderr
    assert not screen.options


def test_a_pause_rests_the_clock_until_the_hunt_goes_on(
    run: Run, hunt: Path, screen: FakeScreen
) -> None:
    log_of(hunt, minutes_ago=10).start()
    paused = run("pause", str(hunt))
    stands = the_object(run("status", str(hunt), "--json"))
    run("hunt", str(hunt))

    assert paused.exit_code == 0
    assert paused.stdout.startswith("paused at 10:0")
    assert "halfhour resume puzzles/0badcafe" in paused.stderr
    assert 1190 <= stands["remaining_seconds"] <= 1200
    assert (stands["state"], stands["next"]) == ("paused", "halfhour resume puzzles/0badcafe")
    assert the_object(run("status", str(hunt), "--json"))["state"] == "open"
    assert screen.options
    assert log_of(hunt).hunt.paused is None


def test_pause_and_resume_as_json(run: Run, hunt: Path) -> None:
    log_of(hunt).start()
    paused = the_object(run("pause", str(hunt), "--json"))
    resumed = the_object(run("resume", str(hunt), "--json"))

    assert (paused["paused"], resumed["paused"]) == (True, False)
    assert 1790 <= resumed["remaining_seconds"] <= 1800


def test_there_is_nothing_to_pause_before_the_start(run: Run, hunt: Path) -> None:
    ended = run("pause", str(hunt))

    assert ended.exit_code == 2
    assert "there is no clock to pause" in ended.stderr


def test_only_practice_can_be_paused(run: Run, desk: Path) -> None:
    folder = desk / "published"
    store.write_puzzle(folder, handmade.puzzle(), None)
    log_of(folder).start()

    ended = run("pause", str(folder))

    assert ended.exit_code == 2
    assert "only practice can be paused" in ended.stderr
    assert log_of(folder).hunt.paused is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_script_of_a_shell(run: Run, shell: str) -> None:
    ended = run("completion", shell)

    assert ended.exit_code == 0
    assert f"_HALFHOUR_COMPLETE={shell}_complete" in ended.stdout


def test_what_the_script_asks_for_is_answered(run: Run) -> None:
    asked = {"_HALFHOUR_COMPLETE": "bash_complete", "COMP_WORDS": "halfhour hu", "COMP_CWORD": "1"}
    ended = run(env=asked, prog_name="halfhour")

    assert "plain,hunt" in ended.stdout
