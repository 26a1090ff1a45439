"""The filter: what it answers to a call, run here step by step for both machines, and for real."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
import termios
from pathlib import Path

import pytest
from confinement import Confined, linux_only

from halfhour.generator.judge.worker.confine import Kernel, Layer, seccomp
from halfhour.generator.judge.worker.confine.seccomp import ALLOW, ERRNO, KILL_PROCESS
from halfhour.generator.judge.worker.confine.syscalls import CONDITIONAL, FREE, NEWEST, Numbers

pytestmark = linux_only

PROCESS = 4711
MACHINES = ("x86_64", "aarch64")
REFUSED = ERRNO | errno.EPERM
UNKNOWN = ERRNO | errno.ENOSYS
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
JUST_SECCOMP = (Layer.PRIVILEGES, Layer.SECCOMP)
FORBIDDEN = {
    "x86_64": "fork vfork execve execveat kill tkill rt_sigqueueinfo rt_tgsigqueueinfo ptrace "
    "process_vm_readv process_vm_writev socket socketpair connect bind sendto sendmsg memfd_create "
    "unshare setns mount umount2 pivot_root chroot keyctl add_key request_key bpf io_uring_setup "
    "io_uring_enter perf_event_open userfaultfd flock shmget shmat msgget semget mq_open "
    "pidfd_open pidfd_getfd pidfd_send_signal kcmp name_to_handle_at open_by_handle_at openat2 "
    "rename unlink mkdir chmod truncate ftruncate link symlink mknod setxattr setrlimit "
    "personality setuid capset syslog reboot init_module splice tee vmsplice sendfile",
    "aarch64": "execve execveat kill tkill rt_sigqueueinfo ptrace process_vm_readv "
    "process_vm_writev socket socketpair connect bind sendto sendmsg memfd_create unshare setns "
    "mount umount2 pivot_root chroot keyctl add_key request_key bpf io_uring_setup "
    "perf_event_open userfaultfd flock shmget shmat msgget semget mq_open pidfd_open pidfd_getfd "
    "pidfd_send_signal openat2 renameat2 unlinkat mkdirat fchmodat truncate ftruncate linkat "
    "symlinkat mknodat setxattr setrlimit personality setuid capset splice",
}


def answer(
    number: int,
    *arguments: int,
    machine: str,
    architecture: int | None = None,
    writing: bool = True,
) -> int:
    """Run the filter as the kernel would, and return its action."""
    known = seccomp.ARCHITECTURES[machine][1]
    filled = [*arguments, *[0] * (6 - len(arguments))]
    call = struct.pack("<IIQ6Q", number, architecture or known, 0, *filled)
    steps = seccomp.program(machine=machine, process=PROCESS, writing=writing)
    position, word = 0, 0
    while True:
        code, jump_true, jump_false, value = steps[position]
        position += 1
        match code:
            case 0x20:
                (word,) = struct.unpack_from("<I", call, value)
            case 0x06:
                return value
            case 0x15 | 0x35 | 0x45:
                holds = {0x15: word == value, 0x35: word >= value, 0x45: word & value != 0}[code]
                position += jump_true if holds else jump_false
            case _:
                pytest.fail(f"the kernel would refuse a filter with the code {code:#x}")


def number_of(name: str, machine: str) -> int:
    number = (FREE | CONDITIONAL)[name][seccomp.ARCHITECTURES[machine][0]]
    assert number is not None
    return number


def header(machine: str) -> dict[str, int]:
    path = HEADERS[machine]
    if not path.exists():
        pytest.skip(f"this machine has no {path} to compare with")
    pairs = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", path.read_text())
    numbers = {name: int(number) for name, number in pairs}
    return numbers | {"newfstatat": numbers.get("newfstatat", numbers.get("fstatat", -1))}


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    column = seccomp.ARCHITECTURES[machine][0]
    ours = {name: pair[column] for name, pair in (FREE | CONDITIONAL).items()}

    theirs = header(machine)

    assert {name: theirs.get(name) for name in ours} == ours


def test_the_flags_are_those_of_this_system() -> None:
    assert (
        os.O_RDWR | os.O_WRONLY | os.O_CREAT | os.O_TRUNC | (os.O_TMPFILE & ~os.O_DIRECTORY)
        == seccomp.WRITING
    )
    for name, value in seccomp.IOCTLS.items():
        assert getattr(termios, name, value) == value
    for name, value in seccomp.FCNTLS.items():
        assert getattr(fcntl, name) == value


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_of_the_list_is_allowed(machine: str) -> None:
    column = seccomp.ARCHITECTURES[machine][0]
    listed = {name: pair[column] for name, pair in FREE.items()}

    answers = {
        name: answer(number, machine=machine)
        for name, number in listed.items()
        if number is not None
    }

    assert set(answers.values()) == {ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_that_reaches_outside_is_refused(machine: str) -> None:
    numbers = header(machine)

    allowed = [
        name
        for name in FORBIDDEN[machine].split()
        if answer(numbers[name], machine=machine) == ALLOW
    ]

    assert allowed == []


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_not_on_the_list_is_refused(machine: str) -> None:
    column = seccomp.ARCHITECTURES[machine][0]
    listed = {pair[column] for pair in (FREE | CONDITIONAL).values()}

    answers = {answer(n, machine=machine) for n in range(NEWEST + 1) if n not in listed}

    assert answers == {REFUSED}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_newer_than_the_list_seems_not_to_exist(machine: str) -> None:
    """So that a newer libc takes its older way instead of failing."""
    assert answer(NEWEST + 1, machine=machine) == UNKNOWN
    assert answer(number_of("clone3", machine), machine=machine) == UNKNOWN


def test_another_architecture_or_the_x32_numbers_end_the_process() -> None:
    i386 = 0x40000003

    assert answer(0, machine="x86_64", architecture=i386) == KILL_PROCESS
    assert answer(0x40000000, machine="x86_64") == KILL_PROCESS
    assert answer(0, machine="aarch64", architecture=0x40000028) == KILL_PROCESS


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (0x3D0F00,), ALLOW),
        ("clone", (0x11,), REFUSED),
        ("clone", (0x3D0F00 | 0x10000000,), REFUSED),
        ("clone", (0x10000000 | 0x11,), REFUSED),
        ("tgkill", (PROCESS, PROCESS, 6), ALLOW),
        ("tgkill", (PROCESS + 1, PROCESS + 1, 6), REFUSED),
        ("tgkill", (1, PROCESS, 9), REFUSED),
        ("prlimit64", (0, 7, 0, 0x7000), ALLOW),
        ("prlimit64", (0, 7, 0x7000, 0), REFUSED),
        ("prlimit64", (0, 7, 0x7000_0000_0000, 0), REFUSED),
        ("prlimit64", (1, 7, 0, 0x7000), REFUSED),
        ("mmap", (0, 4096, 3, 0x22), ALLOW),
        ("mmap", (0, 4096, 1, 0x02), ALLOW),
        ("mmap", (0, 4096, 3, 0x21), REFUSED),
        ("mmap", (0, 4096, 1, 0x01), REFUSED),
        ("mmap", (0, 4096, 3, 0x23), REFUSED),
        ("mmap", (0, 4096, 3, 0x122), REFUSED),
        ("ioctl", (1, 0x5401), ALLOW),
        ("ioctl", (1, 0xFFFFFFFF_802C542A), ALLOW),
        ("ioctl", (1, 0x5412), REFUSED),
        ("ioctl", (1, 0x8901), REFUSED),
        ("fcntl", (1, 3), ALLOW),
        ("fcntl", (1, 1030), ALLOW),
        ("fcntl", (1, 6), REFUSED),
        ("fcntl", (1, 8), REFUSED),
        ("fcntl", (1, 10), REFUSED),
        ("fcntl", (1, 37), REFUSED),
        ("fcntl", (1, 1031), REFUSED),
        ("prctl", (15,), ALLOW),
        ("prctl", (4, 1), REFUSED),
        ("prctl", (1, 0), REFUSED),
        ("openat", (-100 & 2**64 - 1, 0, os.O_RDWR | os.O_CREAT), ALLOW),
    ],
    ids=[
        *("a thread", "a process", "a thread in a user namespace", "a process in one"),
        *("a signal to itself", "to another process", "to a thread through another process"),
        *("reading a limit", "setting a limit", "from a high address", "of another process"),
        *("private memory", "a library", "shared memory", "a shared file"),
        *("shared and validated", "a stack that grows downwards"),
        *("isatty", "isatty of a newer libc", "typing into the terminal", "an owner for SIGIO"),
        *("reading flags", "a copy of a descriptor", "a lock", "an owner", "a signal for SIGIO"),
        *("an open file description's lock", "a larger pipe"),
        *("a thread's name", "becoming dumpable", "outliving the parent"),
        "opening for writing, guarded by Landlock",
    ],
)
def test_the_arguments_decide(
    name: str, arguments: tuple[int, ...], expected: int, machine: str
) -> None:
    assert answer(number_of(name, machine), *arguments, machine=machine) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (os.O_RDONLY | os.O_CLOEXEC, ALLOW),
        (os.O_RDONLY | os.O_DIRECTORY, ALLOW),
        (os.O_WRONLY, REFUSED),
        (os.O_RDWR, REFUSED),
        (os.O_RDONLY | os.O_CREAT, REFUSED),
        (os.O_RDONLY | os.O_TRUNC, REFUSED),
    ],
    ids=["reading", "listing", "writing", "both", "making", "emptying"],
)
def test_files_open_only_for_reading_where_landlock_does_not_guard_them(
    flags: int, expected: int
) -> None:
    openat = number_of("openat", "x86_64")

    assert answer(openat, 0, 0, flags, machine="x86_64", writing=False) == expected
    assert answer(number_of("open", "x86_64"), 0, flags, machine="x86_64", writing=False) == (
        expected
    )
    assert answer(
        number_of("openat", "aarch64"), 0, 0, flags, machine="aarch64", writing=False
    ) == (expected)


def test_an_unknown_machine_is_an_error_not_an_open_door() -> None:
    with pytest.raises(OSError, match="no list of system calls for riscv64"):
        seccomp.program(machine="riscv64", process=1, writing=True)


def test_every_name_is_free_or_conditional_and_not_both() -> None:
    assert not set(FREE) & set(CONDITIONAL)
    tables: list[Numbers] = [FREE, CONDITIONAL]
    for column in (0, 1):
        numbers = [
            pair[column] for table in tables for pair in table.values() if pair[column] is not None
        ]
        assert len(numbers) == len(set(numbers))


def test_the_kernel_refuses_what_the_filter_says(confined: Confined) -> None:
    """The calls whose answer depends on an argument, made in earnest."""
    code = """
import ctypes, errno, fcntl, mmap, os, resource, signal, termios, threading
libc = ctypes.CDLL(None, use_errno=True)
def refused(call, *arguments):
    try:
        call(*arguments)
    except (PermissionError, ValueError):
        return True
    return False
out, into = os.pipe()
print(refused(fcntl.fcntl, out, fcntl.F_SETOWN, 1))
print(refused(fcntl.lockf, out, fcntl.LOCK_EX))
print(refused(fcntl.ioctl, 0, termios.TIOCSTI, b"x"))
print(refused(mmap.mmap, -1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100))
print(refused(resource.setrlimit, resource.RLIMIT_STACK, (4096, 4096)))
print(refused(os.kill, os.getpid(), 0))
print(libc.prctl(4, 1, 0, 0, 0), ctypes.get_errno() == errno.EPERM)
print(libc.syscall(435, None, 0), ctypes.get_errno() == errno.ENOSYS)
os.set_blocking(out, False); os.set_inheritable(out, True); os.dup(out); os.isatty(1)
resource.getrlimit(resource.RLIMIT_DATA)
signal.signal(signal.SIGUSR1, lambda *_: print("signalled"))
signal.raise_signal(signal.SIGUSR1)
"""
    run = confined(code, layers=JUST_SECCOMP)

    assert run.stdout.split("\n") == [*["True"] * 6, "-1 True", "-1 True", "signalled", ""], run


def test_a_call_by_x32_numbers_ends_the_worker(confined: Confined) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("only x86-64 has these numbers")

    run = confined("import ctypes; ctypes.CDLL(None).syscall(0x40000000 + 39)", layers=JUST_SECCOMP)

    assert run.returncode == -signal.SIGSYS


def test_without_landlock_no_file_opens_for_writing(confined: Confined) -> None:
    run = confined("open('/dev/null', 'w')", layers=JUST_SECCOMP)

    assert "Operation not permitted: '/dev/null'" in run.stderr


def test_a_filter_that_the_kernel_rejects_is_an_error() -> None:
    class Refusing(Kernel):
        def call(self, function: str, *arguments: int | bytes | None) -> int:
            raise OSError(errno.EINVAL, f"{function} {len(arguments)}")

    with pytest.raises(OSError, match="prctl 5"):
        seccomp.install(Refusing(), machine="x86_64", writing=True)
