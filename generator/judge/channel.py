"""The trusted end of two pipes: a deadline on every byte in either direction."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Sequence

from .worker import frames
from .worker.frames import Buffer, Json

_CHUNK = 64 << 10
_HEADER_WEIGHT = 16
"""A byte of JSON becomes so many in memory, or some more."""


class ChannelClosed(Exception):
    """The other end is gone."""


class ChannelTimeout(Exception):
    """The deadline has passed."""


class Channel:
    """Talks to one process; empties what that process prints whenever it waits.

    Deadlines are values of `time.monotonic()`. The channel owns its file descriptors.
    """

    received: int
    """About how much memory all messages together have taken since the channel was opened."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        *,
        printed_fds: Sequence[int] = (),
        message_bytes: int,
        output_bytes: int = 0,
    ) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._printing = list(printed_fds)
        self._descriptors = [read_fd, write_fd, *printed_fds]
        self._message_bytes = message_bytes
        self._output_bytes = output_bytes
        self._output = bytearray()
        self._ahead = bytearray()  # what came together with what was asked for
        self.received = 0
        for descriptor in self._descriptors:
            os.set_blocking(descriptor, False)

    def send(self, body: Json, buffers: Sequence[Buffer] = (), *, deadline: float) -> None:
        """Write a message. Raises ChannelClosed, ChannelTimeout, FrameTooLarge."""
        for piece in frames.pack(body, buffers, message_bytes=self._message_bytes):
            view = memoryview(piece)
            while view:
                try:
                    view = view[os.write(self._write_fd, view) :]
                except BlockingIOError:
                    self._wait(self._write_fd, select.POLLOUT, deadline)
                except BrokenPipeError:
                    raise ChannelClosed from None

    def receive(self, *, deadline: float) -> tuple[Json, list[bytearray]]:
        """Read a message. Raises ChannelClosed, ChannelTimeout, FrameError."""
        length = frames.header_length(self._read(frames.PREFIX_BYTES, deadline))
        header = self._read(length, deadline)
        body, lengths = frames.parse_header(header, message_bytes=self._message_bytes)
        self.received += _HEADER_WEIGHT * length + sum(lengths)
        return body, [self._read(size, deadline) for size in lengths]

    def printed(self) -> str:
        """Return what was kept of the other process's output."""
        for descriptor in list(self._printing):
            self._drain(descriptor)
        return self._output.decode(errors="replace")

    def close(self) -> None:
        """Close every descriptor."""
        while self._descriptors:
            os.close(self._descriptors.pop())
        self._printing.clear()

    def _read(self, size: int, deadline: float) -> bytearray:
        content = self._ahead[:size]
        del self._ahead[:size]
        while len(content) < size:
            try:
                chunk = os.read(self._read_fd, _CHUNK)
            except BlockingIOError:
                self._wait(self._read_fd, select.POLLIN, deadline)
                continue
            if not chunk:
                raise ChannelClosed
            wanted = size - len(content)
            content += chunk[:wanted]
            self._ahead += chunk[wanted:]
            if time.monotonic() > deadline:  # a trickle of bytes never blocks
                raise ChannelTimeout
        return content

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        for printing in self._printing:
            poll.register(printing, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ChannelTimeout
            ready = [fd for fd, _ in poll.poll(left * 1000)]
            for printing in set(ready) & set(self._printing):
                if not self._drain(printing):
                    poll.unregister(printing)
            if descriptor in ready:
                return

    def _drain(self, descriptor: int) -> bool:
        """Read once what is there, keep the beginning; tell whether more may come."""
        try:
            chunk = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return True
        self._output += chunk[: self._output_bytes - len(self._output)]
        if not chunk:
            self._printing.remove(descriptor)
        return bool(chunk)
