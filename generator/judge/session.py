"""One worker's conversation: requests and answers, deadlines, and the fault that ends it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .channel import Channel, ChannelClosed, ChannelTimeout
from .limits import Limits
from .remote_errors import (
    CallTimedOut,
    ProtocolViolation,
    TestAuthorError,
    WorkerDied,
    WorkerFault,
)
from .worker.frames import Buffer, FrameError, FrameTooLarge, Json

Message = tuple[dict[str, Any], Sequence[Buffer]]
CalledBack = Callable[[dict[str, Any], list[bytearray]], Message]


class Talker(Protocol):
    """What a session needs of a worker."""

    @property
    def channel(self) -> Channel: ...

    def kill(self) -> None: ...


class Session:
    """Asks one worker. After a fault the worker is dead and every request raises that fault."""

    def __init__(self, worker: Talker, limits: Limits, *, end: float) -> None:
        self.fault: WorkerFault | None = None
        self._worker = worker
        self._limits = limits
        self._end = end
        self._deadlines = [end]
        self._released: list[int] = []

    def ask(
        self,
        body: dict[str, Any],
        buffers: Sequence[Buffer],
        called_back: CalledBack,
        *,
        seconds: float,
    ) -> tuple[dict[str, Any], list[bytearray]]:
        """Send a request and return its answer. Raises WorkerFault.

        `called_back` answers what the worker asks meanwhile; it may ask in turn.
        """
        if self.fault is not None:
            raise self.fault
        request = secrets.token_hex(8)
        released, self._released = self._released, []
        body |= {"request": request, "release": released}
        deadline = min(time.monotonic() + seconds, self._deadlines[-1])
        self._deadlines.append(deadline)
        try:
            self._send(body, buffers, deadline)
            while True:
                answer, attached = self._receive(request, deadline)
                if answer["answer"] != "callback":
                    return answer, attached
                reply, reply_buffers = called_back(answer, attached)
                self._send(reply, reply_buffers, deadline)
        finally:
            self._deadlines.pop()

    def release(self, number: int) -> None:
        """Let the worker forget an object; told with the next request."""
        self._released.append(number)

    def end_with(self, fault: WorkerFault) -> WorkerFault:
        """End the worker and the trial; return what to raise: the first fault there was."""
        if self.fault is None:
            self.fault = fault
            self._worker.kill()
        return self.fault

    def _send(self, body: dict[str, Any], buffers: Sequence[Buffer], deadline: float) -> None:
        try:
            self._worker.channel.send(body, buffers, deadline=deadline)
        except FrameTooLarge as error:
            fault = TestAuthorError(f"a test passes too much in one call: {error}")
            raise self.end_with(fault) from None
        except (ChannelClosed, ChannelTimeout) as error:
            raise self.end_with(self._fault(error)) from None

    def _receive(self, request: str, deadline: float) -> tuple[dict[str, Any], list[bytearray]]:
        try:
            answer, attached = self._worker.channel.receive(deadline=deadline)
        except (ChannelClosed, ChannelTimeout, FrameError) as error:
            raise self.end_with(self._fault(error)) from None
        if not _is_answer(answer, request):
            raise self.end_with(ProtocolViolation("it answered out of turn"))
        if self._worker.channel.received > self._limits.trial_bytes:
            raise self.end_with(ProtocolViolation("it answered too much in all"))
        return answer, attached

    def _fault(self, error: Exception) -> WorkerFault:
        match error:
            case ChannelClosed():
                return WorkerDied("its process ended")
            case ChannelTimeout():
                return self._late()
            case FrameTooLarge():
                return ProtocolViolation("it answered too much")
        return ProtocolViolation("it answered what is no message")

    def _late(self) -> CallTimedOut:
        if time.monotonic() >= self._end:
            return CallTimedOut(f"all calls together took longer than {self._limits.verdict_s:g} s")
        return CallTimedOut(f"a call took longer than {self._limits.call_s:g} s")


def _is_answer(answer: Json, request: str) -> bool:
    return (
        type(answer) is dict
        and answer.get("request") == request
        and type(answer.get("answer")) is str
    )
