"""Whatever bytes a worker writes: the judge gets a plain value, or ends the worker.

Bounded fuzzing, through the real pipe, frame, session and value; only the request's id is known.
"""

from __future__ import annotations

import json
import os
import struct
import time
import tracemalloc
from contextlib import suppress
from typing import Any
from unittest import mock

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfhour.generator.judge import Limits
from halfhour.generator.judge.channel import Channel
from halfhour.generator.judge.proxy import (
    Handle,
    Record,
    RemoteClass,
    RemoteFunction,
    RemoteMember,
)
from halfhour.generator.judge.remote import Remote
from halfhour.generator.judge.remote_errors import (
    NoValue,
    ProtocolViolation,
    WorkerDied,
    came_over_the_wire,
)
from halfhour.generator.judge.session import Session
from halfhour.generator.judge.worker import wire

LIMITS = Limits(call_s=20.0, verdict_s=20.0, message_bytes=1 << 18)
REQUEST = "0" * 16
STEADY: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
PER_BYTE = 64
"""As much memory may a byte take that a worker writes, beside what a message may hold."""

PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes, slice, range, type(Ellipsis)),
    *(torch.Size, torch.dtype, torch.device, torch.Tensor, np.ndarray, np.generic),
    *(RemoteFunction, RemoteClass, RemoteMember, Record, Handle),
)


class PresetWorker:
    """Has written all that it will ever write."""

    def __init__(self, content: bytes) -> None:
        (read_fd, self._written), (self._unread, write_fd) = os.pipe(), os.pipe()
        self.channel = Channel(read_fd, write_fd, message_bytes=LIMITS.message_bytes)
        os.set_blocking(self._written, False)
        os.write(self._written, content)
        os.close(self._written)

    def kill(self) -> None: ...

    def end(self) -> None:
        self.channel.close()
        os.close(self._unread)


def is_plain(value: Any) -> bool:
    """Tell whether a value holds nothing but what the judge makes itself."""
    match value:
        case dict():
            return type(value) is dict and all(is_plain(p) for pair in value.items() for p in pair)
        case list() | set() | frozenset():
            return type(value) in (list, set, frozenset) and all(map(is_plain, value))
        case tuple() if type(value) is tuple or isinstance(value, Record):
            return all(map(is_plain, value))
        case type() if issubclass(value, Exception):
            return value.__module__ in (
                "builtins",
                "submission",
                "halfhour.generator.judge.remote_errors",
            )
        case torch.Tensor():
            return type(value) is torch.Tensor and value.device.type == "cpu"
    return isinstance(value, PLAIN)


def arrives(content: bytes) -> str:
    """Let the bytes arrive as the answer to a call; check what becomes of them, and tell."""
    worker = PresetWorker(content)
    session = Session(worker, LIMITS, end=time.monotonic() + LIMITS.verdict_s)
    remote = Remote(session, LIMITS)
    tracemalloc.start()
    try:
        with mock.patch("secrets.token_hex", return_value=REQUEST):
            value = remote.operate("len", [])
        assert is_plain(value), value
        return "value"
    except (ProtocolViolation, WorkerDied):
        return "fault"
    except NoValue:
        return "refusal"
    except Exception as error:
        if not came_over_the_wire(error):
            raise
        return "exception"
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        worker.end()
        assert peak < 2 * LIMITS.message_bytes + PER_BYTE * len(content) + (1 << 20), peak


def frame(header: bytes, *buffers: bytes) -> bytes:
    return b"".join([struct.pack("<I", len(header)), header, *buffers])


def answer(value: Any, *buffers: bytes, **other: Any) -> bytes:
    body = {"answer": "ok", "request": REQUEST, "value": value, "changed": [], "graph": None}
    return frame(json.dumps([body | other, [len(b) for b in buffers]]).encode(), *buffers)


EIGHT = struct.pack("<2f", 1.0, 2.0)
RAISED = {"answer": "raised", "message": "m", "trace": "t"}
VALID = [
    answer(["list", None, True, 7, 1.5, "text", ["int", "-0x1f"], ["float", "nan"]]),
    answer(["dict", "a", ["tuple", 1, ["set", 2, 3]], "b", ["frozenset", ["complex", 1.0, 2.0]]]),
    answer(["list", ["slice", 1, None, 2], ["range", 0, 9, 3], ["ellipsis"], ["size", 2, 3]]),
    answer(["list", ["dtype", "float16"], ["device", "cuda", 1]]),
    answer(["list", ["tensor", "float32", [2, 1], 0, False], ["bytes", 1]], EIGHT, b"four"),
    answer(["list", ["array", "int16", [4], 0], ["scalar", "float64", 1]], EIGHT, EIGHT),
    answer(["tensor", "bool", [2, 2, 2], 0, False], EIGHT),
    answer(["list", ["function", "f"], ["class", "C"], ["member", "C", "A", 1]]),
    answer(["record", "C", ["low", "high"], 1, ["tensor", "float64", [], 0, True]], EIGHT),
    answer(["ref", 3, "Cache", ["Cache"], ["len", "iter", "getitem"], ["append"]]),
    answer(["error", "E", [["kit:E", ["KeyError"]], ["KeyError", None], ["Exception", None]]]),
    answer(None, **RAISED, error=[["kit:E", ["ValueError"]], ["ValueError", None]]),
    answer(None, answer="refused", too_large=False),
]


def test_what_is_mutated_below_is_valid() -> None:
    assert [arrives(content) for content in VALID] == ["value"] * 11 + ["exception", "refusal"]


@settings(max_examples=100, **STEADY)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_value_or_a_fault(content: bytes) -> None:
    arrives(content)


@settings(max_examples=100, **STEADY)
@given(st.binary(max_size=80), st.integers(0, 1 << 21))
def test_bytes_under_a_header_of_any_length_are_a_fault(content: bytes, length: int) -> None:
    assert arrives(struct.pack("<I", length) + content) == "fault"


places = st.integers(0, 1 << 16)
changes = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "remove", "repeat", "truncate"]),
        places,
        st.integers(1, 12),
        st.binary(min_size=1, max_size=4)
        | st.sampled_from([b"-", b"[", b"1e999", b"NaN", b'"', b"9" * 40]),
    ),
    min_size=1,
    max_size=4,
)


def changed(content: bytes, change: tuple[str, int, int, bytes]) -> bytes:
    """Return the bytes with one change to them."""
    how, place, count, put = change
    place %= len(content) + 1
    before, there, after = content[:place], content[place : place + count], content[place + count :]
    match how:
        case "replace":
            return before + put + after
        case "insert":
            return before + put + there + after
        case "repeat":
            return before + there * 3 + after
        case "truncate":
            return before
    return before + after


@settings(max_examples=300, **STEADY)
@given(st.sampled_from(VALID), changes, st.booleans())
def test_a_frame_with_bytes_changed_is_a_value_or_a_fault(
    content: bytes, made: list[tuple[str, int, int, bytes]], fits: bool
) -> None:
    """`fits`: the length of the header is made right again, so that more gets through to it."""
    (length,) = struct.unpack("<I", content[:4])
    header, buffers = content[4 : 4 + length], content[4 + length :]
    if fits:
        for change in made:
            header = changed(header, change)
        arrives(frame(header, buffers))
    else:
        for change in made:
            content = changed(content, change)
        arrives(content)


odd = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1 << 31, 1 << 53, 1 << 63, 10**40, 1e308, 0.5]),
    st.text(max_size=5),
    st.sampled_from([*wire._READERS, "ref", "error", "record", "member", "float32", "bool", "nan"]),
    st.lists(st.integers(-2, 9), max_size=4),
    st.just({}),
)


def paths(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to every part of parsed JSON."""
    found = [here]
    parts: dict[Any, Any] = data if isinstance(data, dict) else {}
    if isinstance(data, list):
        parts = dict(enumerate(data))
    for key, part in parts.items():
        found += paths(part, (*here, key))
    return found


@settings(max_examples=300, **STEADY)
@given(st.sampled_from(VALID), st.lists(st.tuples(places, odd), min_size=1, max_size=3))
def test_a_frame_with_parts_changed_is_a_value_or_a_fault(
    content: bytes, made: list[tuple[int, Any]]
) -> None:
    """The header stays JSON, so that what is wrong is the value."""
    (length,) = struct.unpack("<I", content[:4])
    data = json.loads(content[4 : 4 + length])
    for place, put in made:
        ways = [way for way in paths(data) if way]
        *way, last = ways[place % len(ways)]
        owner = data
        for key in way:
            owner = owner[key]
        owner[last] = put
    with suppress(ValueError):  # JSON of ours writes no infinite float
        arrives(frame(json.dumps(data, allow_nan=False).encode(), content[4 + length :]))
