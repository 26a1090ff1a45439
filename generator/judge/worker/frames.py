"""Frames: how two processes of the judge talk. A JSON header, then raw buffers.

    frame   = length of the header (4 bytes, little-endian), header, buffers
    header  = JSON [body, [length of each buffer]]

Every length is checked before anything is allocated. Nothing is pickled.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any, NoReturn

Json = Any
"""What `json` reads and writes; everything that holds it checks it."""
Buffer = bytes | bytearray | memoryview

PREFIX_BYTES = 4
MAX_HEADER = 1 << 20
MAX_BUFFERS = 4096

_JOIN_BELOW = 64 << 10


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


class FrameError(Exception):
    """The bytes are no frame."""


class FrameTooLarge(FrameError):
    """The frame is larger than the limit."""


def pack(body: Json, buffers: Sequence[Buffer], *, message_bytes: int) -> list[Buffer]:
    """Return the pieces to write, in order. Raises FrameTooLarge."""
    lengths = [len(buffer) for buffer in buffers]
    header = _ENCODER.encode([body, lengths]).encode()
    if len(header) > MAX_HEADER or len(lengths) > MAX_BUFFERS or sum(lengths) > message_bytes:
        raise FrameTooLarge(f"the message is larger than {message_bytes >> 20} MiB")
    head = struct.pack("<I", len(header)) + header
    if sum(lengths) < _JOIN_BELOW:
        return [b"".join([head, *buffers])]
    return [head, *buffers]


def header_length(prefix: Buffer) -> int:
    """Read the first four bytes of a frame. Raises FrameTooLarge."""
    (length,) = struct.unpack("<I", prefix)
    if length > MAX_HEADER:
        raise FrameTooLarge("the header of the message is too large")
    return int(length)


def parse_header(header: Buffer, *, message_bytes: int) -> tuple[Json, list[int]]:
    """Return the body and the length of each buffer. Raises FrameError."""
    try:
        parsed = _DECODER.decode(bytes(header).decode())
    except (ValueError, RecursionError) as error:
        raise FrameError("the header of the message is not JSON") from error
    match parsed:
        case [body, list(lengths)] if all(type(n) is int and n >= 0 for n in lengths):
            if len(lengths) > MAX_BUFFERS or sum(lengths) > message_bytes:
                raise FrameTooLarge(f"the message is larger than {message_bytes >> 20} MiB")
            return body, lengths
    raise FrameError("the header of the message is malformed")
