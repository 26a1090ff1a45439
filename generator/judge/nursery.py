"""The trusted end of the fork server: asks for children, and ends them. Linux, CPU."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from ..errors import JudgeError
from . import reaper
from .channel import Channel
from .child import lay_pipes
from .launch import Worker, start_nursery
from .limits import Limits
from .plain import plain
from .rungs import LAUNCHED, Rung

_MOST = 64


def available(rung: Rung) -> bool:
    """Tell whether a process that has imported torch can be forked into workers on `rung`.

    Not where a launcher gives each submission a sandbox of its own.
    """
    return sys.platform == "linux" and rung not in LAUNCHED


class Nursery:
    """A process that has imported torch and forks a worker whenever it is asked."""

    def __init__(self, limits: Limits, rung: Rung) -> None:
        self._limits = limits
        self._rung = rung
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._home = start_nursery(limits, rung, theirs)
        self._control.settimeout(limits.start_s)
        self._ready = False

    @property
    def pid(self) -> int:
        return self._home.pid

    def has_ended(self) -> bool:
        """Tell whether the nursery is gone."""
        return self._home.has_ended()

    def fork(self) -> Worker:
        """Return a worker that has imported torch. Raises JudgeError."""
        if not self._ready:
            self._expect(b"ready")
            self._ready = True
        with ExitStack() as undo:
            pipes = lay_pipes(undo)
            answer = self._ask(b"fork", pipes.theirs)
            undo.pop_all()
        channel = pipes.channel(
            message_bytes=self._limits.message_bytes, output_bytes=self._limits.output_bytes
        )
        return Worker(_Forked(int(answer), channel, self), rung=self._rung)

    def reap(self, pid: int) -> None:
        """Let a killed child go. Raises JudgeError."""
        name = str(pid).encode()
        self._ask(b"reap " + name, ())

    def kill(self) -> None:
        """End the nursery, and with it what it forked; from whatever thread."""
        reaper.kill_group(self._home.pid)

    def close(self) -> None:
        """End the nursery and close our ends."""
        self._home.close()
        self._control.close()

    def _ask(self, request: bytes, fds: Sequence[int]) -> bytes:
        try:
            socket.send_fds(self._control, [request], list(fds))
        except OSError as error:
            raise self._failed(str(error)) from None
        return self._answer()

    def _expect(self, answer: bytes) -> None:
        if self._answer() != answer:
            raise self._failed("it did not start as it should")

    def _answer(self) -> bytes:
        try:
            answer = self._control.recv(_MOST)
        except OSError as error:
            raise self._failed(str(error)) from None
        if not answer:
            last = self._home.channel.printed().strip().rpartition("\n")[2]
            raise self._failed(plain(last, limit=300))
        return answer

    def _failed(self, why: str) -> JudgeError:
        return JudgeError(f"the process that workers are forked from failed: {why}")


@dataclass(slots=True)
class _Forked:
    """A child of the nursery; only the nursery can reap it."""

    pid: int
    channel: Channel
    nursery: Nursery
    reaped: bool = False

    def has_ended(self) -> bool:
        """Tell whether the process was ended by us; a child of another cannot be asked."""
        return self.reaped

    def kill(self) -> None:
        """End the process and its group at once; safe to repeat."""
        if not self.reaped:
            self.reaped = True
            reaper.kill_group(self.pid)
            reaper.kill_process(self.pid)  # if it did not come to lead a group
            self.nursery.reap(self.pid)

    def close(self) -> None:
        """Kill the process and close our ends of its pipes."""
        try:
            self.kill()
        finally:
            self.channel.close()
