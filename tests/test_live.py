"""The parts of a live hunt, each without a terminal."""

from __future__ import annotations

import io
import os
import re
import select
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import toy
from rich.console import Console

from halfhour.generator.hunt import view, watch
from halfhour.generator.hunt.keys import Key, Keys
from halfhour.generator.hunt.runner import Ran, Runner
from halfhour.generator.hunt.surface import Screen
from halfhour.generator.hunt.view import State
from halfhour.generator.hunt.watch import Watched, Watcher
from halfhour.generator.records import VerdictKind
from halfhour.generator.session import Check, Hunt

MINUTE = 60.0
BREAKS = toy.SOURCE.replace("total / len(values)", "7.0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(toy.SOURCE, encoding="utf-8")
    (tmp_path / "test_visible.py").write_text(toy.VISIBLE, encoding="utf-8")
    return tmp_path


@pytest.fixture
def runner(folder: Path) -> Iterator[Runner]:
    runner = Runner(folder, "test_visible.py")
    yield runner
    runner.close()


def ended(runner: Runner) -> Ran:
    """Wait for the result of the run under way."""
    for _ in range(100):
        handle = runner.fileno()
        assert handle is not None
        assert select.select([handle], [], [], 120)[0], "no answer came"
        if (ran := runner.read()) is not None:
            return ran
    raise AssertionError("many answers came and none was a result")


def state(**changes: object) -> State:
    hunt = Hunt(minutes=30, now=60.0, started=0.0, hints=1)
    bare = State(title="Mean and spread of a list", hunt=hunt, clock="29:00 of 30 minutes left")
    return replace(bare, **changes)  # type: ignore[arg-type]


# The visible tests in their warm process.


def test_every_run_tells_of_the_file_as_it_is_then(runner: Runner, folder: Path) -> None:
    """One process serves all runs, and remembers nothing of a file from one to the next."""
    runner.start()
    first = ended(runner)
    (folder / "toy.py").write_text(BREAKS, encoding="utf-8")
    runner.start()
    second = ended(runner)
    (folder / "toy.py").write_text("x = = 1\n", encoding="utf-8")
    runner.start()
    third = ended(runner)
    (folder / "toy.py").write_text(toy.SOURCE, encoding="utf-8")
    runner.start()
    fourth = ended(runner)

    assert (first.passed, first.failed, first.first) == (1, 0, "")
    assert (second.passed, second.failed) == (0, 1)
    assert second.first == "test_mean_of_one_value at test_visible.py:8: assert 7.0 == 3.0"
    assert (third.passed, third.failed) == (0, 1)
    assert third.first == "the file does not load at toy.py:1: SyntaxError: invalid syntax"
    assert (fourth.passed, fourth.failed) == (1, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["test_visible.py", "toy.py"]


def test_a_run_that_hangs_gives_way_to_the_next(runner: Runner, folder: Path) -> None:
    (folder / "toy.py").write_text("while True:\n    pass\n", encoding="utf-8")
    runner.start()
    (folder / "toy.py").write_text(toy.SOURCE, encoding="utf-8")
    runner.start()

    assert ended(runner).passed == 1


def test_a_file_that_ends_its_process_costs_that_run_alone(runner: Runner, folder: Path) -> None:
    (folder / "toy.py").write_text("import os\nos._exit(0)\n", encoding="utf-8")
    runner.start()
    died = ended(runner)
    (folder / "toy.py").write_text(toy.SOURCE, encoding="utf-8")
    runner.start()

    assert died.trouble == "the tests ended without a result"
    assert ended(runner).passed == 1


def test_a_failure_within_a_library_is_told_by_the_line_that_called_it(
    runner: Runner, folder: Path
) -> None:
    calls = toy.SOURCE.replace("total / len(values)", '__import__("json").loads("{")')
    (folder / "toy.py").write_text(calls, encoding="utf-8")
    runner.start()

    assert ended(runner).first.startswith("test_mean_of_one_value at toy.py:11: json.decoder.JSON")


def test_configuration_of_the_folders_above_has_no_say(runner: Runner, folder: Path) -> None:
    (folder / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = "--nonsense"\n', encoding="utf-8"
    )
    runner.start()

    assert ended(runner).passed == 1


# The watched file.


def test_a_save_in_place_and_a_save_by_renaming_are_both_seen(folder: Path) -> None:
    watched = Watched([folder / "toy.py"])
    assert not watched.changed()

    (folder / "toy.py").write_text(BREAKS, encoding="utf-8")
    assert watched.changed()
    assert watched.text == BREAKS
    assert not watched.changed()

    (folder / "toy.py~").write_text(toy.SOURCE, encoding="utf-8")
    (folder / "toy.py~").rename(folder / "toy.py")
    assert watched.changed()
    assert watched.text == toy.SOURCE


def test_a_save_of_the_same_text_is_no_change(folder: Path) -> None:
    watched = Watched([folder / "toy.py"])
    os.utime(folder / "toy.py", (1, 1))

    assert not watched.changed()


def test_a_file_that_goes_and_comes_back(folder: Path) -> None:
    watched = Watched([folder / "toy.py"])
    (folder / "toy.py").unlink()
    assert watched.changed()
    assert watched.missing

    (folder / "toy.py").write_text(toy.SOURCE, encoding="utf-8")
    assert watched.changed()
    assert not watched.missing


def test_a_changed_test_is_a_reason_to_test(folder: Path) -> None:
    watched = Watched([folder / "toy.py", folder / "test_visible.py"])
    (folder / "test_visible.py").write_text("", encoding="utf-8")

    assert watched.changed()


def test_the_system_calls_for_a_change_in_the_folder(folder: Path) -> None:
    called = threading.Event()
    watcher = Watcher(folder, called.set)
    watcher.start()
    try:
        for number in range(240):  # the first may come before the system watches
            (folder / "toy.py").write_text(f"x = {number}\n", encoding="utf-8")
            if called.wait(0.5):
                break
    finally:
        watcher.stop()

    assert called.is_set()


def test_a_system_that_cannot_watch_is_in_nobodys_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("too many watches")

    monkeypatch.setattr(watch, "watch", refuse)
    watcher = Watcher(folder, lambda: None)
    watcher.start()
    watcher.stop()


# The keys.


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A pipe for standard input."""
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        monkeypatch.setattr("sys.stdin", stream)
        yield writer


def test_lines_are_keys_where_there_is_no_terminal(typed: int) -> None:
    with Keys() as keys:
        os.write(typed, b"c\n\nA 11  it divides wrongly\nq")
        assert keys.read() == [Key("c"), Key("a", "11  it divides wrongly")]
        os.close(typed)
        assert keys.read() == [Key("q")]
        assert keys.read() is None


def test_on_a_terminal_an_arrow_is_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stream, os.fdopen(ours, "wb", buffering=0) as writer:
        monkeypatch.setattr("sys.stdin", stream)
        with Keys() as keys:
            assert keys.single
            writer.write(b"\x1b[A")
            assert keys.read() == []
            writer.write(b"C")
            assert keys.read() == [Key("c")]
            writer.write(b"\x04")
            assert keys.read() is None


# The words.


@pytest.mark.parametrize(
    ("before", "now", "warning"),
    [
        (601, 600, "10 minutes left."),
        (600.5, 299, "5 minutes left."),
        (61, 60, "1 minute left."),
        (1, 0, "The time is up. A fix still counts; it is marked late."),
        (1800, 0, "The time is up. A fix still counts; it is marked late."),
        (600, 599, None),
        (0, 0, None),
        (100, 1800, None),
    ],
)
def test_a_bell_rings_once_when_its_minute_begins(
    before: float, now: float, warning: str | None
) -> None:
    assert view.bell(before, now) == warning


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_block_shows_time_result_and_keys_at_any_width(width: int) -> None:
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=True, width=width, height=40, color_system=None)
    screen = Screen(console)
    check = Check(1.0, VerdictKind.NOT_FIXED, 2, 4)
    ran = Ran(3, 1, 0.42, first="test_mean at toy.py:3: assert 7.0 == 3.0")
    now = state(ran=ran, hunt=replace(state().hunt, checks=(check,)))

    screen.show(now)
    screen.open()
    screen.close()

    text = " ".join(shown.getvalue().split())
    assert "29:00 of 30 minutes" in text
    assert "1 of 4 failed" in text
    assert "test_mean at toy.py:3" in text
    assert "2 of 4 kept" in text
    for key in ("c check", "h hint", "d my diff", "a accuse", "o open", "r reset", "q quit"):
        assert key in text
    assert all(len(line) <= width for line in _visible_lines(shown.getvalue()))


def test_the_screen_in_the_readme_is_the_one_that_is_shown() -> None:
    readme = Path(__file__).parent.parent.joinpath("README.md").read_text(encoding="utf-8")
    check = Check(1.0, VerdictKind.NOT_FIXED, 28, 39)
    shown = state(
        title="Sliding-window attention decoder with a rolling KV cache",
        clock="21:40 of 30 minutes left",
        ran=Ran(
            2,
            1,
            0.42,
            first="test_a_prompt_gets_logits at sliding_window_decoder.py:120: IndexError",
        ),
        hunt=replace(state().hunt, checks=(check,)),
    )

    block = "\n".join(words for words, _ in view.block(shown))

    assert f"```text\n{block}\n```" in readme


def _visible_lines(drawn: str) -> list[str]:
    """Return what stands on lines of their own, of each time that the block was drawn."""
    lines = re.split(r"\r|\n|\x1b\[2K", drawn)
    return [re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line) for line in lines]


def test_what_a_test_says_cannot_steer_the_terminal() -> None:
    words, _ = view.result(Ran(0, 1, 0.1, first="\x1b[2J\x07 wiped\n" + "x" * 999))

    assert words.isprintable()
    assert len(words) < 250


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "visible tests: not run yet"),
        ({"running": True}, "visible tests: running (the first run takes longer)"),
        ({"ran": Ran(3, 0, 0.42)}, "visible tests: all 3 passed (0.4 s)"),
        ({"ran": Ran(3, 0, 0.42), "running": True}, "visible tests: running"),
        ({"ran": Ran(0, 0, 1, trouble="no test was found")}, "visible tests: no test was found"),
        ({"missing": True}, "the file is not there; r puts it back"),
    ],
)
def test_how_the_visible_tests_stand(changes: dict[str, object], words: str) -> None:
    assert view.tests(state(**changes))[0] == words
