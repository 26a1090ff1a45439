"""The hunt's end of the warm process: ask for a run, read how it ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..messages import tr


@dataclass(frozen=True, slots=True)
class Ran:
    """How the visible tests fared."""

    passed: int
    failed: int
    seconds: float
    first: str = ""
    """The first failure in words."""
    trouble: str = ""
    """Why there is no result, if there is none."""


class Runner:
    """Runs the visible tests of one folder; the process behind it is started when it is wanted."""

    def __init__(self, folder: Path, tests: str, *, preload: tuple[str, ...] = ()) -> None:
        self._arguments = [str(folder.resolve()), tests, *preload]
        self._process: subprocess.Popen[bytes] | None = None
        self._number = 0
        self._since = 0.0
        self._heard = b""
        self.running = False

    def fileno(self) -> int | None:
        """Return what to wait on for an answer, if anything can come."""
        stream = self._process.stdout if self._process is not None else None
        return stream.fileno() if stream is not None else None

    def start(self) -> None:
        """Run the tests; a run under way is given up for this one."""
        self._number += 1
        self._since = time.monotonic()
        self.running = True
        order = f"run {self._number}\n".encode()
        if self._process is None or not self._ask(order):
            self.close()
            self._process = self._begin()
            self.running = True
            self._ask(order)

    def read(self) -> Ran | None:
        """Take what has come; return the result of the last run asked for, once it is there."""
        handle = self.fileno()
        data = os.read(handle, 65536) if handle is not None else b""
        if not data:
            was_running, seconds = self.running, time.monotonic() - self._since
            self.close()
            trouble = tr("the process that runs them ended; save again to try again")
            return Ran(0, 0, seconds, trouble=trouble) if was_running else None
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            found = self._result(line)
            if found is not None:
                self.running = False
                return found
        return None

    def close(self) -> None:
        """End the process; the next run starts another."""
        process, self._process, self.running, self._heard = self._process, None, False, b""
        if process is None:
            return
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:  # it is still importing torch
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def _begin(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        environment.pop("PYTEST_ADDOPTS", None)
        module = f"{__package__}.warm"
        return subprocess.Popen(
            [sys.executable, "-m", module, *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the hunt, which ends it
        )

    def _ask(self, order: bytes) -> bool:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(order)
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def _result(self, line: bytes) -> Ran | None:
        seconds = time.monotonic() - self._since
        try:
            said = json.loads(line)
        except ValueError:
            return None
        match said:
            case {"run": self._number, "trouble": str(trouble)}:
                return Ran(0, 0, seconds, trouble=trouble)
            case {"run": self._number, "passed": int(p), "failed": int(f), "first": str(first)}:
                nothing = "" if p or f else tr("no test was found")
                return Ran(p, f, seconds, first=first, trouble=nothing)
        return None
