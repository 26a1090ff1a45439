"""A puzzle whose answer its publisher keeps: it can be hunted in, and not judged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import handmade
import pytest
from standins import FakeJudge, Run

from halfhour.generator import store
from halfhour.generator.commands import _machine
from halfhour.generator.records import Puzzle
from halfhour.generator.session import Session

SENTENCE = "came without its answer: send your toy.py to whoever published it"


@pytest.fixture
def published(desk: Path) -> Path:
    folder = desk / "1-0badcafe"
    store.write_puzzle(folder, handmade.puzzle(), None)
    return folder


@pytest.mark.parametrize(
    "command",
    [("check",), ("hint",), ("reveal",), ("report",), ("accuse", "11"), ("prove", "test_mine.py")],
    ids=lambda command: command[0],
)
def test_what_needs_the_answer_says_who_has_it(
    run: Run, published: Path, judge: FakeJudge, command: tuple[str, ...]
) -> None:
    (published.parent / "test_mine.py").write_text("", encoding="utf-8")

    ended = run(*command, str(published))

    assert ended.exit_code == 2
    assert SENTENCE in ended.stderr
    assert ended.stdout == ""
    assert judge.trials == []


def test_hunt_runs_and_its_keys_say_it(
    run: Run, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(
        folder: Path,
        puzzle: Puzzle,
        log: Session,
        actions: Mapping[str, Callable[[str, bool], None]],
        **options: Any,
    ) -> None:
        assert (folder, puzzle) == (published, handmade.puzzle())
        assert log.hunt.is_open
        assert options
        for key in "chd":
            actions[key]("", False)
        actions["a"]("11 why", False)

    monkeypatch.setattr(_machine, "hunt", pressed)

    ended = run("hunt", str(published), "--no-record")

    assert ended.exit_code == 0, ended.stderr
    assert ended.stderr.count(SENTENCE) == 3
    assert "the file is as handed out" in ended.stdout
    assert "of 30 minutes left" in ended.stderr


def test_status_shows_the_clock(run: Run, published: Path) -> None:
    shown = run("status", str(published))
    found = json.loads(run("status", str(published), "--json").stdout)

    assert shown.exit_code == 0
    assert "the answer is with its publisher" in shown.stdout
    assert "halfhour hunt" in found["next"]
    assert found["hints_of"] == 0


def test_reset_puts_the_file_back(run: Run, published: Path) -> None:
    (published / "toy.py").write_text("mine = 1\n", encoding="utf-8")

    assert run("reset", str(published)).exit_code == 0
    assert (published / "toy.py").read_text(encoding="utf-8") == handmade.puzzle().source
