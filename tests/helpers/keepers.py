"""The keepers of warm judges that tests have started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from halfhour.generator.judge import warm

PATIENCE_S = 60.0
"""Of a busy machine."""


def keepers() -> set[int]:
    """Return the keepers that listen where this process would look for one."""
    wanted = warm.address("cpu").hex()
    found = subprocess.run(["pgrep", "-f", wanted], capture_output=True, text=True, check=False)
    return {int(pid) for pid in found.stdout.split()}


def started_by(pids: set[int]) -> set[int]:
    """Return the processes below these, as far as the kernel lists children."""
    found: set[int] = set()
    level = pids
    while level:
        tasks = [task for pid in level for task in Path("/proc", str(pid), "task").glob("*")]
        level = {child for task in tasks for child in _children(task)}
        found |= level
    return found


def _children(task: Path) -> list[int]:
    try:
        return [int(pid) for pid in (task / "children").read_text().split()]
    except OSError:  # just gone
        return []


def ended(pids: set[int], *, within_s: float = PATIENCE_S) -> bool:
    """Wait until none of these keepers is left."""
    patience = time.monotonic() + within_s
    while any(map(_is_running, pids)):
        if time.monotonic() > patience:
            return False
        time.sleep(0.05)
    return True


def _is_running(pid: int) -> bool:
    with suppress(ChildProcessError):  # of a command that has gone
        os.waitpid(pid, os.WNOHANG)
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


@contextmanager
def keeping(minutes: float) -> Iterator[None]:
    """Let keepers stay for so many idle minutes, and end those that are left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(warm.MINUTES, str(minutes))
        patch.setattr(warm, "_START_S", PATIENCE_S)
        yield
        left = keepers()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert ended(left)
