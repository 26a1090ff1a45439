"""The codec: what is sent comes back, and what is no value is a WireError and nothing else."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfhour.generator.judge.worker import frames, wire
from halfhour.generator.judge.worker.frames import FrameError, FrameTooLarge
from halfhour.generator.judge.worker.wire import (
    Decoder,
    Encoder,
    TooLarge,
    Unsendable,
    WireError,
)

LIMIT = 1 << 20
MODULUS = (1 << 61) - 1
"""Numbers that differ by a multiple of it have the same hash."""
STEADY: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow],
}


def _refuse(value: Any, _: Encoder, __: int) -> Any:
    raise Unsendable(f"a {type(value).__name__}")


def encoder() -> Encoder:
    return Encoder(_refuse, message_bytes=LIMIT)


def there_and_back(value: Any) -> Any:
    """Send a value through a frame, as bytes."""
    sender = encoder()
    body = sender.encode(value)
    message = b"".join(frames.pack(body, sender.buffers, message_bytes=LIMIT))
    start = frames.PREFIX_BYTES + frames.header_length(message[: frames.PREFIX_BYTES])
    body, lengths = frames.parse_header(message[frames.PREFIX_BYTES : start], message_bytes=LIMIT)
    buffers = []
    for length in lengths:
        buffers.append(bytearray(message[start : start + length]))
        start += length
    assert start == len(message)
    return Decoder(buffers, {}).decode(body)


def decoded(data: Any, *buffers: bytes) -> Any:
    return Decoder([bytearray(buffer) for buffer in buffers], {}).decode(data)


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters(codec=None))
    | st.binary(max_size=20)
    | st.sampled_from([..., torch.float16, torch.Size([1, 2]), torch.device("cpu")]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, **STEADY)
@given(plain_values)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = there_and_back(value)

    assert repr(back) == repr(value)  # as NaN is not equal to itself, nor 1 different from True
    assert type(back) is type(value)


def test_every_dtype_comes_back_bit_for_bit() -> None:
    for name, dtype in wire.TORCH_DTYPES.items():
        for shape in ((), (0, 3), (2, 3)):
            bits = torch.randint(0, 2, (*shape, dtype.itemsize), dtype=torch.uint8)
            tensor = bits.view(dtype).reshape(shape)

            back = there_and_back(tensor)

            assert (back.dtype, back.shape) == (tensor.dtype, tensor.shape), name
            assert bytes(wire.tensor_bytes(back)) == bytes(wire.tensor_bytes(tensor))
    for name in wire.NUMPY_DTYPES:
        array = np.ones((2, 0, 1), dtype=name)
        assert there_and_back(array).dtype == array.dtype
        assert type(there_and_back(np.dtype(name).type(1))) is np.dtype(name).type


def test_a_tensor_is_its_values_alone() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    conjugate = torch.tensor([1 + 2j]).conj()
    for tensor in (base.T, base[:, 1], base.flip(0), base.expand(2, 3, 4), conjugate, -conjugate):
        back = there_and_back(tensor)

        assert torch.equal(back, tensor)
        assert back.is_contiguous()
    parameter = torch.nn.Parameter(torch.ones(2))
    assert type(there_and_back(parameter)) is torch.Tensor
    assert there_and_back(parameter).requires_grad


def test_a_big_endian_array_becomes_a_native_one() -> None:
    array = np.arange(3, dtype=">i4")

    back = there_and_back(array)

    assert back.dtype == np.dtype("int32")
    assert back.tolist() == [0, 1, 2]


def test_booleans_are_normalised() -> None:
    """A byte of 2 would be true in `any` and wrong in `sum`."""
    tensor = decoded(["tensor", "bool", [3], 0, False], b"\x00\x01\x02")
    array = decoded(["array", "bool", [3], 0], b"\x00\x01\x02")

    assert tensor.tolist() == [False, True, True]
    assert int(tensor.sum()) == int(array.sum()) == 2
    assert bytes(wire.tensor_bytes(tensor)) == array.tobytes() == b"\x00\x01\x01"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(torch.eye(2).to_sparse(), id="sparse"),
        pytest.param(torch.empty(2, device="meta"), id="meta"),
        pytest.param(torch.ones(2).as_subclass(type("Own", (torch.Tensor,), {})), id="subclass"),
        pytest.param(np.array(["text"]), id="array of text"),
        pytest.param(np.array([object()]), id="array of objects"),
        pytest.param(type("Own", (int,), {})(1), id="subclass of int"),
        pytest.param(object(), id="object"),
        pytest.param(torch.ones((1,) * 17), id="dimensions"),
        pytest.param(1 << 5000, id="an enormous int"),
        pytest.param(range(1 << 40), id="an enormous range"),
    ],
)
def test_what_is_no_plain_value_is_not_sent(value: Any) -> None:
    with pytest.raises(Unsendable):
        encoder().encode(value)


def test_a_value_too_large_is_noticed_before_it_is_made() -> None:
    with pytest.raises(TooLarge):
        encoder().encode(torch.zeros(1).expand(1 << 40))
    with pytest.raises(TooLarge):
        encoder().encode([b"x" * (LIMIT // 2 + 1)] * 2)
    encoder().encode(torch.zeros(LIMIT // 4))  # exactly as large as allowed


def test_a_value_nested_too_deeply_is_refused_by_both_sides() -> None:
    value: Any = []
    for _ in range(wire.MAX_DEPTH):
        value = [value]
    with pytest.raises(Unsendable):
        encoder().encode(value)

    data: Any = ["list"]
    for _ in range(wire.MAX_DEPTH):
        data = ["list", data]
    with pytest.raises(WireError):
        decoded(data)


MALFORMED = {
    "an object": {},
    "no tag": [],
    "an unknown tag": ["pickle", "x"],
    "a handle where there are none": ["ref", 1, "x", [], [], []],
    "an int untagged": 1 << 60,
    "an int that is none": ["int", "0xg"],
    "an int with underscores": ["int", "0x1_0"],
    "a float that is finite": ["float", "1.5"],
    "an infinite float untagged": math.inf,
    "a complex of ints": ["complex", 1, 2],
    "a set of lists": ["set", ["list"]],
    "a dict with a list for a key": ["dict", ["list"], 1],
    "a dict with an odd part": ["dict", 1],
    "a slice too short": ["slice", 1, 2],
    "a range without step": ["range", 1, 2, 0],
    "a range that is too long": ["range", 0, 1 << 40, 1],
    "a range that has no length": ["range", 0, ["int", hex(1 << 90)], 1],
    "a set of numbers with one hash": ["set", *(["int", hex(n * MODULUS)] for n in range(99))],
    "a dict of tuples with one hash": [
        "dict",
        *(part for n in range(99) for part in (["tuple", ["int", hex(n * MODULUS)]], 0)),
    ],
    "an unknown dtype": ["dtype", "float8"],
    "an unknown device": ["device", "disk", None],
    "a device too far": ["device", "cuda", 4096],
    "a buffer that is not there": ["bytes", 2],
    "a negative buffer": ["bytes", -1],
    "a bool for a buffer": ["bytes", False],
    "a buffer used twice": ["list", ["bytes", 0], ["bytes", 0]],
    "a tensor too short": ["tensor", "float32", [2], 0, False],
    "a tensor with a negative size": ["tensor", "float32", [-1, -1], 0, False],
    "a tensor with a bool for a size": ["tensor", "float32", [True], 0, False],
    "an empty tensor of absurd shape": ["tensor", "float32", [0, 1 << 50], 1, False],
    "a tensor with too many dimensions": ["tensor", "float32", [1] * 17, 0, False],
    "an int tensor with a gradient": ["tensor", "int32", [1], 0, True],
    "a tensor with a gradient that is no bool": ["tensor", "float32", [1], 0, 1],
    "an array of objects": ["array", "object", [1], 0],
    "a scalar with two values": ["scalar", "int16", 0],
    "a size that is negative": ["size", -1],
    "a generator": ["generator", 0],
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_value_is_refused(data: Any) -> None:
    with pytest.raises(WireError):
        decoded(data, b"\x00\x00\x00\x00", b"")


tags = st.sampled_from([*wire._READERS, "ref", "pickle", ""])
fields = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 9)
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["0x1", "nan", "float32", "bool", "cpu", "complex64"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.builds(lambda tag, rest: [tag, *rest], tags, st.lists(inner, max_size=5))
    ),
    max_leaves=12,
)


@settings(max_examples=400, **STEADY)
@given(fields, st.lists(st.binary(max_size=16), max_size=3))
def test_whatever_arrives_decoding_raises_nothing_but_a_wire_error(
    data: Any, buffers: list[bytes]
) -> None:
    with suppress(WireError):
        decoded(data, *buffers)


@settings(max_examples=200, **STEADY)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_whatever_arrives_a_header_raises_nothing_but_a_frame_error(header: bytes) -> None:
    with suppress(FrameError):
        frames.parse_header(header, message_bytes=LIMIT)


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"[1, [NaN]]", id="NaN"),
        pytest.param(b"[Infinity, []]", id="Infinity"),
        pytest.param(b"[1, [-1]]", id="a negative length"),
        pytest.param(b"[1, [true]]", id="a bool for a length"),
        pytest.param(b"[1, [1.0]]", id="a float for a length"),
        pytest.param(b"[1]", id="no lengths"),
        pytest.param(b"[1, [], 2]", id="too many parts"),
        pytest.param(b'{"body": 1}', id="an object"),
        pytest.param(b"\xff", id="not UTF-8"),
        pytest.param(b"[" * 100_000, id="nested without end"),
        pytest.param(b"[1, [" + b"9" * 5000 + b"]]", id="a number without end"),
    ],
)
def test_a_malformed_header_is_refused(header: bytes) -> None:
    with pytest.raises(FrameError):
        frames.parse_header(header, message_bytes=LIMIT)


def test_a_frame_too_large_is_refused_by_both_sides() -> None:
    half = b"x" * (LIMIT // 2 + 1)
    with pytest.raises(FrameTooLarge):
        frames.pack(1, [half, half], message_bytes=LIMIT)
    with pytest.raises(FrameTooLarge):
        frames.pack("x" * frames.MAX_HEADER, [], message_bytes=LIMIT)
    with pytest.raises(FrameTooLarge):
        frames.pack(1, [b""] * (frames.MAX_BUFFERS + 1), message_bytes=LIMIT)
    with pytest.raises(FrameTooLarge):
        frames.header_length(b"\xff\xff\xff\xff")
    with pytest.raises(FrameTooLarge):
        frames.parse_header(json.dumps([1, [LIMIT, 1]]).encode(), message_bytes=LIMIT)
    many = json.dumps([1, [0] * (frames.MAX_BUFFERS + 1)]).encode()
    with pytest.raises(FrameTooLarge):
        frames.parse_header(many, message_bytes=LIMIT)
