"""seccomp: which system calls may be made. An allow-list; the rest answers EPERM.

The filter is a classic BPF program, assembled here: load a word of the call, compare, return. It
reads numbers and flags; what a pointer points to, a path for instance, it cannot see.

`pyseccomp` would assemble it too, but is one release of January 2021, needs the system's
libseccomp.so.2, and starts other programs when imported (`ctypes.util.find_library`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

from .kernel import Kernel
from .syscalls import CONDITIONAL, FREE, NEWEST

PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000

# Offsets in `struct seccomp_data`.
NUMBER = 0
ARCHITECTURE = 4
ARGUMENTS = 16

ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine: its column in the table of numbers, its audit number."""
X32 = 0x40000000
"""The bit of x86-64's second set of numbers, which the list does not cover."""

# Linux's values, the same on both machines.
WRITING = 0o3 | 0o100 | 0o1000 | 0o20000000
"""O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_TMPFILE."""
MAP_SHARED = 0x01
MAP_GROWSDOWN = 0x0100
CLONE_THREAD = 0x00010000
CLONE_NEW_NAMESPACES = 0x7E020000
PR_SET_NAME = 15
PR_GET_NAME = 16

IOCTLS = {
    "TCGETS": 0x5401,  # isatty
    "TCGETS2": 0x802C542A,  # isatty of a newer libc
    "TIOCGWINSZ": 0x5413,
    "FIONREAD": 0x541B,
    "FIONBIO": 0x5421,
    "FIONCLEX": 0x5450,
    "FIOCLEX": 0x5451,
}
FCNTLS = {
    "F_DUPFD": 0,
    "F_GETFD": 1,
    "F_SETFD": 2,
    "F_GETFL": 3,
    "F_SETFL": 4,
    "F_DUPFD_CLOEXEC": 1030,
}


class Instruction(NamedTuple):
    """One step of the program; the jumps count the steps to skip."""

    code: int
    jump_true: int
    jump_false: int
    value: int


Block = list[Instruction]
"""Steps that end the program on every way through them."""


def install(kernel: Kernel, *, machine: str, writing: bool) -> None:
    """Filter this process from now on. Raises OSError.

    `writing`: whether files may be opened for writing; say False where nothing else forbids it.
    """
    steps = program(machine=machine, process=os.getpid(), writing=writing)
    code = b"".join(struct.pack("<HBBI", *step) for step in steps)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(steps), ctypes.addressof(buffer))
    kernel.call("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0)


def program(*, machine: str, process: int, writing: bool) -> Block:
    """Return the filter of `process` on `machine`. Raises OSError for an unknown machine."""
    if machine not in ARCHITECTURES or sys.maxsize < 1 << 32:
        raise OSError(errno.ENOSYS, f"there is no list of system calls for {machine}")
    column, architecture = ARCHITECTURES[machine]
    steps = [
        _load(ARCHITECTURE),
        _if_equal(architecture, 1, 0),
        _return(KILL_PROCESS),
        _load(NUMBER),
    ]
    if machine == "x86_64":
        steps += [_if_at_least(X32, 0, 1), _return(KILL_PROCESS)]
    rules = {name: [_return(ALLOW)] for name in FREE} | _conditions(process, writing)
    for name, block in rules.items():
        number = (FREE | CONDITIONAL)[name][column]
        if number is not None:
            steps += [_if_equal(number, 0, len(block)), *block]
    # A newer libc tries newer calls first, and takes the older way if they do not exist.
    steps += [_if_at_least(NEWEST + 1, 0, 1), _return(ERRNO | errno.ENOSYS)]
    return [*steps, _return(ERRNO | errno.EPERM)]


def _conditions(process: int, writing: bool) -> dict[str, Block]:
    return {
        "open": [_return(ALLOW)] if writing else _without(1, WRITING),
        "openat": [_return(ALLOW)] if writing else _without(2, WRITING),
        # RLIMIT_DATA counts neither shared memory nor stacks that grow downwards.
        "mmap": _without(3, MAP_SHARED | MAP_GROWSDOWN),
        # No TIOCSTI, which types into the terminal; no owner for SIGIO; no locks.
        "ioctl": _one_of(1, tuple(IOCTLS.values())),
        "fcntl": _one_of(1, tuple(FCNTLS.values())),
        "prctl": _one_of(0, (PR_SET_NAME, PR_GET_NAME)),
        # Its own limits, and only to read them: the third argument is the new limit's address.
        "prlimit64": _all_equal((_low(0), 0), (_low(2), 0), (_high(2), 0)),
        "tgkill": _all_equal((_low(0), process)),
        "clone": _thread(),
        # Its flags lie behind a pointer; libc then falls back to `clone`.
        "clone3": [_return(ERRNO | errno.ENOSYS)],
    }


def _one_of(argument: int, values: Sequence[int]) -> Block:
    count = len(values)
    tests = [_if_equal(value, count - index, 0) for index, value in enumerate(values)]
    return [_load(_low(argument)), *tests, _return(ERRNO | errno.EPERM), _return(ALLOW)]


def _without(argument: int, bits: int) -> Block:
    return [
        _load(_low(argument)),
        _if_any_bit(bits, 0, 1),
        _return(ERRNO | errno.EPERM),
        _return(ALLOW),
    ]


def _all_equal(*words: tuple[int, int]) -> Block:
    steps: Block = []
    for left, (offset, value) in zip(range(len(words), 0, -1), words, strict=True):
        steps += [_load(offset), _if_equal(value, 0, 2 * left - 1)]
    return [*steps, _return(ALLOW), _return(ERRNO | errno.EPERM)]


def _thread() -> Block:
    return [
        _load(_low(0)),
        _if_any_bit(CLONE_THREAD, 0, 1),
        _if_any_bit(CLONE_NEW_NAMESPACES, 0, 1),
        _return(ERRNO | errno.EPERM),
        _return(ALLOW),
    ]


def _low(argument: int) -> int:
    return ARGUMENTS + 8 * argument


def _high(argument: int) -> int:
    return _low(argument) + 4


def _load(offset: int) -> Instruction:
    return Instruction(0x20, 0, 0, offset)


def _return(action: int) -> Instruction:
    return Instruction(0x06, 0, 0, action)


def _if_equal(value: int, then: int, otherwise: int) -> Instruction:
    return Instruction(0x15, then, otherwise, value & 0xFFFFFFFF)


def _if_at_least(value: int, then: int, otherwise: int) -> Instruction:
    return Instruction(0x35, then, otherwise, value)


def _if_any_bit(bits: int, then: int, otherwise: int) -> Instruction:
    return Instruction(0x45, then, otherwise, bits)
