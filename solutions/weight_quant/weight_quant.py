"""Weights of linear layers in 8 and 4 bits, and the products with them.

int8: symmetric, one scale per output row; activations may be quantized too, one scale per token, as
they come (W8A8, LLM.int8(), arXiv 2208.07339). int4: asymmetric, one scale and zero point per group
of input columns, two values to the byte. Before either, channels with large activations can be
scaled up, so that they lose less to rounding (AWQ, arXiv 2306.00978).

Shapes: N tokens, I input channels, O output channels, g columns of a group, n groups of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INT8_MAX = 127  # the range is symmetric: -128 stays unused
INT4_MAX = 15
SPLIT_K = 1024  # so many products of two int8 sum up to at most 2 ** 24: float32 is exact
SMALLEST = torch.finfo(torch.float32).tiny  # of a scale: what is all zero has one, too


# Eight bits.


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A matrix of O rows, each with its own step."""

    q: Tensor  # [O, I] int8
    scale: Tensor  # [O] float32

    def dequantize(self) -> Tensor:
        """Return the matrix that this stands for: [O, I] float32."""
        return self.q.float() * self.scale[:, None]


def quantize_symmetric(x: Tensor) -> tuple[Tensor, Tensor]:
    """Round x [..., I] to int8 with one scale per vector: q [..., I] int8, scale [...] float32.

    The largest magnitude of a vector takes the largest magnitude of the range. Values are rounded
    to the nearest step, half a step to the even one.
    """
    x = x.float()
    amax = x.abs().amax(dim=-1)
    scale = (amax / INT8_MAX).clamp(min=SMALLEST)
    q = torch.round(x / scale[..., None]).clamp(-INT8_MAX, INT8_MAX)
    return q.to(torch.int8), scale


def quantize_int8(w: Tensor) -> Int8Weight:
    """Quantize a weight [O, I] row by row."""
    _check_weight(w)
    return Int8Weight(*quantize_symmetric(w))


def int8_matmul(a: Tensor, b: Tensor) -> Tensor:
    """Multiply a [N, I] int8 by the transpose of b [O, I] int8, exactly: [N, O] int32.

    Not every device multiplies matrices of integers, but all do it with floats.
    """
    total = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
    for start in range(0, a.shape[1], SPLIT_K):
        columns = slice(start, start + SPLIT_K)
        partial = a[:, columns].float() @ b[:, columns].float().T
        total += partial.to(torch.int32)
    return total


def int8_linear(x: Tensor, w: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """Apply a weight of 8 bits to x [..., I] as it is: [..., O] in x's dtype."""
    _check_channels(x, w.q.shape[1])
    y = (x.float() @ w.q.float().T) * w.scale
    return _finish(y, bias, x.dtype)


def int8_dynamic_linear(x: Tensor, w: Int8Weight, bias: Tensor | None = None) -> Tensor:
    """Quantize x [..., I] token by token, then multiply integers: [..., O] in x's dtype."""
    _check_channels(x, w.q.shape[1])
    q, token_scale = quantize_symmetric(x)
    total = int8_matmul(q.reshape(-1, x.shape[-1]), w.q).view(*x.shape[:-1], len(w.q))
    y = total.float() * token_scale[..., None] * w.scale
    return _finish(y, bias, x.dtype)


# Four bits.


@dataclass(frozen=True, slots=True)
class Int4Weight:
    """A matrix of O rows, each in groups of `group_size` consecutive columns.

    The value q of a group stands for (q - zero) * scale. Where the columns do not fill the last
    group, it is padded.
    """

    packed: Tensor  # [O, n * g / 2] uint8
    scale: Tensor  # [O, n] float32
    zero: Tensor  # [O, n] uint8, from 0 to 15
    group_size: int
    in_features: int

    def rows(self, start: int, stop: int) -> Int4Weight:
        """Return the rows [start, stop) as a weight of their own."""
        part = slice(start, stop)
        packed, scale, zero = self.packed[part], self.scale[part], self.zero[part]
        return Int4Weight(packed, scale, zero, self.group_size, self.in_features)

    def dequantize(self) -> Tensor:
        """Return the matrix that this stands for: [O, I] float32."""
        q = unpack_nibbles(self.packed).view(len(self.packed), -1, self.group_size)
        groups = (q.float() - self.zero.float()[..., None]) * self.scale[..., None]
        return groups.flatten(1)[:, : self.in_features]


def pack_nibbles(q: Tensor) -> Tensor:
    """Pack values from 0 to 15, two to the byte: q [O, I] -> [O, I / 2] uint8.

    Columns 2j and 2j + 1 share byte j; the even one has its low nibble.

    >>> pack_nibbles(torch.tensor([[1, 2, 15, 0]])).tolist()
    [[33, 15]]
    """
    if q.shape[1] % 2:
        raise ValueError(f"{q.shape[1]} columns do not pair up")
    if bool(((q < 0) | (q > INT4_MAX)).any()):
        raise ValueError(f"values must be in [0, {INT4_MAX}], got {q.min()} to {q.max()}")
    q = q.to(torch.uint8)
    return q[:, 0::2] | (q[:, 1::2] << 4)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Undo `pack_nibbles`: packed [O, I / 2] uint8 -> [O, I] uint8."""
    low, high = packed & 0x0F, packed >> 4
    return torch.stack((low, high), dim=-1).flatten(1)


def quantize_int4(w: Tensor, group_size: int = 32) -> Int4Weight:
    """Quantize a weight [O, I] group by group.

    The range of a group reaches from its smallest to its largest weight, and to zero if it does
    not hold it: a weight of zero stays zero, and none is off by more than half a step.
    """
    _check_weight(w)
    if group_size < 2 or group_size % 2:
        raise ValueError(f"group_size must be even and positive, got {group_size}")
    n_rows, in_features = w.shape
    padded = F.pad(w.float(), (0, -in_features % group_size))
    groups = padded.view(n_rows, -1, group_size)
    low = groups.amin(dim=-1).clamp(max=0.0)
    high = groups.amax(dim=-1).clamp(min=0.0)
    scale = ((high - low) / INT4_MAX).clamp(min=SMALLEST)
    zero = torch.round(-low / scale)
    q = torch.round(groups / scale[..., None]) + zero[..., None]
    packed = pack_nibbles(q.clamp(0, INT4_MAX).flatten(1))
    return Int4Weight(packed, scale, zero.to(torch.uint8), group_size, in_features)


def int4_linear(
    x: Tensor, w: Int4Weight, bias: Tensor | None = None, *, chunk_size: int = 64
) -> Tensor:
    """Apply a weight of 4 bits to x [..., I]: [..., O] in x's dtype.

    Never more than `chunk_size` rows of the weight exist as floats.
    """
    _check_channels(x, w.in_features)
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    x_wide = x.float()
    y = torch.cat(
        [
            x_wide @ w.rows(start, start + chunk_size).dequantize().T
            for start in range(0, len(w.packed), chunk_size)
        ],
        dim=-1,
    )
    return _finish(y, bias, x.dtype)


def _check_weight(w: Tensor) -> None:
    if w.dim() != 2 or 0 in w.shape:
        raise ValueError(f"a weight has rows and columns, got the shape {tuple(w.shape)}")
    if not bool(torch.isfinite(w).all()):
        raise ValueError("a weight with infinite values or NaN has no scale")


def _check_channels(x: Tensor, in_features: int) -> None:
    if x.shape[-1] != in_features:
        raise ValueError(f"{x.shape[-1]} channels for a weight of {in_features}")


def _finish(y: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Give a product y in float32 its bias and its dtype."""
    if bias is not None:
        y = y + bias.float()
    return y.to(dtype)


# Scaling of input channels.


class ChannelRange:
    """The largest magnitude that each input channel has shown, over all batches."""

    def __init__(self, n_channels: int, *, device: torch.device | str | None = None) -> None:
        self.amax = torch.zeros(n_channels, device=device)

    def update(self, x: Tensor) -> None:
        """Look at one more batch x [..., I], any number of tokens."""
        _check_channels(x, len(self.amax))
        if x.numel():
            seen = x.float().abs().reshape(-1, x.shape[-1]).amax(dim=0)
            self.amax = torch.maximum(self.amax, seen)


def awq_scale(act_amax: Tensor, alpha: float = 0.5) -> Tensor:
    """Return by how much to scale up the weights of each input channel: [I] float32, positive.

    Channels with large activations get more. alpha = 0 treats all alike, alpha = 1 evens the
    activations out. The smallest and the largest factor lie equally far from 1, as ratios.
    """
    scale = act_amax.float().clamp(min=1e-5) ** alpha
    return scale / (scale.max() * scale.min()).sqrt()


def search_alpha(
    w: Tensor, x: Tensor, act_amax: Tensor, *, group_size: int = 32, n_steps: int = 20
) -> float:
    """Return which alpha serves a weight [O, I] in 4 bits best, on sample inputs x [N, I].

    Of 0, 1 / n_steps, ... and 1 it has the smallest mean square error of the layer's outputs.
    """
    _check_channels(x, w.shape[1])
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    exact = x.float() @ w.float().T

    def error(alpha: float) -> float:
        scale = awq_scale(act_amax, alpha)
        y = int4_linear(x.float() / scale, quantize_int4(w.float() * scale, group_size))
        return float((y - exact).square().mean())

    return min((step / n_steps for step in range(n_steps + 1)), key=error)


# A layer.

MODES: dict[str, Callable[..., Tensor]] = {
    "int8": int8_linear,
    "int8_dynamic": int8_dynamic_linear,
    "int4": int4_linear,
}


class QuantLinear(nn.Module):
    """A linear layer whose weight [O, I] is kept quantized.

    `mode` is one of MODES. With act_amax [I], as a `ChannelRange` has it, the weight is quantized
    with its input channels scaled by `awq_scale`, and the inputs are scaled back.
    """

    in_scale: Tensor | None  # [I] float32
    bias: Tensor | None  # [O]
    scale: Tensor
    q: Tensor  # of an int8 mode
    packed: Tensor  # of int4,
    zero: Tensor  # and this, too

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        mode: str = "int8",
        group_size: int = 32,
        act_amax: Tensor | None = None,
        alpha: float = 0.5,
    ) -> None:
        super().__init__()
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        _check_weight(weight)
        if bias is not None and bias.shape != weight.shape[:1]:
            raise ValueError(f"a bias {tuple(bias.shape)} for a weight {tuple(weight.shape)}")
        self.mode = mode
        self.group_size = group_size
        self.in_features = weight.shape[1]
        w = weight.detach().float()
        in_scale = None
        if act_amax is not None:
            _check_channels(act_amax, self.in_features)
            in_scale = awq_scale(act_amax, alpha)
            w = w * in_scale
        self.register_buffer("in_scale", in_scale)
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        quantized = quantize_int4(w, group_size) if mode == "int4" else quantize_int8(w)
        for name in ("packed", "scale", "zero") if mode == "int4" else ("q", "scale"):
            self.register_buffer(name, getattr(quantized, name))

    @property
    def weight(self) -> Int8Weight | Int4Weight:
        """Return the quantized weight, of which the layer holds the tensors as buffers."""
        if self.mode == "int4":
            return Int4Weight(self.packed, self.scale, self.zero, self.group_size, self.in_features)
        return Int8Weight(self.q, self.scale)

    @property
    def memory_bytes(self) -> int:
        """Return the memory of all that the layer keeps."""
        return sum(buffer.nbytes for buffer in self.buffers())

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., I] to [..., O] in x's dtype."""
        _check_channels(x, self.in_features)
        y = x.float() if self.in_scale is None else x.float() / self.in_scale
        return MODES[self.mode](y, self.weight, self.bias).to(x.dtype)
