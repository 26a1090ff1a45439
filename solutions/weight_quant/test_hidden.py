"""What quantized weights promise: `subject` is the file under test, `seed` differs between runs.

The oracle is arithmetic in double precision on operands that are exact in few bits, and the bounds
that rounding to the nearest step keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

MODES = ("int8", "int8_dynamic", "int4")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed))


def _integers(seed: int, low: int, high: int, *shape: int) -> Tensor:
    """Draw integers from low to high, both included."""
    return torch.randint(low, high + 1, shape, generator=_generator(seed))


def _close(actual: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    """Compare float32 with a float64 reference, relative to the reference's scale."""
    assert actual.dtype == torch.float32
    assert actual.shape == reference.shape
    floor = tolerance * max(float(reference.abs().max()), 1e-30)
    torch.testing.assert_close(actual.double(), reference.double(), rtol=0, atol=floor)


def _equal(actual: Tensor, expected: object, dtype: torch.dtype) -> None:
    assert actual.dtype == dtype
    assert actual.tolist() == expected


def _exact_int8(seed: int, n: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw vectors that 8 bits hold exactly: q [n, length], steps [n] and q * step in float32."""
    q = _integers(seed, -126, 126, n, length)
    peaks = _integers(seed + 1, 0, length - 1, n)
    q[torch.arange(n), peaks] = 127 - 254 * _integers(seed + 2, 0, 1, n)
    step = 2.0 ** _integers(seed + 3, -6, 1, n)
    return q, step, q * step[:, None]


def _exact_int4(seed: int, n_rows: int, n_columns: int, size: int) -> Tensor:
    """Draw a weight that 4 bits hold exactly, in groups of `size` columns: float32."""
    w = torch.zeros(n_rows, n_columns)
    for start in range(0, n_columns, size):
        part = w[:, start : start + size]
        span = part.shape[1]
        zero = _integers(seed + start, 2, 13, n_rows, 1)
        q = _integers(seed + start + 1, 0, 15, n_rows, span)
        q[:, :1], q[:, span - 1 :] = 0, 15
        part += (q - zero) * 2.0 ** _integers(seed + start + 2, -3, 3, n_rows, 1)
    return w


def _refused(call: Callable[..., object], *args: object, **kwargs: object) -> bool:
    try:
        call(*args, **kwargs)
    except ValueError:
        return True
    return False


# ----- eight bits


@pytest.mark.symptom("Quantized to 8 bits, a model loses more than the format explains.")
def test_each_row_has_the_finest_step_that_holds_it(subject: Any, seed: int) -> None:
    """A row's largest magnitude is 127 steps, and no weight is off by more than half a step."""
    for n_rows, n_columns in [(5, 5), (3, 8), (7, 1)]:
        # Rows of very different size, and columns, too.
        sizes = 10.0 ** _integers(seed, -3, 3, n_rows, 1)
        w = sizes * _randn(seed + 1, n_rows, n_columns) * torch.linspace(0.1, 1.0, n_columns)
        quantized = subject.quantize_int8(w)
        assert subject.mutated == ()
        q, scale = quantized.q, quantized.scale
        assert (q.dtype, q.shape) == (torch.int8, w.shape)
        amax = w.double().abs().amax(dim=1)
        torch.testing.assert_close(scale.double(), amax / 127, rtol=1e-5, atol=0)
        assert q.int().abs().amax(dim=1).tolist() == [127] * n_rows
        again = quantized.dequantize()
        assert (scale.dtype, again.dtype) == (torch.float32, torch.float32)
        assert again.shape == w.shape
        torch.testing.assert_close(again.double(), q.double() * scale.double()[:, None])
        error = (again.double() - w.double()).abs() / (amax / 127)[:, None]
        assert float(error.max()) < 0.501


@pytest.mark.symptom("Outputs are biased: on average they are a little too small or too large.")
def test_values_are_rounded_to_the_nearest_step(subject: Any) -> None:
    """Half a step goes to the even neighbour, in either direction, and the range is symmetric."""
    steps = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.75, -0.75, 3.4, -3.6, 126.5, 0.0]
    want = [127, 0, 2, 2, 0, -2, -2, 1, -1, 3, -4, 126, 0]
    for step in (1.0, 0.25, 64.0):
        x = torch.tensor([steps, [-value for value in steps]]) * step
        q, scale = subject.quantize_symmetric(x)
        _equal(q, [want, [-value for value in want]], torch.int8)
        _equal(scale, [step, step], torch.float32)
        _equal(subject.quantize_int8(x).q, [want, [-value for value in want]], torch.int8)


@pytest.mark.symptom("One unusual token in the batch makes all the others worse.")
def test_each_token_has_a_step_of_its_own(subject: Any, seed: int) -> None:
    """Vectors of any leading shape are quantized one by one, whatever stands beside them."""
    q, step, x = _exact_int8(seed, 12, 9)
    for shape in [(12,), (3, 4), (2, 3, 2)]:
        for dtype in (torch.float32, torch.bfloat16):
            got, scale = subject.quantize_symmetric(x.to(dtype).view(*shape, 9))
            assert subject.mutated == ()
            _equal(got, q.view(*shape, 9).tolist(), torch.int8)
            _equal(scale, step.view(shape).tolist(), torch.float32)
    got, scale = subject.quantize_symmetric(x[3])
    _equal(got, q[3].tolist(), torch.int8)
    _equal(scale, step[3].item(), torch.float32)


@pytest.mark.symptom("A layer with a pruned row, or a padded batch, answers NaN.")
def test_nothing_stays_nothing(subject: Any) -> None:
    """Rows, groups and tokens that are all zero, or too small for float32, give zeros."""
    w = torch.zeros(3, 8)
    w[1] = torch.linspace(-1.0, 1.0, 8)
    w[2] = 1e-44
    x = torch.stack([w[1], torch.zeros(8), torch.full((8,), 1e-44)])
    for quantized in (subject.quantize_int8(w), subject.quantize_int4(w, 4)):
        assert bool(((quantized.scale > 0) & quantized.scale.isfinite()).all())
        again = quantized.dequantize()
        assert again[0].tolist() == [0.0] * 8
        assert float(again[2].abs().max()) < 1e-37
        torch.testing.assert_close(again[1], w[1], rtol=0, atol=0.04)
    exact = x.double() @ w.double().T
    for mode in MODES:
        y = subject.QuantLinear(w, mode=mode, group_size=4)(x)
        torch.testing.assert_close(y.double(), exact, rtol=0, atol=0.15)
        assert not y[:, 0].any()
        assert not y[1].any()
    zero = torch.zeros(2, 3, 8)
    q, scale = subject.quantize_symmetric(zero)
    _equal(q, zero.tolist(), torch.int8)
    assert bool(((scale > 0) & scale.isfinite()).all())


@pytest.mark.symptom("With dynamic quantization, only layers with many inputs are wrong.")
def test_integer_products_are_exact(subject: Any, seed: int) -> None:
    """Sums of any length are those of integers, also of the largest values that 8 bits hold."""
    for length in (1, 7, 1023, 1024, 1025, 2048, 5000):
        a = _integers(seed, -128, 127, 3, length)
        b = _integers(seed + 1, -128, 127, 4, length)
        a[0], b[0], b[1] = -128, -128, 127
        got = subject.int8_matmul(a.to(torch.int8), b.to(torch.int8))
        _equal(got, (a @ b.T).tolist(), torch.int32)
    # The first odd number that float32 does not hold.
    large = torch.tensor([[-128] * 1024 + [1]], dtype=torch.int8)
    _equal(subject.int8_matmul(large, large), [[2**24 + 1]], torch.int32)
    odd = torch.full((1, 4097), 127, dtype=torch.int8)
    _equal(subject.int8_matmul(odd, odd), [[127 * 127 * 4097]], torch.int32)


@pytest.mark.symptom("The 8-bit layer differs from its own dequantized weight.")
def test_a_weight_of_8_bits_is_applied_as_it_is(subject: Any, seed: int) -> None:
    """With inputs in floats, the product is that with the dequantized matrix, plus the bias."""
    _, _, w = _exact_int8(seed, 6, 9)
    quantized = subject.quantize_int8(w)
    bias = _randn(seed + 5, 6)
    for shape in [(2, 3, 9), (4, 9), (9,), (0, 9)]:
        x = _randn(seed + 4, *shape)
        exact = x.double() @ w.double().T
        if x.numel():
            _close(subject.int8_linear(x, quantized), exact)
            assert subject.mutated == ()
            _close(subject.int8_linear(x, quantized, bias), exact + bias.double())
        else:
            assert subject.int8_linear(x, quantized, bias).shape == (0, 6)
            assert subject.int8_dynamic_linear(x, quantized, bias).shape == (0, 6)


@pytest.mark.symptom("Dynamic quantization turns fluent text into noise.")
def test_dynamic_quantization_multiplies_integers(subject: Any, seed: int) -> None:
    """The result is the integer product, times the step of its token and that of its row."""
    for length in (9, 1500):
        qw, w_step, w = _exact_int8(seed, 6, length)
        qx, x_step, x = _exact_int8(seed + 7, 8, length)
        quantized = subject.quantize_int8(w)
        exact = (qx @ qw.T).double() * x_step.double()[:, None] * w_step.double()
        bias = exact.abs().mean().float() * _randn(seed + 20, 6)
        for shape in [(8,), (2, 4), (2, 2, 2)]:
            given = x.view(*shape, length)
            y = subject.int8_dynamic_linear(given, quantized)
            assert subject.mutated == ()
            torch.testing.assert_close(
                y, exact.float().view(*shape, 6), rtol=1e-6, atol=float(exact.abs().max()) * 1e-7
            )
            y = subject.int8_dynamic_linear(given, quantized, bias)
            _close(y, (exact + bias.double()).view(*shape, 6))
        _close(subject.int8_dynamic_linear(x[2], quantized), exact[2])
    # Half a step is lost: the activations are rounded, too.
    w = torch.full((1, 128), 127.0)
    x = torch.full((1, 128), 0.4)
    x[0, 0] = 127.0
    y = subject.int8_dynamic_linear(x, subject.quantize_int8(w))
    assert y.tolist() == [[127.0 * 127.0]]


# ----- four bits


@pytest.mark.symptom("4-bit checkpoints of other tools come out as noise.")
def test_neighbouring_columns_share_a_byte(subject: Any) -> None:
    """Of each two columns, the even one has the low half of the byte; nothing is lost."""
    q = torch.tensor([[1, 2, 15, 0, 9, 8], [0, 0, 7, 15, 15, 15]])
    want = [[0x21, 0x0F, 0x89], [0x00, 0xF7, 0xFF]]
    for dtype in (torch.int64, torch.uint8, torch.float32):
        _equal(subject.pack_nibbles(q.to(dtype)), want, torch.uint8)
        assert subject.mutated == ()
    packed = torch.tensor(want, dtype=torch.uint8)
    _equal(subject.unpack_nibbles(packed), q.tolist(), torch.uint8)
    every = torch.arange(256, dtype=torch.uint8).view(4, 64)
    pairs = [[half for byte in row for half in (byte % 16, byte // 16)] for row in every.tolist()]
    unpacked = subject.unpack_nibbles(every)
    assert subject.mutated == ()
    _equal(unpacked, pairs, torch.uint8)
    _equal(subject.pack_nibbles(unpacked), every.tolist(), torch.uint8)


@pytest.mark.symptom("Quantized to 4 bits, a model loses more than the format explains.")
def test_each_group_has_the_finest_step_that_holds_it(subject: Any, seed: int) -> None:
    """The step is a fifteenth of the group's range; no weight is off by more than half of it."""
    for n_rows, n_columns, size in [(3, 16, 4), (4, 4, 2), (5, 24, 8), (2, 64, 32)]:
        sizes = 10.0 ** _integers(seed, -2, 2, n_rows, n_columns // size, 1)
        groups = sizes * (_randn(seed + 1, n_rows, n_columns // size, size) + 0.3)
        w = groups.view(n_rows, n_columns)
        quantized = subject.quantize_int4(w, size)
        assert subject.mutated == ()
        low, high = groups.double().aminmax(dim=-1)
        step = (high.clamp(min=0) - low.clamp(max=0)) / 15
        assert quantized.scale.dtype == torch.float32
        torch.testing.assert_close(quantized.scale.double(), step, rtol=1e-5, atol=0)
        assert (quantized.group_size, quantized.in_features) == (size, n_columns)
        assert (quantized.packed.dtype, quantized.zero.dtype) == (torch.uint8, torch.uint8)
        assert list(quantized.packed.shape) == [n_rows, n_columns // 2]
        assert quantized.zero.shape == step.shape
        assert int(quantized.zero.max()) <= 15
        again = quantized.dequantize()
        assert (again.dtype, again.shape) == (torch.float32, w.shape)
        error = (again.double() - w.double()).view(n_rows, -1, size).abs() / step[..., None]
        assert float(error.max()) < 0.501
    default = subject.quantize_int4(_randn(seed, 2, 64))
    assert (default.group_size, list(default.scale.shape)) == (32, [2, 2])


@pytest.mark.symptom("Pruned models become dense again, and worse, when quantized to 4 bits.")
def test_a_weight_of_zero_stays_zero(subject: Any, seed: int) -> None:
    """Zero is exact in every group, also beside weights that are all positive or all negative."""
    w = 1 + _randn(seed, 4, 12).abs()
    w[1] *= -1
    w[2, 4:] *= -1
    w[3] = 100 + w[3]
    w[:, ::3] = 0.0
    for size in (2, 4, 6):
        again = subject.quantize_int4(w, size).dequantize()
        assert not again[:, ::3].any()
        # Without its zeros, too, a group reaches to zero: its step follows from its largest weight.
        dense = w[:, torch.arange(12) % 3 != 0][:, :6]
        quantized = subject.quantize_int4(dense, 2)
        assert set(quantized.zero[0].tolist()) == {0}
        assert set(quantized.zero[1].tolist()) == {15}
        amax = dense.double().abs().view(4, 3, 2).amax(dim=-1)
        torch.testing.assert_close(quantized.scale.double()[:2], amax[:2] / 15, rtol=1e-5, atol=0)
    # A range whose middle is zero: both ends are half a step from the nearest value.
    ends = subject.quantize_int4(torch.tensor([[-7.5, 7.5]]), 2).dequantize()
    torch.testing.assert_close(ends, torch.tensor([[-7.5, 7.5]]), rtol=0, atol=0.5)
    assert float(ends[0, 1] - ends[0, 0]) == 15.0


@pytest.mark.symptom("Some layers cannot be quantized to 4 bits, or lose their last columns.")
def test_columns_need_not_fill_the_last_group(subject: Any, seed: int) -> None:
    """For any number of columns, each gets back its weight, and padding changes no step."""
    for n_columns, size in [(10, 4), (9, 4), (7, 2), (1, 2), (3, 32), (33, 32), (64, 32)]:
        w = _exact_int4(seed, 3, n_columns, size)
        w[1] = 3 + w[1].abs()  # no zero would have been there
        quantized = subject.quantize_int4(w, size)
        n_groups = math.ceil(n_columns / size)
        assert list(quantized.scale.shape) == list(quantized.zero.shape) == [3, n_groups]
        assert list(quantized.packed.shape) == [3, n_groups * size // 2]
        again = quantized.dequantize()
        if n_columns > 1 and n_columns % size != 1:
            torch.testing.assert_close(again[::2], w[::2], rtol=1e-5, atol=1e-6)
        for start in range(0, n_columns, size):
            part = slice(start, start + size)
            span = w[:, part].amax(1).clamp(min=0) - w[:, part].amin(1).clamp(max=0)
            torch.testing.assert_close(
                quantized.scale[:, start // size], span / 15, rtol=1e-5, atol=1e-30
            )
            error = (again[:, part] - w[:, part]).abs().amax(1)
            assert bool((error <= 0.501 * span / 15).all())


@pytest.mark.symptom("Outputs change with a setting that was said to concern memory only.")
def test_the_product_does_not_depend_on_the_chunk_size(subject: Any, seed: int) -> None:
    """Whatever the chunk size, the product is that with the whole dequantized matrix."""
    w = _exact_int4(seed, 7, 10, 4)
    quantized = subject.quantize_int4(w, 4)
    bias = _randn(seed + 5, 7)
    for shape in [(2, 3, 10), (10,)]:
        x = _randn(seed + 6, *shape)
        exact = x.double() @ w.double().T
        for size in (1, 2, 3, 6, 7, 8, 64):
            y = subject.int4_linear(x, quantized, chunk_size=size)
            assert subject.mutated == ()
            _close(y, exact)
            y = subject.int4_linear(x, quantized, bias, chunk_size=size)
            _close(y, exact + bias.double())
        _close(subject.int4_linear(x, quantized), exact)
    assert subject.int4_linear(torch.zeros(0, 10), quantized).shape == (0, 7)


@pytest.mark.symptom("A weight that is split over devices loses its values.")
def test_some_rows_are_a_weight_of_their_own(subject: Any, seed: int) -> None:
    """Rows [start, stop) of a 4-bit weight stand for the same rows of the matrix."""
    w = _exact_int4(seed, 7, 10, 4)
    quantized = subject.quantize_int4(w, 4)
    for start, stop in [(0, 3), (3, 7), (2, 3), (5, 9)]:
        rows = quantized.rows(start, stop)
        torch.testing.assert_close(rows.dequantize(), w[start:stop])
        assert (rows.group_size, rows.in_features) == (4, 10)
        assert rows.scale.shape == rows.zero.shape == w[start:stop, :3].shape


# ----- channels


@pytest.mark.symptom("Calibrating with more text makes the quantized model worse.")
def test_the_range_of_a_channel_is_that_of_all_batches(subject: Any, seed: int) -> None:
    """The largest magnitude of each channel is kept, whichever batch and sign it came from."""
    channels = subject.ChannelRange(5)
    assert channels.amax.tolist() == [0.0] * 5
    seen = torch.zeros(0, 5)
    for i, shape in enumerate([(4, 5), (2, 3, 5), (5,), (0, 5), (1, 2, 2, 5)]):
        x = 10.0 ** (-i) * _randn(seed + i, *shape)
        x[..., 1] = -x[..., 1].abs()
        channels.update(x.bfloat16() if i == 1 else x)
        assert subject.mutated == ()
        seen = torch.cat([seen, (x.bfloat16() if i == 1 else x).float().reshape(-1, 5)])
        assert channels.amax.dtype == torch.float32
        assert channels.amax.tolist() == seen.abs().amax(dim=0).tolist()


@pytest.mark.symptom("Activation-aware quantization helps the wrong channels.")
def test_channels_with_large_activations_are_scaled_up(subject: Any, seed: int) -> None:
    """Factors grow as activation ** alpha and are balanced around 1."""
    amax = 10.0 ** _randn(seed, 6)
    for alpha in (0.0, 0.25, 0.5, 1.0):
        scale = subject.awq_scale(amax, alpha)
        assert subject.mutated == ()
        power = amax.double() ** alpha
        want = power / math.sqrt(float(power.max() * power.min()))
        assert scale.dtype == torch.float32
        torch.testing.assert_close(scale.double(), want, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        subject.awq_scale(torch.tensor([4.0, 1.0, 0.25])), torch.tensor([2.0, 1.0, 0.5])
    )
    silent = subject.awq_scale(torch.tensor([0.0, 1.0, 9.0]))
    assert bool((silent.isfinite() & (silent > 0)).all())
    assert silent.tolist() == sorted(silent.tolist())


@pytest.mark.symptom("The search for the best scaling is slow and does not help.")
def test_the_search_finds_the_best_alpha_of_its_grid(subject: Any, seed: int) -> None:
    """No other alpha of the grid gives outputs with a smaller mean square error."""
    loud = 10.0 ** (0.7 * _randn(seed, 40))
    w, x = _randn(seed + 1, 8, 40), _randn(seed + 2, 20, 40) * loud
    exact = x.double() @ w.double().T
    default: dict[str, int] = {}
    for amax, how in [
        (x.abs().amax(dim=0), {"group_size": 4, "n_steps": 8}),
        (1 / loud, {"group_size": 4, "n_steps": 5}),
        (loud, {"group_size": 20, "n_steps": 1}),
        (loud**0.2, {"group_size": 8, "n_steps": 4}),  # would rather have a larger alpha than 1
        (loud, default),
        (loud.sqrt(), default),
    ]:
        found = subject.search_alpha(w, x, amax, **how)
        assert subject.mutated == ()
        n_steps = how.get("n_steps", 20)
        power = amax.double() ** (torch.arange(n_steps + 1).double() / n_steps)[:, None]
        scale = power / (power.amax(1, keepdim=True) * power.amin(1, keepdim=True)).sqrt()
        # The rows of all candidates, one below the other.
        scaled = (w * scale[:, None]).float().flatten(0, 1)
        again = subject.quantize_int4(scaled, how.get("group_size", 32)).dequantize().double()
        y = (x.double() / scale[:, None]) @ again.view(n_steps + 1, *w.shape).mT
        errors = (y - exact).square().mean(dim=(1, 2)).tolist()
        step = round(found * n_steps)
        assert math.isclose(found, step / n_steps)
        assert 0 <= step <= n_steps
        assert errors[step] <= min(errors) * 1.001


@pytest.mark.symptom("Layers with outlier channels are worse than before they were calibrated.")
def test_scaling_protects_loud_channels(subject: Any, seed: int) -> None:
    """Channel factors cancel in the product, and the error of loud channels shrinks."""
    loud = torch.ones(32)
    loud[::8] = 60.0
    w, x = _randn(seed, 24, 32), _randn(seed + 1, 40, 32) * loud
    amax = x.abs().amax(dim=0)
    exact = x.double() @ w.double().T
    errors = []
    for act_amax in (None, amax):
        layer = subject.QuantLinear(w, mode="int4", group_size=16, act_amax=act_amax)
        errors.append(float((layer(x).double() - exact).square().mean()))
    assert errors[1] < 0.6 * errors[0]
    # Factors that are powers of two, on a weight that 8 bits hold exactly with and without them.
    q, _, _ = _exact_int8(seed + 3, 4, 6)
    factors = torch.tensor([4.0, 1.0, 0.25, 1.0, 4.0, 0.25])
    amax = factors**2
    w = q / factors
    x = _randn(seed + 9, 5, 6)
    layer = subject.QuantLinear(w, mode="int8", act_amax=amax)
    _close(layer(x), x.double() @ w.double().T)
    _equal(layer.weight.q, q.tolist(), torch.int8)
    layer = subject.QuantLinear(q.float(), mode="int8", act_amax=amax, alpha=0.0)
    _close(layer(x), x.double() @ q.double().T)
    _equal(layer.weight.q, q.tolist(), torch.int8)


# ----- a layer


@pytest.mark.symptom("Replacing the linear layers of a model by quantized ones breaks it.")
def test_a_layer_is_near_the_one_it_stands_for(subject: Any, seed: int) -> None:
    """Outputs are off by about 1 % of their size in 8 bits and 10 % in 4, with a bias or not."""
    w, bias = _randn(seed, 16, 80), 20 * _randn(seed + 1, 16)
    x = _randn(seed + 2, 2, 9, 80)
    product = x.double() @ w.double().T
    for mode, bound in [("int8", 0.015), ("int8_dynamic", 0.02), ("int4", 0.12)]:
        for act_amax in (None, x.abs().amax(dim=(0, 1))):
            for given in (None, bias):
                layer = subject.QuantLinear(w, given, mode=mode, act_amax=act_amax)
                assert subject.mutated == ()
                y = layer(x)
                assert subject.mutated == ()
                assert (y.dtype, y.shape) == (torch.float32, product.shape)
                exact = product if given is None else product + bias.double()
                error = (y.double() - exact).square().mean().sqrt()
                assert float(error / product.square().mean().sqrt()) < bound
                assert float(error) > 0


@pytest.mark.symptom("A layer answers as if its settings had not been given.")
def test_a_layer_has_the_mode_that_was_asked_for(subject: Any, seed: int) -> None:
    """Its outputs are those of its mode's product with its own weight."""
    w, x = _randn(seed, 6, 12), _randn(seed + 1, 4, 12)
    int8, int4 = subject.quantize_int8(w), subject.quantize_int4(w, 4)
    cases: list[tuple[dict[str, Any], Any, Any]] = [
        ({}, subject.int8_linear, int8),
        ({"mode": "int8"}, subject.int8_linear, int8),
        ({"mode": "int8_dynamic"}, subject.int8_dynamic_linear, int8),
        ({"mode": "int4", "group_size": 4}, subject.int4_linear, int4),
    ]
    for how, product, weight in cases:
        layer = subject.QuantLinear(w, **how)
        torch.testing.assert_close(layer(x), product(x, weight))
        torch.testing.assert_close(layer.weight.dequantize(), weight.dequantize())
    assert subject.QuantLinear(w, mode="int4").weight.group_size == 32


@pytest.mark.symptom("Quantized layers of a 16-bit model return float32, or lose small biases.")
def test_16_bit_inputs_give_16_bit_outputs_rounded_once(subject: Any, seed: int) -> None:
    """The result has the dtype of the inputs and is the exact one, bias and all, rounded once."""
    w8, w4 = _exact_int8(seed, 6, 40)[2], _exact_int4(seed, 6, 40, 8)
    bias = 0.3 * _randn(seed + 5, 6)
    for dtype in (torch.bfloat16, torch.float16):
        # What 8 bits hold, so that nothing is lost where inputs are quantized.
        x = _exact_int8(seed + 6, 3, 40)[2].to(dtype) / 16
        for mode, w in zip(MODES, (w8, w8, w4), strict=True):
            layer = subject.QuantLinear(w, bias, mode=mode, group_size=8)
            y = layer(x)
            assert y.dtype == dtype
            exact = x.double() @ w.double().T + bias.double()
            rounding = torch.finfo(dtype).eps
            torch.testing.assert_close(
                y.double(), exact, rtol=0.51 * rounding, atol=1e-3 * rounding
            )
            narrow = subject.QuantLinear(w, bias.to(dtype), mode=mode, group_size=8)(x.float())
            _close(narrow, exact - bias.double() + bias.to(dtype).double())
        for product, quantized, w in [
            (subject.int8_linear, subject.quantize_int8(w8.to(dtype)), w8),
            (subject.int8_dynamic_linear, subject.quantize_int8(w8.to(dtype)), w8),
            (subject.int4_linear, subject.quantize_int4(w4.to(dtype), 8), w4),
        ]:
            assert quantized.dequantize().dtype == torch.float32
            y = product(x, quantized, bias)
            assert y.dtype == dtype
            exact = x.double() @ w.double().T + bias.double()
            torch.testing.assert_close(
                y.double(), exact, rtol=0.51 * rounding, atol=1e-3 * rounding
            )
    # Factors that 16 bits do not hold must not cost a second rounding.
    amax = torch.linspace(0.5, 3.0, 40)
    layer = subject.QuantLinear(w8, mode="int8", act_amax=amax)
    scale = amax.double().sqrt() / math.sqrt(math.sqrt(0.5 * 3.0))
    x = _randn(seed + 8, 3, 40).bfloat16()
    exact = x.double() @ (layer.weight.dequantize().double() / scale).T
    torch.testing.assert_close(layer(x).double(), exact, rtol=0.51 * 2**-7, atol=1e-4)


@pytest.mark.symptom("The memory plan does not fit what the quantized model takes.")
def test_memory_is_counted_in_full(subject: Any, seed: int) -> None:
    """Values, steps, zero points, channel factors and bias count, in the bytes that they take."""
    w, bias, amax = _randn(seed, 6, 40), _randn(seed + 1, 6), torch.ones(40)
    cases: list[tuple[dict[str, Any], int]] = [
        ({"mode": "int8"}, 6 * 40 + 6 * 4),
        ({"mode": "int8_dynamic"}, 6 * 40 + 6 * 4),
        ({"mode": "int4", "group_size": 8}, 6 * 20 + 6 * 5 * (4 + 1)),
        ({"mode": "int4"}, 6 * 32 + 6 * 2 * (4 + 1)),
    ]
    for how, want in cases:
        assert subject.QuantLinear(w, **how).memory_bytes == want
        assert subject.QuantLinear(w, bias.half(), **how).memory_bytes == want + 6 * 2
        layer = subject.QuantLinear(w, bias, act_amax=amax, **how)
        assert layer.memory_bytes == want + 6 * 4 + 40 * 4


@pytest.mark.symptom("A quantized checkpoint cannot be saved and loaded again.")
def test_a_layer_is_restored_from_its_state(subject: Any, seed: int) -> None:
    """The state of a layer, loaded into another one, makes it give the same outputs."""
    x = _randn(seed, 3, 10)
    for mode in MODES:
        first, second = (
            subject.QuantLinear(
                _randn(seed + i, 4, 10),
                _randn(seed + i + 1, 4),
                mode=mode,
                group_size=4,
                act_amax=_randn(seed + i + 2, 10).abs(),
            )
            for i in (1, 5)
        )
        want = first(x)
        assert float((second(x) - want).abs().max()) > 1e-3
        second.load_state_dict(first.state_dict())
        assert torch.equal(second(x), want)
        assert not want.requires_grad


# ----- the rest


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """Another default device changes nothing for weights and inputs that lie where they lie."""
    w, x = _randn(seed, 6, 10), _randn(seed + 1, 3, 10)
    amax = x.abs().amax(dim=0)
    outputs = {}
    try:
        with subject.accelerator():
            for mode in MODES:
                layer = subject.QuantLinear(w, x[0, :6], mode=mode, group_size=4, act_amax=amax)
                outputs[mode] = layer(x)
            alpha = subject.search_alpha(w, x, amax, group_size=4, n_steps=2)
            q, _ = subject.quantize_symmetric(x)
            product = subject.int8_matmul(q, q)
            channels = subject.ChannelRange(10, device="cpu")
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error
    exact = x.double() @ w.double().T + x[0, :6].double()
    for y in outputs.values():
        assert float((y.double() - exact).square().mean().sqrt()) < 0.8
    assert alpha in (0.0, 0.5, 1.0)
    assert product.tolist() == (q.long() @ q.long().T).tolist()
    assert channels.amax.tolist() == [0.0] * 10


@pytest.mark.symptom("Quantizing the same checkpoint twice gives two different models.")
def test_no_random_numbers_are_drawn(subject: Any, seed: int) -> None:
    """Quantizing and multiplying leave the global random state as it was."""
    w, x = _randn(seed, 6, 8), _randn(seed + 1, 3, 8)
    before = subject.rng_state()
    for mode in MODES:
        first, second = (subject.QuantLinear(w, mode=mode, group_size=4)(x) for _ in range(2))
        assert torch.equal(first, second)
    assert subject.search_alpha(w, x, x[0].abs(), group_size=4, n_steps=1) in (0.0, 1.0)
    assert subject.rng_state() == before


@pytest.mark.symptom("A malformed checkpoint is loaded, and the model answers with garbage.")
def test_mistakes_of_the_caller_are_refused(subject: Any) -> None:
    """Sizes that do not fit, values out of range and weights that are NaN raise ValueError."""
    w = torch.ones(4, 6)
    for bad in (torch.ones(6), torch.ones(2, 4, 6), torch.ones(0, 6), torch.ones(4, 0)):
        for quantize in (subject.quantize_int8, subject.quantize_int4, subject.QuantLinear):
            assert _refused(quantize, bad)
    for value in (math.nan, -math.inf):
        bad = w.clone()
        bad[2, 3] = value
        for quantize in (subject.quantize_int8, subject.quantize_int4, subject.QuantLinear):
            assert _refused(quantize, bad)
    for size in (3, 1, 0, -2):
        assert _refused(subject.quantize_int4, w, size)
    assert not _refused(subject.quantize_int4, w, 2)
    for q in ([[1, 2, 3]], [[16, 0]], [[0, -1]], [[0, 300]]):
        assert _refused(subject.pack_nibbles, torch.tensor(q))
    assert not _refused(subject.pack_nibbles, torch.tensor([[0, 15]]))

    int8, int4 = subject.quantize_int8(w), subject.quantize_int4(w, 4)
    for n_channels in (1, 8):
        x = torch.ones(2, n_channels)
        assert _refused(subject.int8_linear, x, int8)
        assert _refused(subject.int8_dynamic_linear, x, int8)
        assert _refused(subject.int4_linear, x, int4)
        assert _refused(subject.ChannelRange(6).update, x)
        assert _refused(subject.search_alpha, w, x, torch.ones(6), group_size=2)
        assert _refused(subject.QuantLinear, w, act_amax=x[0])
        for mode in MODES:
            assert _refused(subject.QuantLinear(w, mode=mode, act_amax=torch.ones(6)), x)
    x = torch.ones(2, 6)
    for size in (0, -1):
        assert _refused(subject.int4_linear, x, int4, chunk_size=size)
        assert _refused(subject.search_alpha, w, x, x[0], group_size=2, n_steps=size)
    for bias in (torch.ones(1), torch.ones(6), torch.ones(4, 1)):
        assert _refused(subject.QuantLinear, w, bias)
    for mode in ("int5", "", "INT8"):
        assert _refused(subject.QuantLinear, w, mode=mode)
    assert not _refused(subject.QuantLinear, w, torch.ones(4), mode="int4", act_amax=x[0])
