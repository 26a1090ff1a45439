"""The worker's end of the two pipes: waits as long as it takes, for the other end has the clock."""

from __future__ import annotations

import os
from collections.abc import Sequence

from . import frames
from .frames import Buffer, Json

_CHUNK = 64 << 10


class Connection:
    """Reads requests from one pipe and writes answers to another."""

    def __init__(self, read_fd: int, write_fd: int, *, message_bytes: int) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._message_bytes = message_bytes
        self._ahead = bytearray()  # what came together with what was asked for

    def receive(self) -> tuple[Json, list[bytearray]]:
        """Return the next message. Raises EOFError when the other end is gone."""
        header = self._read(frames.header_length(self._read(frames.PREFIX_BYTES)))
        body, lengths = frames.parse_header(header, message_bytes=self._message_bytes)
        return body, [self._read(length) for length in lengths]

    def send(self, body: Json, buffers: Sequence[Buffer] = ()) -> None:
        """Write one message. Raises FrameTooLarge before anything is written."""
        for piece in frames.pack(body, buffers, message_bytes=self._message_bytes):
            view = memoryview(piece)
            while view:
                view = view[os.write(self._write_fd, view) :]

    def _read(self, size: int) -> bytearray:
        content = self._ahead[:size]
        del self._ahead[:size]
        while len(content) < size:
            chunk = os.read(self._read_fd, _CHUNK)
            if not chunk:
                raise EOFError
            wanted = size - len(content)
            content += chunk[:wanted]
            self._ahead += chunk[wanted:]
        return content
