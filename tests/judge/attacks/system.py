"""Reaches for other processes and the kernel; every function returns what it did: test_deeds.py."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import termios
from typing import Any

TARGETS: dict[str, Any] = {}
"""Filled in by the test."""

CLONE_NEWUSER = 0x10000000
PTRACE_SEIZE = 0x4206
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4


def _libc(function: str, *arguments: Any) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    made = int(getattr(libc, function)(*arguments))
    if made < 0:
        raise OSError(ctypes.get_errno(), function)
    return made


def _call(x86_64: int, aarch64: int, *arguments: Any) -> int:
    """Make a system call for which libc has no function."""
    return _libc("syscall", x86_64 if os.uname().machine == "x86_64" else aarch64, *arguments)


def forks() -> Any:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


def forks_as_libc_does() -> Any:
    """`posix_spawn` uses another call."""
    return os.posix_spawn("/bin/true", ["true"], {})


def runs_a_program() -> Any:
    return subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0


def runs_a_shell() -> Any:
    """`system` tells of its failure by a status."""
    status = os.system(f"touch {TARGETS['watched']}/{TARGETS['token']}-by-a-shell")
    if status:
        raise OSError(status, "system")
    return "ran"


def works_in_a_pool() -> Any:
    process = multiprocessing.get_context("fork").Process(target=os.getpid)
    process.start()
    process.join()
    return process.exitcode == 0


def makes_a_file_in_memory() -> Any:
    """To run a program from it."""
    return os.memfd_create(TARGETS["token"])


def shares_memory() -> Any:
    return mmap.mmap(-1, mmap.PAGESIZE)


def asks_whether_it_could_kill_its_parent() -> Any:
    os.kill(os.getppid(), 0)
    return "it could"


def asks_whether_it_could_kill_a_neighbour() -> Any:
    os.kill(TARGETS["neighbour"], 0)
    return "it could"


def asks_whether_it_could_kill_all() -> Any:
    os.kill(-1, 0)
    return "it could"


def opens_its_parent() -> Any:
    return os.pidfd_open(os.getppid())


def traces_its_parent() -> Any:
    """Seizing does not stop it."""
    return "it can" if _libc("ptrace", PTRACE_SEIZE, os.getppid(), 0, 0) == 0 else ""


def makes_a_user_namespace() -> Any:
    return "made" if _libc("unshare", CLONE_NEWUSER) == 0 else ""


def mounts() -> Any:
    target = TARGETS["watched"].encode()
    return "mounted" if _libc("mount", b"none", target, b"tmpfs", 0, None) == 0 else ""


def changes_the_root() -> Any:
    os.chroot(TARGETS["watched"])
    return "changed"


def becomes_another_user() -> Any:
    os.setresuid(65534, 65534, 65534)
    return "became"


def raises_its_limits() -> Any:
    everything = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    try:
        resource.setrlimit(resource.RLIMIT_DATA, everything)
    except ValueError as error:
        raise OSError(str(error)) from None
    return "raised"


def limits_its_parent() -> Any:
    resource.prlimit(os.getppid(), resource.RLIMIT_CPU)
    return "it can"


def outlives_its_parent() -> Any:
    return "it would" if _libc("prctl", PR_SET_PDEATHSIG, 0, 0, 0, 0) == 0 else ""


def shows_itself_to_others() -> Any:
    return "it does" if _libc("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0) == 0 else ""


def locks_a_file_of_all() -> Any:
    """Others that lock it would wait, which is a way to talk to them."""
    with open(os.__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return "locked"


def locks_a_part_of_a_file_of_all() -> Any:
    with open(os.__file__, "rb") as file:
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return "locked"


def types_into_the_terminal() -> Any:
    """No terminal is there to type into; what matters is who says so."""
    try:
        fcntl.ioctl(0, termios.TIOCSTI, b"x")
    except PermissionError:
        raise
    except OSError as error:
        return error.strerror
    return "typed"


def makes_a_queue_for_others() -> Any:
    return _libc("msgget", 0x6861, 0o1666)


def makes_memory_for_others() -> Any:
    return _libc("shmget", 0x6861, 4096, 0o1666)


def watches_the_processor() -> Any:
    return _call(298, 241, ctypes.create_string_buffer(128), 0, -1, -1, 0)


def keeps_a_key_in_the_kernel() -> Any:
    return _call(248, 217, b"user", b"halfhour", b"x", 1, -3)


def runs_a_program_in_the_kernel() -> Any:
    return _call(321, 280, 0, ctypes.create_string_buffer(128), 128)


def handles_its_own_page_faults() -> Any:
    return _call(323, 282, 1)


def moves_to_another_priority() -> Any:
    os.setpriority(os.PRIO_PROCESS, 0, -1)
    return "moved"


def leaves_its_processor() -> Any:
    os.sched_setaffinity(0, {0})
    return "moved"


def stops_its_whole_group() -> Any:
    os.killpg(os.getpgrp(), signal.SIGCONT)
    return "told"
