"""`halfhour hunt` in a terminal and in a pipe, as its user drives it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import handmade
import pexpect
import pot
import pytest
import toy
from homes import make_home

from halfhour.generator import store
from halfhour.generator.session import Session

HALFHOUR = [sys.executable, "-m", "halfhour.generator"]
BREAKS = toy.SOURCE.replace("total / len(values)", "7.0")
SECONDS = 120
"""A loaded machine takes its time."""

Hunter = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store.write_puzzle(tmp_path / "hunt", handmade.puzzle(), handmade.answer())
    return tmp_path / "hunt"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    home = {"HALFHOUR_HOME": str(make_home(tmp_path / "home")), "HALFHOUR_WARM_MINUTES": "0"}
    return {**kept, **home, "TERM": "xterm-256color"}


@pytest.fixture
def hunter(folder: Path, environment: dict[str, str]) -> Iterator[Hunter]:
    """Sit down at the puzzle, in a terminal of one's own."""
    opened: list[pexpect.spawn[str]] = []

    def sit(
        *options: str, columns: int = 80, also: dict[str, str] | None = None
    ) -> pexpect.spawn[str]:
        child = pexpect.spawn(
            HALFHOUR[0],
            [*HALFHOUR[1:], "hunt", *options, folder.name],
            cwd=str(folder.parent),
            env={**environment, **(also or {})},
            encoding="utf-8",
            timeout=SECONDS,
            dimensions=(30, columns),
        )
        opened.append(child)
        return child

    yield sit
    for child in opened:
        with suppress(pexpect.ExceptionPexpect):  # killed, but not gone at once
            child.close(force=True)


def log_of(folder: Path, *, minutes_ago: float = 0.0) -> Session:
    """Open the log as another process would, with a clock that is behind."""
    return Session(
        folder,
        handmade.puzzle(),
        clock=lambda: time.time() - minutes_ago * 60,
        state_dir=folder.parent / "home" / "state",
    )


def save(folder: Path, text: str) -> None:
    """Save as many editors do: beside, and then renamed over the old file."""
    (folder / "toy.py.new").write_text(text, encoding="utf-8")
    (folder / "toy.py.new").rename(folder / "toy.py")


def events(folder: Path) -> list[str]:
    return [str(event["event"]) for event in log_of(folder).events]


def leaves(child: pexpect.spawn[str]) -> int | None:
    """Wait for the end; return the exit code, once the terminal is found to be as before."""
    child.expect(pexpect.EOF)
    modes = termios.tcgetattr(child.child_fd)[3]
    assert modes & termios.ECHO
    assert modes & termios.ICANON
    assert str(child.before).rfind("\x1b[?25h") >= str(child.before).rfind("\x1b[?25l")
    child.wait()
    code: int | None = child.exitstatus
    return code


def test_a_hunt_from_the_first_save_to_the_fix(hunter: Hunter, folder: Path) -> None:
    child = hunter()
    child.expect("your saves and runs are recorded in ")
    child.expect("visible tests: all 1 passed")

    save(folder, BREAKS)
    for words in ("1 of 1 failed", "test_mean_of_one_value", "test_visible.py:8"):
        child.expect(words)
    child.send("d")
    child.expect(re.escape("+    return 7.0"))
    child.send("h")
    child.expect(r"hint 1 of 3 costs 1 of 7 points, go on\? \[y/N\]")
    child.sendline("n")
    child.expect("no hint is told")
    child.expect("hints: 0")
    child.send("h")
    child.expect("go on\\?")
    child.sendline("y")
    child.expect(re.escape(handmade.BUG.hints[0]))
    child.expect("hints: 1")
    child.send("q")
    child.expect("left; the clock runs on; go on with: halfhour hunt hunt")
    assert leaves(child) == 0

    child = hunter()
    child.expect("visible tests: 1 of 1 failed")
    assert "recorded in" not in str(child.before), "it was said already"
    save(folder, toy.SOURCE)
    child.expect("visible tests: all 1 passed")
    child.send("c")
    child.expect("judging; 29:[0-9]+ of 30 minutes left")
    child.expect("all 4 promises are kept", timeout=4 * SECONDS)
    child.expect("last check: fixed")
    child.send("q")
    child.expect("solved in")
    assert leaves(child) == 0

    told = [name for name in events(folder) if name not in {"started", "recording"}]
    assert told == ["ran", "saved", "ran", "hinted", "ran", "saved", "ran", "checked"]
    texts = [event["text"] for event in log_of(folder).events if event["event"] == "saved"]
    assert texts == [BREAKS, toy.SOURCE]
    assert not log_of(folder).hunt.is_open


def test_a_kill_in_the_middle_loses_neither_clock_nor_text(hunter: Hunter, folder: Path) -> None:
    log_of(folder, minutes_ago=12).start()
    child = hunter()
    child.expect("17:[0-9]+ of 30 minutes left")
    child.expect("visible tests: all 1 passed")
    save(folder, BREAKS)
    child.expect("visible tests: 1 of 1 failed")

    child.kill(signal.SIGKILL)
    child.expect(pexpect.EOF)
    started = log_of(folder).hunt.started

    child = hunter()
    child.expect("1[67]:[0-9]+ of 30 minutes left")
    child.expect("visible tests: 1 of 1 failed")
    child.send("q")
    assert leaves(child) == 0
    assert log_of(folder).hunt.started == started
    assert events(folder).count("saved") == 1


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_kill_leaves_no_process_behind(hunter: Hunter, folder: Path) -> None:
    child = hunter()
    child.expect("visible tests: all 1 passed")
    assert processes_about(folder)

    child.kill(signal.SIGKILL)
    child.expect(pexpect.EOF)

    until = time.monotonic() + SECONDS
    while processes_about(folder) and time.monotonic() < until:
        time.sleep(0.05)
    assert not processes_about(folder)


def processes_about(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(folder) in words:
            found.append(" ".join(words))
    return found


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
def test_stopped_it_says_how_to_go_on(hunter: Hunter, how: str) -> None:
    child = hunter()
    child.expect("visible tests: running")

    if how == "Ctrl-C":
        child.sendintr()
    else:
        child.kill(signal.SIGTERM)

    child.expect("go on with: halfhour hunt hunt")
    assert leaves(child) == 130


def test_the_clock_warns_and_is_over(hunter: Hunter, folder: Path) -> None:
    """Another process moves the start back, as if time had passed."""
    child = hunter()
    child.expect("29:[0-9]+ of 30 minutes left")

    for minutes, warning in [(20, "10 minutes left"), (25, "5 minutes"), (29, "1 minute left")]:
        log_of(folder, minutes_ago=minutes).start()
        child.expect(warning)
    log_of(folder, minutes_ago=31).start()
    child.expect("The time is up. A fix still counts; it is marked late")
    child.expect("the bell rang 1:[0-9]+ minutes ago")
    assert log_of(folder).hunt.late
    child.send("q")
    child.expect("a fix still counts, marked late; the clock runs on")
    assert leaves(child) == 0


def test_a_bell_that_rings_while_a_command_speaks_is_told_afterwards(
    hunter: Hunter, folder: Path, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho the editor; read line\n", encoding="utf-8")
    editor.chmod(0o755)
    child = hunter(also={"VISUAL": str(editor)})
    child.expect("29:[0-9]+ of 30 minutes left")
    child.send("o")
    child.expect("the editor")
    log_of(folder, minutes_ago=26).start()
    child.sendline("")
    child.expect("5 minutes left")


def test_a_narrow_terminal_that_becomes_narrower(hunter: Hunter, folder: Path) -> None:
    child = hunter("--poll", columns=40)
    child.expect("visible tests: all 1 passed")
    save(folder, BREAKS)
    child.expect("1 of 1 failed")
    child.expect("q quit")
    for line in re.split(r"[\r\n]|\x1b\[2K", str(child.before)):
        assert len(re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line)) <= 40

    child.setwinsize(30, 24)
    child.expect(f"{'─' * 24}[^─]")
    child.send("q")
    child.expect("go on with")
    assert leaves(child) == 0


def test_without_colour_there_is_none(hunter: Hunter) -> None:
    child = hunter(also={"NO_COLOR": "1"})
    child.expect("visible tests: all 1 passed")
    child.send("q")
    child.expect("go on with")

    colours = re.findall(r"\x1b\[(?:[0-9]*;)*(?:3[0-8]|4[0-8]|9[0-7])[;m]", str(child.before))
    assert not colours
    assert "\x1b]8" not in str(child.before)
    assert leaves(child) == 0


def test_paths_can_be_clicked_in_a_terminal(hunter: Hunter, folder: Path) -> None:
    child = hunter()
    child.expect(re.escape(f"\x1b]8;;{(folder / 'toy.py').as_uri()}\x1b\\hunt/toy.py\x1b]8;;"))


def test_the_editor_is_opened_and_the_hunt_goes_on(hunter: Hunter, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "# mine" >> "$1"\n', encoding="utf-8")
    editor.chmod(0o755)
    child = hunter(also={"VISUAL": str(editor)})
    child.expect("visible tests: all 1 passed")
    child.send("o")
    child.expect("saved; running")
    child.send("d")
    child.expect("# mine")


def test_what_is_typed_blindly_is_no_key(hunter: Hunter, folder: Path, tmp_path: Path) -> None:
    """Neither letters that came with a key nor those typed while its command speaks."""
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho the editor; read line; echo it closes\n", encoding="utf-8")
    editor.chmod(0o755)
    child = hunter(also={"VISUAL": str(editor)})
    child.expect("visible tests: all 1 passed")
    save(folder, BREAKS)
    child.expect("1 of 1 failed")

    child.send("orq")
    child.expect("the editor")
    child.send("r\nrrq")
    child.expect("it closes")
    child.expect("q quit")
    child.send("d")
    child.expect(re.escape("+    return 7.0"))
    assert "reset" not in events(folder)
    child.send("q")
    assert leaves(child) == 0


@pytest.mark.parametrize("options", [("--plain", "--poll"), ()], ids=["asked for", "by itself"])
def test_a_pipe_gets_lines(
    folder: Path, environment: dict[str, str], options: tuple[str, ...]
) -> None:
    command = [*HALFHOUR, "hunt", *options, str(folder)]
    with subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told: list[str] = []

        def until(words: str) -> None:
            while words not in (line := process.stdout.readline()):  # type: ignore[union-attr]
                assert line, "".join(told)
                told.append(line)
            told.append(line)

        until("visible tests: all 1 passed")
        save(folder, BREAKS)
        until("visible tests: 1 of 1 failed")
        process.stdin.write("d\nx\nr\n")
        process.stdin.flush()
        until("+    return 7.0")
        until("keys: c check  h hint")
        until("your edit is kept in")
        until("visible tests: all 1 passed")
        (folder / "toy.py").unlink()
        until("toy.py is not there; r puts it back")
        process.stdin.close()  # the end of the input is the end of the hunt
        until("go on with: halfhour hunt")
        assert process.wait(timeout=SECONDS) == 0

    text = "".join(told)
    assert "\x1b" not in text
    assert re.search(r"^\[(30:00|29:\d\d)\] visible tests: all 1 passed", text, re.MULTILINE)


def test_nothing_is_recorded_against_ones_will(hunter: Hunter, folder: Path) -> None:
    child = hunter("--no-record")
    child.expect("your saves and runs are not recorded")
    child.expect("visible tests: all 1 passed")
    save(folder, BREAKS)
    child.expect("visible tests: 1 of 1 failed")
    child.send("q")
    assert leaves(child) == 0

    child = hunter()
    child.expect("visible tests: 1 of 1 failed")
    child.send("q")
    assert leaves(child) == 0
    assert events(folder) == ["started", "recording"]


def test_the_screen_speaks_the_language_of_a_catalogue(hunter: Hunter, tmp_path: Path) -> None:
    pot.write_toy(tmp_path / "locale", "tlh")
    child = hunter(also={"HALFHOUR_LOCALE": str(tmp_path / "locale"), "LANGUAGE": "tlh"})
    for words in ("~visible tests: all 1 passed", "~last check: none yet", "c ~check  h ~hint"):
        child.expect(words)
