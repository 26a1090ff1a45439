"""Ends processes, and on Linux also those that a submission detached from its worker."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PATIENCE_S = 2.0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_group(leader: int) -> None:
    """Kill a process that leads its own group, and the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill_process(pid: int) -> None:
    """Kill one process."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_orphans(*, spare: set[int]) -> None:
    """Kill and reap every child of this process that is not in `spare`.

    Again and again, for a dying child may leave children of its own; bounded, for a fork bomb must
    not hold the judge up for ever.
    """
    patience = time.monotonic() + _PATIENCE_S
    while (orphans := _children() - spare) and time.monotonic() < patience:
        for orphan in orphans:
            kill_group(orphan)
            kill_process(orphan)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, os.WNOHANG)
        time.sleep(0.001)


def _children() -> set[int]:
    """Return the children of this process; none where the kernel does not list them."""
    children: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children.update(int(number) for number in listing.read_text().split())
    return children
