"""Starts a worker and says how strongly it is confined.

A worker takes the layers of its rung itself, once it has imported torch and before it is given a
submission; if one of them fails it does not start.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from ..errors import JudgeError
from .channel import Channel, ChannelClosed, ChannelTimeout
from .child import CLEAN_ENVIRONMENT, Child, spawn
from .devices import CPU
from .limits import Limits
from .plain import plain
from .rungs import LAUNCHED, Rung, policy_for, worker_command
from .worker import confine
from .worker.frames import FrameError, Json

_BOOTSTRAP = Path(__file__).resolve().parent / "worker" / "bootstrap.py"
_NEEDED = ("torch", "numpy", "typing_extensions", "sympy")
"""torch, and what it imports that may lie elsewhere."""
_FOR_A_GPU = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH")
_REPEATABLE_GPU = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it the same product of matrices may be summed in another order the next time."""


class Process(Protocol):
    """A process that can be talked to and ended, whoever is its parent."""

    @property
    def pid(self) -> int: ...

    @property
    def channel(self) -> Channel: ...

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""

    def kill(self) -> None:
        """End the process and its group at once; safe to repeat."""

    def close(self) -> None:
        """Kill the process and close our ends of its pipes."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that waits for one submission, or works on it."""

    child: Process
    rung: str

    @property
    def channel(self) -> Channel:
        return self.child.channel

    def wait_until_ready(self, *, deadline: float) -> None:
        """Wait until torch is imported. Raises JudgeError."""
        try:
            body, _ = self.channel.receive(deadline=deadline)
        except ChannelTimeout:
            raise JudgeError("the worker process did not start in time") from None
        except (ChannelClosed, FrameError):
            last = plain(self.channel.printed().strip().rpartition("\n")[2], limit=300)
            raise JudgeError(f"the worker process did not start: {last}") from None
        if body != {"answer": "ready"}:
            raise JudgeError("the worker process did not start as it should")

    def kill(self) -> None:
        """End the process and its group at once; safe to repeat."""
        self.child.kill()


def start_worker(limits: Limits, rung: Rung, *, device: str) -> Worker:
    """Start a worker; it imports torch while the caller does other things.

    Without `site`, so that no `.pth` file runs: the worker sees the standard library and the
    folders that hold torch and numpy.
    """
    return Worker(_start(limits, rung, device=device), rung=rung)


def start_nursery(limits: Limits, rung: Rung, control: socket.socket) -> Child:
    """Start a process that imports torch once and then forks workers, asked through `control`."""
    return _start(limits, rung, device=CPU, control=control)


def _start(
    limits: Limits, rung: Rung, *, device: str, control: socket.socket | None = None
) -> Child:
    setup: Mapping[str, Json] = {
        "device": device,
        "site_dirs": _site_dirs(),
        "message_bytes": limits.message_bytes,
        "policy": policy_for(rung, limits=_kernel_limits(limits)).to_json(),
        **({"parent": None} if rung in LAUNCHED else {}),
    }
    environment = _environment(device)
    command = worker_command(
        rung,
        [sys.executable, "-I", "-S", "-B", str(_BOOTSTRAP)],
        worker_package=_BOOTSTRAP.parent,
        environment=environment,
    )
    return spawn(
        command,
        setup,
        environment=environment,
        control=control,
        message_bytes=limits.message_bytes,
        output_bytes=limits.output_bytes,
    )


def _kernel_limits(limits: Limits) -> confine.Limits:
    """Return what the kernel holds a worker to; addresses are cheap, and many stay unused."""
    return confine.Limits(
        cpu_seconds=limits.cpu_s,
        data_bytes=limits.memory_bytes,
        address_bytes=4 * limits.memory_bytes,
    )


def _environment(device: str) -> Mapping[str, str]:
    if device == CPU:
        return CLEAN_ENVIRONMENT
    passed_on = {name: os.environ[name] for name in _FOR_A_GPU if name in os.environ}
    return {**CLEAN_ENVIRONMENT, **_REPEATABLE_GPU, **passed_on}


def _site_dirs() -> list[str]:
    specs = [find_spec(name) for name in _NEEDED]
    origins = [spec.origin for spec in specs if spec is not None and spec.origin is not None]
    folders = [
        os.path.dirname(os.path.dirname(origin))
        if origin.endswith("__init__.py")
        else os.path.dirname(origin)
        for origin in origins
    ]
    return list(dict.fromkeys(folders))
