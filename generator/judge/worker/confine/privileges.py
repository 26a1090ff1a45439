"""Give up what a process may have beyond its own memory, and all ways to get it back."""

from __future__ import annotations

import signal
import struct

from .kernel import Kernel

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522


def give_up(kernel: Kernel) -> None:
    """Drop all capabilities, die with the parent, hide from other processes. Raises OSError.

    "The parent" is the thread that started this process: the kernel kills the worker when that
    thread ends, even where its process lives on.
    """
    this_process = struct.pack("<Ii", CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = bytes(2 * 3 * 4)
    kernel.call("capset", this_process, effective_permitted_inheritable)
    kernel.call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    kernel.call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    kernel.call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
