"""Quantized weights against torch's own; their promises against rewrites and wrong files."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor
from torch.ao.quantization.observer import PerChannelMinMaxObserver

NAME = "weight_quant"
SOURCE = source_of(NAME)
quant: Any = load(NAME, SOURCE)


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against torch


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_int8_equals_torchs_fake_quantization() -> None:
    w = _randn(0, 24, 40) * torch.logspace(-3, 3, 24)[:, None]
    observer = PerChannelMinMaxObserver(
        ch_axis=0,
        dtype=torch.qint8,
        quant_min=-127,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
    )
    observer(w)
    scale, zero = observer.calculate_qparams()
    expected = torch.fake_quantize_per_channel_affine(w, scale, zero.int(), 0, -127, 127)
    ours = quant.quantize_int8(w)

    torch.testing.assert_close(ours.scale, scale)
    torch.testing.assert_close(ours.dequantize(), expected)


@pytest.mark.parametrize("offset", [0.0, 3.0, -3.0])
def test_int4_equals_torchs_fake_quantization_of_each_group(offset: float) -> None:
    w = (_randn(1, 6, 40) + offset) * torch.logspace(-2, 2, 6)[:, None]
    groups = w.view(30, 8)
    observer = PerChannelMinMaxObserver(
        ch_axis=0, dtype=torch.quint8, quant_min=0, quant_max=15, qscheme=torch.per_channel_affine
    )
    observer(groups)
    scale, zero = observer.calculate_qparams()
    expected = torch.fake_quantize_per_channel_affine(groups, scale, zero, 0, 0, 15)
    ours = quant.quantize_int4(w, 8)

    torch.testing.assert_close(ours.scale.flatten(), scale)
    assert ours.zero.flatten().tolist() == zero.tolist()
    torch.testing.assert_close(ours.dequantize(), expected.view(6, 40))


@pytest.mark.parametrize("length", [8, 1024, 4096])
def test_integer_products_equal_torchs(length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randint(-128, 128, (24, length), generator=generator).to(torch.int8)
    b = torch.randint(-128, 128, (16, length), generator=generator).to(torch.int8)

    assert torch.equal(quant.int8_matmul(a, b), torch._int_mm(a, b.T))


@pytest.mark.parametrize("mode", ["int8", "int8_dynamic", "int4"])
@torch.no_grad()
def test_a_layer_takes_the_place_of_torchs(mode: str) -> None:
    linear = torch.nn.Linear(96, 40)
    linear.weight.copy_(_randn(2, 40, 96))
    linear.bias.copy_(_randn(3, 40))
    x = _randn(4, 2, 7, 96)
    layer = quant.QuantLinear(linear.weight, linear.bias, mode=mode)
    error = layer(x) - linear(x)

    assert float(error.norm() / linear(x).norm()) < (0.1 if mode == "int4" else 0.015)
    assert layer.memory_bytes < sum(p.nbytes for p in linear.parameters()) / 3
    model = torch.nn.Sequential(linear, torch.nn.GELU())
    model[0] = layer
    assert torch.equal(model(x), torch.nn.functional.gelu(layer(x)))
    assert {name for name, _ in model.named_parameters()} == set()


# ----- rewrites: each text takes the place of the definition that it names

REWRITES = {
    "rounding in float64, scales by where": {
        "quantize_symmetric": """
            def quantize_symmetric(x):
                wide = x.double()
                amax = torch.maximum(wide.amax(-1), -wide.amin(-1)).float()
                scale = torch.where(amax > 1e-30, amax / 127, torch.ones_like(amax))
                wide /= scale.double().unsqueeze(-1)
                return wide.round_().to(torch.int8), scale
        """,
        "quantize_int4": """
            def quantize_int4(w, group_size=32):
                _check_weight(w)
                if group_size <= 0 or group_size & 1:
                    raise ValueError(group_size)
                n_groups = cdiv(w.shape[1], group_size)
                q = torch.zeros(len(w), n_groups * group_size, device=w.device)
                scales, zeros = [], []
                for start in range(0, w.shape[1], group_size):
                    part = w[:, start : start + group_size].float()
                    low = torch.minimum(part.amin(1), torch.zeros_like(part[:, 0]))
                    high = torch.maximum(part.amax(1), torch.zeros_like(part[:, 0]))
                    scale = (high - low) / 15
                    scale = torch.where(scale > 1e-30, scale, 1.0)
                    zero = (-low / scale).round()
                    values = (part / scale[:, None] + zero[:, None]).round().clamp(0, 15)
                    q[:, start : start + group_size] = torch.nn.functional.pad(
                        values, (0, group_size - values.shape[1]), value=9.0
                    )
                    scales.append(scale)
                    zeros.append(zero)
                scale, zero = torch.stack(scales, 1), torch.stack(zeros, 1).to(torch.uint8)
                return Int4Weight(pack_nibbles(q), scale, zero, group_size, w.shape[1])

            def cdiv(a, b):
                return -(-a // b)
        """,
    },
    "integers multiplied as integers, bytes by arithmetic": {
        "int8_matmul": """
            def int8_matmul(a, b):
                return (a.double() @ b.double().mT).round().to(torch.int32)
        """,
        "int8_linear": """
            def int8_linear(x, w, bias=None):
                _check_channels(x, w.q.shape[1])
                wide = torch.nn.functional.linear(
                    x.double(), w.dequantize().double(), None if bias is None else bias.double()
                )
                return wide.to(x.dtype)
        """,
        "pack_nibbles": """
            def pack_nibbles(q):
                if q.shape[-1] % 2 != 0:
                    raise ValueError(q.shape)
                if q.numel() and not 0 <= int(q.min()) <= int(q.max()) <= 15:
                    raise ValueError(q)
                pairs = q.to(torch.int32).reshape(len(q), -1, 2)
                return (pairs[..., 0] + 16 * pairs[..., 1]).to(torch.uint8)
        """,
        "unpack_nibbles": """
            def unpack_nibbles(packed):
                out = packed.new_empty(len(packed), 2 * packed.shape[1])
                out[:, ::2] = packed % 16
                out[:, 1::2] = packed // 16
                return out
        """,
    },
    "products group by group": {
        "int4_linear": """
            def int4_linear(x, w, bias=None, *, chunk_size=64):
                _check_channels(x, w.in_features)
                if chunk_size <= 0:
                    raise ValueError(chunk_size)
                q = unpack_nibbles(w.packed).double()
                y = torch.zeros(*x.shape[:-1], len(q), dtype=torch.float64, device=x.device)
                for group, start in enumerate(range(0, w.in_features, w.group_size)):
                    stop = min(start + w.group_size, w.in_features)
                    part = x[..., start:stop].double()
                    product = part @ q[:, start:stop].T
                    product -= part.sum(-1, keepdim=True) * w.zero[:, group].double()
                    y += product * w.scale[:, group].double()
                if bias is not None:
                    y = y + bias
                return y.to(x.dtype)
        """,
        "int8_dynamic_linear": """
            def int8_dynamic_linear(x, w, bias=None):
                _check_channels(x, w.q.shape[1])
                out = []
                for token in x.reshape(-1, x.shape[-1]):
                    q, scale = quantize_symmetric(token)
                    y = int8_matmul(q[None], w.q)[0].double() * scale.double() * w.scale.double()
                    out.append(y if bias is None else y + bias)
                stacked = torch.stack(out) if out else x.new_zeros(0, len(w.q))
                return stacked.view(*x.shape[:-1], len(w.q)).to(x.dtype)
        """,
    },
    "logarithms and tables": {
        "awq_scale": """
            def awq_scale(act_amax, alpha=0.5):
                log = alpha * act_amax.double().clamp(min=1e-6).log()
                return (log - (log.amax() + log.amin()) / 2).exp().float()
        """,
        "search_alpha": """
            def search_alpha(w, x, act_amax, *, group_size=32, n_steps=20):
                _check_channels(x, w.shape[1])
                if n_steps <= 0:
                    raise ValueError(n_steps)
                def error(alpha):
                    scale = awq_scale(act_amax, alpha)
                    again = quantize_int4(w * scale, group_size).dequantize() / scale
                    return float((x.double() @ (again - w).double().T).norm())
                return min((step / n_steps for step in range(n_steps, -1, -1)), key=error)
        """,
        "ChannelRange.update": """
            def update(self, x):
                _check_channels(x, self.amax.shape[0])
                for token in x.reshape(-1, x.shape[-1]):
                    louder = token.abs().float() > self.amax
                    self.amax[louder] = token.abs().float()[louder]
        """,
        "QuantLinear.forward": """
            def forward(self, x):
                _check_channels(x, self.in_features)
                wide = x.double().float()
                if self.in_scale is not None:
                    wide /= self.in_scale
                product = MODES[self.mode](wide, self.weight)
                if self.bias is not None:
                    product += self.bias
                return product.to(x.dtype)
        """,
    },
}


def _rewritten(replacements: dict[str, str]) -> str:
    """Return the file with some definitions, named as `function` or `Class.method`, replaced."""
    lines = SOURCE.splitlines()
    found: dict[str, Any] = {}
    for node in ast.parse(SOURCE).body:
        found[getattr(node, "name", "")] = node
        if isinstance(node, ast.ClassDef):
            found.update({f"{node.name}.{getattr(m, 'name', '')}": m for m in node.body})
    for name in sorted(replacements, key=lambda name: -found[name].lineno):
        node = found[name]
        text = textwrap.indent(textwrap.dedent(replacements[name]), " " * node.col_offset)
        lines[node.lineno - 1 : node.end_lineno] = text.splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("name", REWRITES)
def test_a_correct_file_by_another_way_keeps_every_promise(name: str) -> None:
    rewritten = _rewritten(REWRITES[name])

    assert rewritten != SOURCE
    assert broken_promises(NAME, rewritten, seed=1) == {}


# ----- wrong files

SPOILERS = {
    "zeros": "torch.zeros_like(out)",
    "nan": "torch.full_like(out, torch.nan)",
    "slightly larger": "out * 1.001",
    "float64": "out.double()",
    "its first argument": "next(x for x in args if isinstance(x, torch.Tensor))",
}
SPOILED = [
    ("int8_linear", "float64", "test_16_bit_inputs_give_16_bit_outputs_rounded_once"),
    ("int8_dynamic_linear", "slightly larger", "test_dynamic_quantization_multiplies_integers"),
    ("int8_matmul", "zeros", "test_integer_products_are_exact"),
    ("int4_linear", "nan", "test_the_product_does_not_depend_on_the_chunk_size"),
    ("awq_scale", "slightly larger", "test_channels_with_large_activations_are_scaled_up"),
    ("QuantLinear.forward", "its first argument", "test_a_layer_is_near_the_one_it_stands_for"),
]


@pytest.mark.parametrize(("name", "how", "promise"), SPOILED)
def test_a_wrong_result_breaks_its_promise(name: str, how: str, promise: str) -> None:
    spoiled = f"""{SOURCE}

def _spoil(function):
    def call(*args, **kwargs):
        out = function(*args, **kwargs)
        return {SPOILERS[how]}
    return call

{name} = _spoil({name})
"""

    assert breaks(NAME, spoiled, promise, seed=3)


WRONG = {
    "sums in 16 bits": (
        "dtype=torch.int32, device=a.device",
        "dtype=torch.int16, device=a.device",
        "test_integer_products_are_exact",
    ),
    "halves of a row share a byte": (
        "q[:, 0::2] | (q[:, 1::2] << 4)",
        "q.chunk(2, dim=1)[0] | (q.chunk(2, dim=1)[1] << 4)",
        "test_neighbouring_columns_share_a_byte",
    ),
    "zero outside the range": (
        "groups.amin(dim=-1).clamp(max=0.0)",
        "groups.amin(dim=-1)",
        "test_a_weight_of_zero_stays_zero",
    ),
    "zero points subtracted in a byte": (
        "(q.float() - self.zero.float()[..., None])",
        "(q - self.zero[..., None]).float()",
        "test_each_group_has_the_finest_step_that_holds_it",
    ),
    "the caller's weight is scaled": (
        "            w = w * in_scale\n",
        "            w *= in_scale\n",
        "test_a_layer_is_near_the_one_it_stands_for",
    ),
    "a group of zeros without a step": (
        "scale = ((high - low) / INT4_MAX).clamp(min=SMALLEST)",
        "scale = (high - low) / INT4_MAX",
        "test_nothing_stays_nothing",
    ),
    "integers summed up on the host": (
        "dtype=torch.int32, device=a.device",
        "dtype=torch.int32",
        "test_tensors_are_made_where_the_inputs_are",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_breaks_its_promise(name: str) -> None:
    old, new, promise = WRONG[name]
    assert SOURCE.count(old) == 1

    assert breaks(NAME, SOURCE.replace(old, new), promise, seed=0)
