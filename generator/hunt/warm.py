"""The warm process: pays for torch once, then tests each save in a child of its own.

It is told `run N` on standard input and answers one JSON object a line. A new run ends the one
before it; the end of its input ends it, so that it never outlives a hunt that was killed.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

MOST_SECONDS = 60.0
"""A visible test takes a second; one that takes a minute hangs."""

_REHEARSAL = "test_halfhour_rehearsal.py"

_FORKS = hasattr(os, "fork") and sys.platform != "darwin"
"""On macOS a fork after torch may crash; there each run is a process from scratch."""


def main() -> None:
    """Serve until the input ends: `warm FOLDER TESTS [PRELOAD...]`."""
    folder, tests, *preload = sys.argv[1:]
    answers = os.dup(1)
    hole = os.open(os.devnull, os.O_RDWR)
    os.dup2(hole, 1)
    os.dup2(hole, 2)
    if preload == ["--once"]:
        _answer(answers, _result(folder, tests))
        return
    if _FORKS:
        _warm_up(preload)
    _Server(folder, tests, answers).serve()


class _Server:
    def __init__(self, folder: str, tests: str, answers: int) -> None:
        self._folder = folder
        self._tests = tests
        self._answers = answers
        self._number = 0
        self._child: int | None = None
        self._pipe = -1
        self._heard = b""
        self._until = 0.0

    def serve(self) -> None:
        asked = b""
        while True:
            waited = None if self._child is None else max(0.0, self._until - time.monotonic())
            sources = [0] if self._child is None else [0, self._pipe]
            ready, _, _ = select.select(sources, [], [], waited)
            if 0 in ready:
                data = os.read(0, 4096)
                if not data:
                    self._end()
                    return
                *orders, asked = (asked + data).split(b"\n")
                if orders:
                    self._end()
                    self._begin(int(orders[-1].split()[1]))
            elif self._child is not None and self._pipe in ready:
                self._hear()
            elif self._child is not None and not ready:
                self._end()
                self._say({"trouble": f"stopped after {MOST_SECONDS:.0f} s"})

    def _begin(self, number: int) -> None:
        self._number, self._heard = number, b""
        self._until = time.monotonic() + MOST_SECONDS
        if _FORKS:
            self._pipe, writer = os.pipe()
            self._child = os.fork()
            if self._child == 0:
                with suppress(BaseException):
                    os.setsid()
                    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                    os.close(self._answers)
                    _answer(writer, _result(self._folder, self._tests))
                os._exit(0)
            os.close(writer)
        else:
            command = [sys.executable, "-m", __spec__.name, self._folder, self._tests, "--once"]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
            )
            assert process.stdout is not None
            self._pipe, self._child = os.dup(process.stdout.fileno()), process.pid
            process.stdout.close()
            process.returncode = 0  # it is waited for here, by its id

    def _hear(self) -> None:
        data = os.read(self._pipe, 65536)
        self._heard += data
        if data and not self._heard.endswith(b"\n"):
            return
        self._end()
        try:
            said = json.loads(self._heard)
        except ValueError:
            said = {"trouble": "the tests ended without a result"}
        self._say(said)

    def _say(self, said: dict[str, object]) -> None:
        _answer(self._answers, {"run": self._number, **said})

    def _end(self) -> None:
        """End the run under way with all that it started."""
        if self._child is None:
            return
        for kill in (os.killpg, os.kill):
            with suppress(OSError):
                kill(self._child, signal.SIGKILL)
        with suppress(OSError):
            os.waitpid(self._child, 0)
        os.close(self._pipe)
        self._child = None


def _warm_up(preload: list[str]) -> None:
    """Import what every run needs, and rehearse one: pytest imports most of itself only then.

    What is there now is kept from the collector, which would copy it page by page in each child.
    Nothing of torch is called: its threads would not survive the fork.
    """
    for name in preload:
        with suppress(ImportError):
            __import__(name)
    with suppress(Exception), tempfile.TemporaryDirectory(prefix="halfhour-") as stage:
        (Path(stage) / _REHEARSAL).write_text("def test_it():\n    assert True\n", encoding="utf-8")
        _result(stage, _REHEARSAL)
    os.chdir("/")
    gc.collect()
    gc.freeze()


def _result(folder: str, tests: str) -> dict[str, object]:
    from .once import run_tests

    return run_tests(Path(folder), tests)


def _answer(handle: int, said: dict[str, object]) -> None:
    data = (json.dumps(said) + "\n").encode()
    while data:
        data = data[os.write(handle, data) :]


if __name__ == "__main__":
    main()
