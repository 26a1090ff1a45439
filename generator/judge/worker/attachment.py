"""No worker outlives the court that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def stay_attached(parent: int | None, lifeline_fd: int) -> None:
    """End this process when its parent ends: by the kernel on Linux, elsewhere by the lifeline.

    `parent` is None where a launcher stands between, whose number in here nobody knows; it ends
    with the court, and this process with it.
    """
    if sys.platform == "linux":
        die_with_parent(parent)
        os.close(lifeline_fd)  # nobody waits for it here
    else:
        end_with(lifeline_fd)


def die_with_parent(parent: int | None) -> None:
    """Have the kernel kill this process when its parent ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:  # it ended before the kernel was asked
        os._exit(1)


def end_with(lifeline_fd: int) -> None:
    """End this process when the other end of the lifeline, a pipe nobody writes to, is closed."""

    def wait() -> None:
        os.read(lifeline_fd, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
