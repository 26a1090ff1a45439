"""A process of ours: two pipes to talk through, one that holds it to us, its output kept."""

from __future__ import annotations

import json
import os
import site
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from . import reaper
from .channel import Channel
from .worker.frames import Json

CLEAN_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    # One thread until the worker is confined: the layers hold for the thread that asks.
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # with two, the other one sleeps until there is something to do
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TORCHINDUCTOR_CACHE_DIR": "/",  # or importing its compiler looks for a folder to write to
}
"""All that a court or a worker gets and, confined, all that it needs."""


@dataclass(slots=True)
class Child:
    process: subprocess.Popen[bytes]
    channel: Channel
    lifeline_fd: int | None
    """The child ends when this is closed: by us, or because our process ended."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_ended(self) -> bool:
        """Tell whether the process is gone."""
        return self.process.poll() is not None

    def let_go(self) -> None:
        """Tell the child to end."""
        lifeline, self.lifeline_fd = self.lifeline_fd, None
        if lifeline is not None:
            os.close(lifeline)

    def kill(self) -> None:
        """End the process and its group at once; safe to repeat."""
        if self.process.returncode is None:
            reaper.kill_group(self.process.pid)
            self.process.wait()

    def close(self) -> None:
        """Kill the process and close our ends of its pipes."""
        self.kill()
        self.let_go()
        self.channel.close()


@dataclass(frozen=True, slots=True)
class Pipes:
    """The ends of four pipes: to talk through in both directions, and for what a child prints."""

    our_read: int
    our_write: int
    printed: tuple[int, int]
    their_read: int
    their_write: int
    their_out: int
    their_err: int

    @property
    def theirs(self) -> tuple[int, int, int, int]:
        return self.their_read, self.their_write, self.their_out, self.their_err

    def channel(self, *, message_bytes: int, output_bytes: int) -> Channel:
        """Close the child's ends, which it has by now, and return a channel over ours."""
        for end in self.theirs:
            os.close(end)
        return Channel(
            self.our_read,
            self.our_write,
            printed_fds=self.printed,
            message_bytes=message_bytes,
            output_bytes=output_bytes,
        )


def lay_pipes(undo: ExitStack) -> Pipes:
    """Open the pipes; `undo` closes all ends if the child cannot be made."""
    (their_read, our_write), (our_read, their_write) = _pipe(undo), _pipe(undo)
    (out_read, their_out), (err_read, their_err) = _pipe(undo), _pipe(undo)
    printed = out_read, err_read
    return Pipes(our_read, our_write, printed, their_read, their_write, their_out, their_err)


def spawn(
    command: Sequence[str],
    setup: Mapping[str, Json],
    *,
    environment: Mapping[str, str] = CLEAN_ENVIRONMENT,
    control: socket.socket | None = None,
    message_bytes: int,
    output_bytes: int,
) -> Child:
    """Start `command` in a session of its own; its last argument is `setup` as JSON.

    To the setup are added `read_fd`, `write_fd` and `lifeline_fd`, the child's ends of the pipes,
    `control_fd` where it is given a socket, and, unless it is set, `parent`, our process id.
    """
    with ExitStack() as undo:
        pipes = lay_pipes(undo)
        their_lifeline, our_lifeline = _pipe(undo)
        passed = {
            "read_fd": pipes.their_read,
            "write_fd": pipes.their_write,
            "lifeline_fd": their_lifeline,
        }
        if control is not None:
            passed["control_fd"] = control.fileno()
        process = subprocess.Popen(
            [*command, json.dumps({"parent": os.getpid(), **setup, **passed})],
            pass_fds=tuple(passed.values()),
            stdin=subprocess.DEVNULL,
            stdout=pipes.their_out,
            stderr=pipes.their_err,
            cwd="/",
            env=dict(environment),
            start_new_session=True,
        )
        undo.pop_all()
    os.close(their_lifeline)
    channel = pipes.channel(message_bytes=message_bytes, output_bytes=output_bytes)
    return Child(process, channel, our_lifeline)


def user_site() -> list[str]:
    """Return the user's own site folder where this interpreter uses it; `-I` leaves it out."""
    return [site.getusersitepackages()] if site.ENABLE_USER_SITE else []


def _pipe(undo: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends
