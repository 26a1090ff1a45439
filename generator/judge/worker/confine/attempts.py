"""What a hostile submission would try, each tried in earnest by the process that calls it.

Which rung of protection a machine offers is decided by what these are refused, and so they run in
a child made for it, never in a worker that goes on.
"""

from __future__ import annotations

import errno
import fcntl
import json
import mmap
import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from . import apply
from .kernel import Kernel
from .namespaces import CLONE_NEWUSER
from .policy import ConfinementError, Policy

PTRACE_SEIZE = 0x4206
IO_URING_SETUP = 425
NETWORK_SECONDS = 2.0


class Deed(StrEnum):
    """Named as one would say it after "a submission can"."""

    READ_FILE = "read a file"
    SEE_FILE = "see that a file exists"
    WRITE_FILE = "write a file"
    LOCK_FILE = "lock a file"
    TCP = "connect by TCP"
    UDP = "send by UDP"
    UNIX = "connect to a unix socket"
    START_PROCESS = "start a process"
    SIGNAL_JUDGE = "signal the judge"
    TRACE_JUDGE = "trace the judge"
    READ_ENVIRONMENT = "read the judge's environment"
    READ_MEMORY = "read the judge's memory"
    SHARE_MEMORY = "share memory"
    MEMORY_FILE = "make a memory file"
    IO_URING = "set up io_uring"
    USER_NAMESPACE = "make a user namespace"
    RUN_PROGRAM = "run a program"


LINUX_ONLY = frozenset(
    {
        Deed.TRACE_JUDGE,
        Deed.READ_ENVIRONMENT,
        Deed.READ_MEMORY,
        Deed.MEMORY_FILE,
        Deed.IO_URING,
        Deed.USER_NAMESPACE,
    }
)


@dataclass(frozen=True, slots=True)
class Targets:
    """What the attempts are made on; set up by the trusted side."""

    folder: str
    file: str
    tcp_port: int
    udp_port: int
    unix_socket: str
    judge: int
    """The number of the process that started this one."""


def deeds() -> tuple[Deed, ...]:
    """Return what can be tried on this platform."""
    return tuple(deed for deed in Deed if sys.platform == "linux" or deed not in LINUX_ONLY)


def attempt(deed: Deed, targets: Targets) -> str:
    """Try it; return why it was refused, or "" when it was done."""
    try:
        ATTEMPTS[deed](targets)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return ""


def work() -> None:
    """Do what honest code does: start threads, and multiply if torch is loaded."""
    threads = [threading.Thread(target=_multiply) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    _multiply()


def main() -> None:
    """Confine this process by the policy in the first argument, try everything, report.

    Prints one JSON object, and at the end one more line: why no program could be run, or what the
    program printed. The third argument, if not empty, is the folder to import torch from.
    """
    policy, targets, packages = sys.argv[1:4]
    if packages:
        sys.path.append(packages)
        __import__("torch")
    try:
        report = apply(Policy.from_json(policy))
    except ConfinementError as error:
        print(json.dumps({"error": str(error)}))
        return
    goals = Targets(**json.loads(targets))
    outcomes = {deed: attempt(deed, goals) for deed in deeds() if deed is not Deed.RUN_PROGRAM}
    work()
    print(json.dumps({"layers": report.layers, "outcomes": outcomes}), flush=True)
    print(attempt(Deed.RUN_PROGRAM, goals), flush=True)


def _multiply() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        matrix = torch.ones(64, 64)
        torch.testing.assert_close(matrix @ matrix, 64 * matrix)


def _read_file(targets: Targets) -> None:
    with open(targets.file, "rb") as file:
        file.read()


def _see_file(targets: Targets) -> None:
    os.stat(targets.file)


def _write_file(targets: Targets) -> None:
    with open(os.path.join(targets.folder, f"written-{os.getpid()}"), "wb") as file:
        file.write(b"x")


def _lock_file(_: Targets) -> None:
    with open(os.__file__, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)


def _tcp(targets: Targets) -> None:
    socket.create_connection(("127.0.0.1", targets.tcp_port), timeout=NETWORK_SECONDS).close()


def _udp(targets: Targets) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", targets.udp_port))


def _unix(targets: Targets) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(NETWORK_SECONDS)
        client.connect(targets.unix_socket)


def _start_process(_: Targets) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def _signal_judge(targets: Targets) -> None:
    os.kill(targets.judge, 0)  # signal 0 asks whether one could


def _trace_judge(targets: Targets) -> None:
    # Unlike attaching, seizing does not stop the judge; it ends with this process.
    Kernel().call("ptrace", PTRACE_SEIZE, targets.judge, 0, 0)


def _read_environment(targets: Targets) -> None:
    with open(f"/proc/{targets.judge}/environ", "rb") as file:
        file.read()


def _read_memory(targets: Targets) -> None:
    with open(f"/proc/{targets.judge}/mem", "rb"):
        pass


def _share_memory(_: Targets) -> None:
    mmap.mmap(-1, mmap.PAGESIZE).close()


def _memory_file(_: Targets) -> None:
    Kernel().call("memfd_create", b"x", 0)


def _io_uring(_: Targets) -> None:
    parameters = bytes(120)
    Kernel().call("syscall", IO_URING_SETUP, 1, parameters)


def _user_namespace(_: Targets) -> None:
    Kernel().call("unshare", CLONE_NEWUSER)


def _run_program(_: Targets) -> None:
    if sys.platform == "linux":
        # The one program that is there in every sandbox.
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", "print()"])
    os.execv("/bin/echo", ["/bin/echo"])


ATTEMPTS: dict[Deed, Callable[[Targets], None]] = {
    Deed.READ_FILE: _read_file,
    Deed.SEE_FILE: _see_file,
    Deed.WRITE_FILE: _write_file,
    Deed.LOCK_FILE: _lock_file,
    Deed.TCP: _tcp,
    Deed.UDP: _udp,
    Deed.UNIX: _unix,
    Deed.START_PROCESS: _start_process,
    Deed.SIGNAL_JUDGE: _signal_judge,
    Deed.TRACE_JUDGE: _trace_judge,
    Deed.READ_ENVIRONMENT: _read_environment,
    Deed.READ_MEMORY: _read_memory,
    Deed.SHARE_MEMORY: _share_memory,
    Deed.MEMORY_FILE: _memory_file,
    Deed.IO_URING: _io_uring,
    Deed.USER_NAMESPACE: _user_namespace,
    Deed.RUN_PROGRAM: _run_program,
}
