"""Values on the wire: plain Python, tensors and arrays to JSON and buffers, and back.

A value is itself in JSON where JSON says exactly the same (None, bool, str, finite float, int up
to 2**53), else a list `[tag, ...]`. Only exact built-in types cross by value; a tensor is its
dtype, shape and bytes, and is rebuilt as a plain contiguous `torch.Tensor` on the device of the
side that decodes it, so neither subclass nor alias nor hook survives the trip. What is neither is
for the side's own `foreign` function: handles, functions, classes, callbacks.

Decoding trusts nothing: any fault is a WireError.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from .frames import Buffer, Json

MAX_DEPTH = 24
MAX_DIMS = 16
_MAX_INT = 1 << 53
_MAX_INT_BITS = 4096
_MAX_NUMEL = 1 << 40
_MAX_RANGE = 1 << 20
"""Three numbers cross, but whoever makes a list of it makes so many."""
_MAX_ALIKE = 64
"""As many keys of a set or a dict may share a hash, for each is compared with all of them."""

TORCH_DTYPES: dict[str, torch.dtype] = {
    name: getattr(torch, name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e5m2"),
    )
}
_TORCH_NAMES = {dtype: name for name, dtype in TORCH_DTYPES.items()}

_DEVICES = ("cpu", "cuda")
"""Where the elements of a tensor can lie; on `meta` there are none."""

NUMPY_DTYPES = frozenset(
    (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
)

Foreign = Callable[[Any, "Encoder", int], Json]
"""(value, encoder, depth) -> JSON; raises Unsendable."""
Reader = Callable[["Decoder", list[Any], int], Any]
"""(decoder, the fields after the tag, depth) -> value; may raise anything ordinary."""


class WireError(Exception):
    """What arrived is no value."""


class Unsendable(Exception):
    """This value cannot cross; the message says why, for the author of a test."""


class TooLarge(Unsendable):
    """This value is larger than a message may be."""


def tensor_bytes(tensor: torch.Tensor) -> Buffer:
    """Return the elements of a tensor in row-major order."""
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""


def is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether the tensor is exactly its dtype, its shape and its bytes."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.device.type in _DEVICES
        and tensor.layout is torch.strided
        and tensor.dtype in _TORCH_NAMES
    )


def _is_itself(value: Any) -> bool:
    """Tell whether the value and its JSON are the same."""
    kind = type(value)
    if kind is int:
        return bool(-_MAX_INT <= value <= _MAX_INT)
    return value is None or kind is str or kind is bool or (kind is float and math.isfinite(value))


class Encoder:
    """Encodes the values of one message; its buffers go beside them.

    `gradients` collects the tensors that require a gradient, in the order they were met.
    """

    def __init__(self, foreign: Foreign, *, message_bytes: int) -> None:
        self.buffers: list[Buffer] = []
        self.gradients: list[torch.Tensor] = []
        self._foreign = foreign
        self._bytes_left = message_bytes

    def encode(self, value: Any, depth: int = 0) -> Json:
        """Return the value as JSON. Raises Unsendable."""
        if _is_itself(value):
            return value
        if depth >= MAX_DEPTH:
            raise Unsendable(f"a value nested more than {MAX_DEPTH} deep cannot be sent")
        write = _WRITERS.get(type(value))
        if write is None and isinstance(value, np.generic):
            write = _write_scalar
        return write(self, value, depth) if write else self._foreign(value, self, depth)

    def buffer(self, content: Buffer) -> int:
        """Keep a buffer and return its place among the buffers of the message."""
        self.check_room(len(content))
        self._bytes_left -= len(content)
        self.buffers.append(content)
        return len(self.buffers) - 1

    def check_room(self, size: int) -> None:
        """Raise TooLarge if the message has no room for so many bytes."""
        if size > self._bytes_left:
            raise TooLarge("the message is too large")


class Decoder:
    """Decodes the values of one message. Every buffer is used at most once, so nothing aliases.

    Tensors are rebuilt on `device`; `seen` is called with each and returns what takes its place.
    """

    def __init__(
        self,
        buffers: list[bytearray],
        foreign: Mapping[str, Reader],
        *,
        device: str = "cpu",
        seen: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    ) -> None:
        self.device = device
        self.seen = seen
        self._buffers: list[bytearray | None] = list(buffers)
        self._foreign = foreign

    def decode(self, data: Json) -> Any:
        """Return the value. Raises WireError, and nothing else."""
        try:
            return self.read(data, 0)
        except (ArithmeticError, LookupError, MemoryError, RuntimeError) as error:
            raise WireError("a malformed value") from error
        except (TypeError, ValueError) as error:
            raise WireError("a malformed value") from error

    def read(self, data: Json, depth: int) -> Any:
        """Decode a part of a value."""
        if _is_itself(data):
            return data
        if type(data) is not list or not data or type(data[0]) is not str:
            raise WireError("a value without a tag")
        if depth >= MAX_DEPTH:
            raise WireError("a value nested too deeply")
        read = _READERS.get(data[0]) or self._foreign.get(data[0])
        if read is None:
            raise WireError("a value with an unknown tag")
        return read(self, data[1:], depth)

    def read_all(self, items: list[Any], depth: int) -> list[Any]:
        """Decode the parts of a container that is itself at `depth`."""
        return [item if _is_itself(item) else self.read(item, depth + 1) for item in items]

    def take(self, index: Json) -> bytearray:
        """Return a buffer and forget it."""
        if type(index) is not int or not 0 <= index < len(self._buffers):
            raise WireError("a buffer that is not there")
        content = self._buffers[index]
        if content is None:
            raise WireError("a buffer used twice")
        self._buffers[index] = None
        return content


# --- writers ---------------------------------------------------------------------------------


def _write_int(_: Encoder, value: int, __: int) -> Json:
    if value.bit_length() > _MAX_INT_BITS:
        raise Unsendable(f"an int of more than {_MAX_INT_BITS} bits cannot be sent")
    return ["int", hex(value)]


def _write_complex(encoder: Encoder, value: complex, depth: int) -> Json:
    return ["complex", *_parts(encoder, (value.real, value.imag), depth)]


def _write_dict(encoder: Encoder, value: dict[Any, Any], depth: int) -> Json:
    pairs = [part for pair in value.items() for part in pair]
    return ["dict", *_parts(encoder, pairs, depth)]


def _write_slice(encoder: Encoder, value: slice, depth: int) -> Json:
    return ["slice", *_parts(encoder, (value.start, value.stop, value.step), depth)]


def _write_range(encoder: Encoder, value: range, depth: int) -> Json:
    if value[_MAX_RANGE:]:
        raise Unsendable(f"a range of more than {_MAX_RANGE} numbers cannot be sent")
    return ["range", *_parts(encoder, (value.start, value.stop, value.step), depth)]


def _write_dtype(_: Encoder, value: torch.dtype, __: int) -> Json:
    if value not in _TORCH_NAMES:
        raise Unsendable(f"{value} cannot be sent")
    return ["dtype", _TORCH_NAMES[value]]


def _write_tensor(encoder: Encoder, value: torch.Tensor, _: int) -> Json:
    if not is_plain(value):
        raise Unsendable(
            f"a tensor with layout {value.layout}, dtype {value.dtype} on {value.device.type}"
            " cannot be sent"
        )
    if value.dim() > MAX_DIMS:
        raise Unsendable(f"a tensor with more than {MAX_DIMS} dimensions cannot be sent")
    encoder.check_room(value.numel() * value.element_size())  # before an expanded one is made whole
    index = encoder.buffer(tensor_bytes(value))
    if value.requires_grad:
        encoder.gradients.append(value)
    shape = list(value.shape)
    return ["tensor", _TORCH_NAMES[value.dtype], shape, index, value.requires_grad]


def _write_array(encoder: Encoder, value: np.ndarray[Any, Any], _: int) -> Json:
    if value.dtype.name not in NUMPY_DTYPES:
        raise Unsendable(f"an array of {value.dtype} cannot be sent")
    native = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
    return ["array", value.dtype.name, list(value.shape), encoder.buffer(native.tobytes())]


def _write_scalar(encoder: Encoder, value: np.generic, _: int) -> Json:
    if value.dtype.name not in NUMPY_DTYPES:
        raise Unsendable(f"a numpy scalar of {value.dtype} cannot be sent")
    return ["scalar", value.dtype.name, encoder.buffer(value.tobytes())]


def _parts(encoder: Encoder, parts: Any, depth: int) -> list[Json]:
    return [part if _is_itself(part) else encoder.encode(part, depth + 1) for part in parts]


_WRITERS: dict[type, Callable[[Encoder, Any, int], Json]] = {
    int: _write_int,
    float: lambda _, value, __: ["float", repr(value)],
    complex: _write_complex,
    bytes: lambda encoder, value, _: ["bytes", encoder.buffer(value)],
    bytearray: lambda encoder, value, _: ["bytes", encoder.buffer(bytes(value))],
    list: lambda encoder, value, depth: ["list", *_parts(encoder, value, depth)],
    tuple: lambda encoder, value, depth: ["tuple", *_parts(encoder, value, depth)],
    set: lambda encoder, value, depth: ["set", *_parts(encoder, value, depth)],
    frozenset: lambda encoder, value, depth: ["frozenset", *_parts(encoder, value, depth)],
    dict: _write_dict,
    OrderedDict: _write_dict,
    defaultdict: _write_dict,
    Counter: _write_dict,
    slice: _write_slice,
    range: _write_range,
    type(Ellipsis): lambda _, __, ___: ["ellipsis"],
    torch.Size: lambda encoder, value, depth: ["size", *_parts(encoder, value, depth)],
    torch.dtype: _write_dtype,
    torch.device: lambda _, value, __: ["device", value.type, value.index],
    torch.Tensor: _write_tensor,
    torch.nn.Parameter: _write_tensor,
    np.ndarray: _write_array,
}


# --- readers ---------------------------------------------------------------------------------


def _read_int(_: Decoder, fields: list[Any], __: int) -> int:
    (digits,) = fields
    if not re.fullmatch(r"-?0x[0-9a-f]{1,1024}", digits):
        raise WireError("a malformed int")
    return int(digits, 16)


def _read_float(_: Decoder, fields: list[Any], __: int) -> float:
    (name,) = fields
    return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[name]


def _read_complex(decoder: Decoder, fields: list[Any], depth: int) -> complex:
    real, imag = decoder.read_all(fields, depth)
    if type(real) is not float or type(imag) is not float:
        raise WireError("a malformed complex")
    return complex(real, imag)


def _read_bytes(decoder: Decoder, fields: list[Any], _: int) -> bytes:
    (index,) = fields
    return bytes(decoder.take(index))


def _read_dict(decoder: Decoder, fields: list[Any], depth: int) -> dict[Any, Any]:
    parts = decoder.read_all(fields, depth)
    return dict(zip(_keys(parts[::2]), parts[1::2], strict=True))


def _read_slice(decoder: Decoder, fields: list[Any], depth: int) -> slice:
    start, stop, step = decoder.read_all(fields, depth)
    return slice(start, stop, step)


def _read_range(decoder: Decoder, fields: list[Any], depth: int) -> range:
    start, stop, step = decoder.read_all(fields, depth)
    found = range(start, stop, step)
    if found[_MAX_RANGE:]:
        raise WireError("a range that is too long")
    return found


def _read_ellipsis(_: Decoder, fields: list[Any], __: int) -> Any:
    () = fields
    return Ellipsis


def _read_size(decoder: Decoder, fields: list[Any], depth: int) -> torch.Size:
    return torch.Size(_shape(decoder.read_all(fields, depth)))


def _read_dtype(_: Decoder, fields: list[Any], __: int) -> torch.dtype:
    (name,) = fields
    return TORCH_DTYPES[name]


def _read_device(_: Decoder, fields: list[Any], __: int) -> torch.device:
    kind, index = fields
    if kind not in ("cpu", "cuda", "mps", "meta"):
        raise WireError("an unknown device")
    if index is None:
        return torch.device(kind)
    if type(index) is not int or not 0 <= index < 64:
        raise WireError("a malformed device")
    return torch.device(kind, index)


def _read_tensor(decoder: Decoder, fields: list[Any], _: int) -> torch.Tensor:
    name, shape, index, requires_grad = fields
    dtype = TORCH_DTYPES[name]
    content = decoder.take(index)
    if _numel(shape) * dtype.itemsize != len(content):
        raise WireError("a tensor whose bytes do not fill its shape")
    if not content:
        tensor = torch.empty(shape, dtype=dtype, device="cpu")
    elif dtype is torch.bool:  # a byte above 1 is true, but torch counts and compares the byte
        tensor = (torch.frombuffer(content, dtype=torch.uint8) != 0).reshape(shape)
    else:
        tensor = torch.frombuffer(content, dtype=dtype).reshape(shape)
    tensor = tensor.to(decoder.device)
    if requires_grad is True:
        tensor.requires_grad_()
    elif requires_grad is not False:
        raise WireError("a malformed tensor")
    return decoder.seen(tensor)


def _read_array(decoder: Decoder, fields: list[Any], _: int) -> np.ndarray[Any, Any]:
    name, shape, index = fields
    if name not in NUMPY_DTYPES:
        raise WireError("an unknown dtype")
    dtype = np.dtype(name)
    content = decoder.take(index)
    if _numel(shape) * dtype.itemsize != len(content):
        raise WireError("an array whose bytes do not fill its shape")
    array: np.ndarray[Any, Any] = np.frombuffer(content, dtype=dtype)
    if name == "bool":
        array = np.frombuffer(content, dtype=np.uint8) != 0
    return array.reshape(shape)


def _read_scalar(decoder: Decoder, fields: list[Any], depth: int) -> np.generic:
    name, index = fields
    array: Any = _read_array(decoder, [name, [], index], depth)
    scalar: np.generic = array[()]
    return scalar


def _keys(keys: list[Any]) -> list[Any]:
    """Check the keys of a container: numbers, unlike texts, can be chosen to have one hash."""
    if len(keys) > _MAX_ALIKE and max(Counter(map(hash, keys)).values()) > _MAX_ALIKE:
        raise WireError("too many keys with one hash")
    return keys


def _numel(shape: Json) -> int:
    return math.prod(_shape(shape))


def _shape(shape: Json) -> list[int]:
    """Check the shape; an empty tensor may have no absurd dimension either."""
    if type(shape) is not list or len(shape) > MAX_DIMS:
        raise WireError("a malformed shape")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise WireError("a malformed shape")
    if math.prod(max(size, 1) for size in shape) > _MAX_NUMEL:
        raise WireError("a shape that is too large")
    return shape


_READERS: dict[str, Reader] = {
    "int": _read_int,
    "float": _read_float,
    "complex": _read_complex,
    "bytes": _read_bytes,
    "list": lambda decoder, fields, depth: decoder.read_all(fields, depth),
    "tuple": lambda decoder, fields, depth: tuple(decoder.read_all(fields, depth)),
    "set": lambda decoder, fields, depth: set(_keys(decoder.read_all(fields, depth))),
    "frozenset": lambda decoder, fields, depth: frozenset(_keys(decoder.read_all(fields, depth))),
    "dict": _read_dict,
    "slice": _read_slice,
    "range": _read_range,
    "ellipsis": _read_ellipsis,
    "size": _read_size,
    "dtype": _read_dtype,
    "device": _read_device,
    "tensor": _read_tensor,
    "array": _read_array,
    "scalar": _read_scalar,
}
