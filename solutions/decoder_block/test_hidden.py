"""What a decoder block promises: `subject` is the file under test, `seed` differs between runs.

The oracle is a decoder in double precision with unfused weights, one text and one head at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

V, M = 11, 10
SIZES: dict[str, Any] = {
    "vocab_size": V,
    "dim": M,
    "hidden_dim": 7,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 4,
    "rope_base": 100.0,
    "norm_eps": 0.03,
}
LLAMA: dict[str, Any] = {"qk_norm": False, "n_layers": 3, "tie_embeddings": False}
GEMMA: dict[str, Any] = {
    "zero_centered_norms": True,
    "attention_cap": 1.5,
    "logit_cap": 4.0,
    "scale_embeddings": True,
    "n_layers": 1,
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed))


def _close(actual: Tensor, reference: Tensor, tolerance: float = 1e-5) -> None:
    """Compare float32 with a float64 reference, relative to the reference's scale."""
    assert actual.dtype == torch.float32
    _near(actual, reference, tolerance)


def _near(actual: Tensor, reference: Tensor, tolerance: float) -> None:
    assert actual.shape == reference.shape
    floor = tolerance * max(float(reference.abs().max()), 1e-3)
    torch.testing.assert_close(actual.double(), reference.double(), rtol=0, atol=floor)


def _checkpoint(seed: int, sizes: dict[str, Any]) -> dict[str, Tensor]:
    """Draw weights under the names that they have in checkpoints."""
    dim, hidden, head = sizes["dim"], sizes["hidden_dim"], sizes["head_dim"]
    q, kv = sizes["n_heads"] * head, sizes["n_kv_heads"] * head
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens": (sizes["vocab_size"], dim),
        "model.norm": (dim,),
        "lm_head": (sizes["vocab_size"], dim),
    }
    for layer in range(sizes["n_layers"]):
        own = {
            "input_layernorm": (dim,),
            "self_attn.q_proj": (q, dim),
            "self_attn.k_proj": (kv, dim),
            "self_attn.v_proj": (kv, dim),
            "self_attn.o_proj": (dim, q),
            "self_attn.q_norm": (head,),
            "self_attn.k_norm": (head,),
            "post_attention_layernorm": (dim,),
            "mlp.gate_proj": (hidden, dim),
            "mlp.up_proj": (hidden, dim),
            "mlp.down_proj": (dim, hidden),
        }
        shapes.update({f"model.layers.{layer}.{name}": shape for name, shape in own.items()})
    generator = _generator(seed)
    weights = {}
    for name, shape in shapes.items():
        drawn = torch.randn(shape, generator=generator)
        if len(shape) == 1:
            drawn = 0.3 * drawn + (0.0 if sizes.get("zero_centered_norms") else 1.0)
        elif "proj" in name:
            drawn = 1.5 * drawn / shape[1] ** 0.5
        weights[f"{name}.weight"] = drawn
    return weights


def _model(
    subject: Any, seed: int, changes: dict[str, Any] | None = None
) -> tuple[Any, dict[str, Any], dict[str, Tensor]]:
    """Build a decoder with drawn weights; return it with its sizes and its checkpoint."""
    sizes = {**SIZES, **(changes or {})}
    config = subject.DecoderConfig(**sizes)
    weights = _checkpoint(seed, sizes)
    model = subject.Decoder(config)
    model.load_state_dict(subject.from_checkpoint(weights, config))
    return model.requires_grad_(False), sizes, weights


def _tokens(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, V, shape, generator=_generator(seed))


def _rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    x = x.double()
    return gain * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def _turn(x: Tensor, positions: Sequence[int], base: float) -> Tensor:
    """Rotate x [..., S, D] as complex numbers x[i] + 1j * x[i + D/2]."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.tensor(positions, dtype=torch.float64)[:, None] * frequency
    z = torch.complex(x[..., :half].double(), x[..., half:].double())
    z = z * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], dim=-1)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, visible: list[list[bool]], cap: float | None
) -> Tensor:
    """Attend from q [S, D] to k, v [K, D], one head in float64."""
    out = torch.zeros_like(q, dtype=torch.float64)
    for row, keys in enumerate(visible):
        index = [i for i, seen in enumerate(keys) if seen]
        scores = k[index].double() @ q[row].double() / math.sqrt(q.shape[-1])
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        share = (scores - scores.max()).exp()
        out[row] = (share / share.sum()) @ v[index].double()
    return out


class _Oracle:
    """A decoder in float64 for one text."""

    def __init__(self, sizes: dict[str, Any], weights: dict[str, Tensor]) -> None:
        self.sizes = sizes
        self.weights = {name: weight.double() for name, weight in weights.items()}

    def matrix(self, name: str, layer: int) -> Tensor:
        return self.weights[f"model.layers.{layer}.{name}.weight"].T

    def normed(self, x: Tensor, name: str) -> Tensor:
        centre = 1.0 if self.sizes.get("zero_centered_norms") else 0.0
        return _rms_norm(x, self.weights[f"{name}.weight"] + centre, self.sizes["norm_eps"])

    def attention(self, x: Tensor, layer: int) -> Tensor:
        """Return what attention adds to the stream x [S, M]."""
        sizes, own, n = self.sizes, f"model.layers.{layer}", len(x)
        h = self.normed(x, f"{own}.input_layernorm")
        q, k, v = (
            (h @ self.matrix(f"self_attn.{name}_proj", layer)).view(n, -1, sizes["head_dim"])
            for name in "qkv"
        )
        if sizes.get("qk_norm", True):
            q = self.normed(q, f"{own}.self_attn.q_norm")
            k = self.normed(k, f"{own}.self_attn.k_norm")
        q, k = (_turn(part.transpose(0, 1), range(n), sizes["rope_base"]) for part in (q, k))
        shared = [head * sizes["n_kv_heads"] // sizes["n_heads"] for head in range(len(q))]
        scores = q @ k[shared].transpose(1, 2) / math.sqrt(sizes["head_dim"])
        cap = sizes.get("attention_cap")
        if cap is not None:
            scores = cap * torch.tanh(scores / cap)
        share = scores.exp().tril()
        heads = (share / share.sum(-1, keepdim=True)) @ v.transpose(0, 1)[shared]
        return heads.transpose(0, 1).reshape(n, -1) @ self.matrix("self_attn.o_proj", layer)

    def mlp(self, x: Tensor, layer: int) -> Tensor:
        """Return what the feed-forward adds to the stream x [S, M]."""
        h = self.normed(x, f"model.layers.{layer}.post_attention_layernorm")
        gate, up = (h @ self.matrix(f"mlp.{name}_proj", layer) for name in ("gate", "up"))
        return (gate * gate.sigmoid() * up) @ self.matrix("mlp.down_proj", layer)

    def hidden_states(self, tokens: Sequence[int]) -> Tensor:
        x = self.weights["model.embed_tokens.weight"][list(tokens)]
        if self.sizes.get("scale_embeddings"):
            x = x * math.sqrt(self.sizes["dim"])
        for layer in range(self.sizes["n_layers"]):
            x = x + self.attention(x, layer)
            x = x + self.mlp(x, layer)
        return self.normed(x, "model.norm")

    def logits(self, tokens: Sequence[int]) -> Tensor:
        """Return the logits [S, V] after each token."""
        head = "model.embed_tokens" if self.sizes.get("tie_embeddings", True) else "lm_head"
        logits = self.hidden_states(tokens) @ self.weights[f"{head}.weight"].T
        cap = self.sizes.get("logit_cap")
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def logprobs(self, tokens: Sequence[int]) -> Tensor:
        """Return the log-probability [S] of each token, 0 for the first."""
        table = self.logits(tokens).log_softmax(-1)
        return torch.stack([table[0, 0] * 0, *(table[i - 1, t] for i, t in enumerate(tokens) if i)])


def _refused(call: Callable[..., object], *args: object, **kwargs: object) -> bool:
    try:
        call(*args, **kwargs)
    except ValueError:
        return True
    return False


def _norm(subject: Any, weight: Tensor, eps: float, **how: Any) -> Any:
    norm = subject.RMSNorm(len(weight), eps, **how)
    norm.load_state_dict({"weight": weight})
    return norm.requires_grad_(False)


# ----- norms


@pytest.mark.symptom("Perplexity is slightly worse than that of the reference implementation.")
def test_a_norm_divides_by_the_root_of_the_mean_square(subject: Any, seed: int) -> None:
    """Each vector is divided by the root of its own mean square plus eps, then gained."""
    weight = 1 + 0.5 * _randn(seed, 6)
    x = 2 + _randn(seed + 1, 3, 4, 6)
    for eps in (1e-6, 0.5):
        norm = _norm(subject, weight, eps)
        for scale in (1.0, 1e-3, 40.0):
            _close(norm(scale * x), _rms_norm(scale * x, weight.double(), eps))
        _close(norm(x[0, 0]), _rms_norm(x[0, 0], weight.double(), eps))
    assert subject.RMSNorm(6).requires_grad_(False)(torch.zeros(2, 6)).tolist() == [[0.0] * 6] * 2
    _close(
        subject.RMSNorm(6).requires_grad_(False)(x / 900), _rms_norm(x / 900, weight[0] ** 0, 1e-6)
    )


@pytest.mark.symptom("Gemma checkpoints give noise, Llama checkpoints are fine.")
def test_a_zero_centered_norm_stores_the_distance_of_its_gain_from_one(
    subject: Any, seed: int
) -> None:
    """A stored weight of w is a gain of 1 + w; a fresh norm of either kind has gain 1."""
    weight, x = 0.5 * _randn(seed, 6), _randn(seed + 1, 5, 6)
    norm = _norm(subject, weight, 0.1, zero_centered=True)
    _close(norm(x), _rms_norm(x, 1 + weight.double(), 0.1))
    for zero_centered in (False, True):
        fresh = subject.RMSNorm(dim=6, eps=0.1, zero_centered=zero_centered).requires_grad_(False)
        _close(fresh(x), _rms_norm(x, torch.ones(6).double(), 0.1))
    # A gain so near to 1 that bfloat16 cannot tell it from 1.
    small = torch.full((6,), 2.0**-10).bfloat16()
    norm = subject.RMSNorm(6, 0.1, zero_centered=True).bfloat16()
    norm.load_state_dict({"weight": small})
    _close(norm.requires_grad_(False)(x), _rms_norm(x, 1 + small.double(), 0.1))


@pytest.mark.symptom("The deeper the model, the further it is from the reference.")
def test_a_norm_adds_the_residual_first_and_hands_the_sum_on(subject: Any, seed: int) -> None:
    """With a residual, the sum is normed, and returned as it was before it was normed."""
    weight = 1 + 0.5 * _randn(seed, 6)
    x, residual = 2 + _randn(seed + 1, 2, 3, 6), 3 * _randn(seed + 2, 2, 3, 6)
    norm = _norm(subject, weight, 0.1)
    normed, stream = norm(x, residual)
    assert subject.mutated == ()
    exact = x.double() + residual.double()
    _close(stream, exact)
    _close(normed, _rms_norm(exact, weight.double(), 0.1))
    normed, stream = norm(x.bfloat16(), residual)
    assert (normed.dtype, stream.dtype) == (torch.bfloat16, torch.float32)
    exact = x.bfloat16().double() + residual.double()
    _close(stream, exact)
    _near(normed, _rms_norm(exact, weight.double(), 0.1), 2**-8)
    normed, stream = norm(x, residual.bfloat16())
    assert (normed.dtype, stream.dtype) == (torch.float32, torch.bfloat16)
    _near(stream, x.double() + residual.bfloat16().double(), 2**-8)


@pytest.mark.symptom("In 16 bit, single layers overflow or lose digits.")
def test_norms_of_16_bit_values_are_as_accurate_as_16_bits_can_be(subject: Any, seed: int) -> None:
    """Squares that 16 bits cannot hold do no harm, and the result is the rounded exact one."""
    weight = 1 + 0.5 * _randn(seed, 64)
    for dtype, size in [(torch.float16, 9000.0), (torch.float16, 1e-4), (torch.bfloat16, 2.0)]:
        x = (size * (1 + 0.3 * _randn(seed + 1, 5, 64))).to(dtype)
        eps = 1e-6 * size**2
        normed = _norm(subject, weight, eps)(x)
        assert normed.dtype == dtype
        exact = _rms_norm(x, weight.double(), eps)
        rounding = torch.finfo(dtype).eps
        torch.testing.assert_close(normed.double(), exact, rtol=0.55 * rounding, atol=1e-5)


# ----- feed-forward and caps


@pytest.mark.symptom("A converted checkpoint answers with fluent nonsense.")
def test_the_feed_forward_is_swiglu_with_the_gate_first(subject: Any, seed: int) -> None:
    """The gate, which alone is activated, has the first rows of the matrix, up has the rest."""
    gate_up, down = 1.5 * _randn(seed, 14, 5), _randn(seed + 1, 5, 7)
    mlp = subject.GatedMLP(5, 7)
    mlp.load_state_dict({"gate_up.weight": gate_up, "down.weight": down})
    for shape in [(2, 3, 5), (4, 5), (5,)]:
        x = _randn(seed + 2, *shape)
        gate, up = (x.double() @ part.double().T for part in (gate_up[:7], gate_up[7:]))
        exact = (gate / (1 + torch.exp(-gate)) * up) @ down.double().T
        _close(mlp.requires_grad_(False)(x), exact)


@pytest.mark.symptom("Sampling at low temperature differs from the reference on confident tokens.")
def test_a_cap_bounds_smoothly(subject: Any, seed: int) -> None:
    """Small values stay as they are, large ones approach the cap; without a cap nothing changes."""
    x = 9 * _randn(seed, 3, 4)
    for cap in (0.7, 5.0, 30.0):
        _close(subject.softcap(x, cap), cap * torch.tanh(x.double() / cap))
        _close(subject.softcap(x / 900, cap), x.double() / 900, 3e-3)
        extremes = subject.softcap(torch.tensor([-1e9, 0.0, 1e9]), cap)
        _close(extremes, torch.tensor([-cap, 0.0, cap]))
    assert torch.equal(subject.softcap(x, None), x)


# ----- attention


@pytest.mark.symptom("Attention patterns of the converted checkpoint look scrambled.")
def test_positions_turn_pairs_of_dimensions(subject: Any, seed: int) -> None:
    """Pair i of dimensions, D / 2 apart, turns by position * base ** (-2i / D)."""
    positions = [0, 3, 1, 250, 17]
    x = _randn(seed, 2, 3, 5, 8)
    for base in (10000.0, 50.0):
        cos, sin = subject.rotary_tables(torch.tensor(positions), 8, base)
        assert cos.shape == sin.shape == (5, 4)
        frequency = base ** (-torch.arange(4, dtype=torch.float64) / 4)
        angle = torch.tensor(positions, dtype=torch.float64)[:, None] * frequency
        _close(cos, angle.cos(), 5e-5)
        _close(sin, angle.sin(), 5e-5)
        for dtype, tolerance in [(torch.float32, 1e-4), (torch.bfloat16, 2**-8)]:
            turned = subject.apply_rotary(x.to(dtype), cos, sin)
            assert turned.dtype == dtype
            _near(turned, _turn(x.to(dtype), positions, base), tolerance)


@pytest.mark.symptom("A prompt's score changes when text is appended, or with its padding.")
def test_a_query_sees_itself_and_what_came_before(subject: Any) -> None:
    """Query i sees the keys up to i, padding excepted."""
    lengths = [5, 1, 3]
    real = subject.real_columns(torch.tensor(lengths), 5)
    assert real.bool().tolist() == [[i < n for i in range(5)] for n in lengths]
    visible = subject.visible_keys(torch.tensor(lengths), 5)
    assert visible.bool().tolist() == [
        [[j <= i and j < n for j in range(5)] for i in range(5)] for n in lengths
    ]
    assert subject.visible_keys(torch.tensor([2]), 2).bool().tolist() == [[[1, 0], [1, 1]]]
    assert subject.visible_keys(torch.tensor([1]), 1).bool().tolist() == [[[True]]]


@pytest.mark.symptom("Models with grouped-query attention talk nonsense from the first word.")
def test_consecutive_query_heads_share_a_key_value_head(subject: Any, seed: int) -> None:
    """Query head h attends with key/value head h // (H / G), for one, some and all heads."""
    x = _randn(seed, 2, 3, 4, 5)
    for n in (1, 2, 3):
        repeated = subject.repeat_kv(x, n)
        assert repeated.dtype == x.dtype
        assert torch.equal(repeated, torch.stack([x[:, i // n] for i in range(3 * n)], dim=1))
    for n_heads, n_kv_heads, cap in [(6, 2, None), (6, 3, 2.0), (3, 1, 0.5), (4, 4, None)]:
        q = 2 * _randn(seed + 1, 2, n_heads, 3, 6)
        k, v = _randn(seed + 2, 2, 2, n_kv_heads, 7, 6)
        visible = torch.rand(2, 3, 7, generator=_generator(seed + 3)) < 0.6
        visible[..., 2] = True
        out = subject.attend(q, k, v, visible, cap)
        assert subject.mutated == ()
        exact = torch.zeros_like(q, dtype=torch.float64)
        for row in range(2):
            for head in range(n_heads):
                shared = head // (n_heads // n_kv_heads)
                keys, values = k[row, shared], v[row, shared]
                exact[row, head] = _attend(q[row, head], keys, values, visible[row].tolist(), cap)
        _close(out, exact, 2e-5)


@pytest.mark.symptom("In 16 bit, answers differ from the float32 ones, or turn to NaN.")
def test_attention_in_16_bit_costs_one_rounding(subject: Any, seed: int) -> None:
    """16-bit inputs give the rounded exact result, also for scores beyond 16 bits."""
    visible = torch.ones(1, 5, 40, dtype=torch.bool)
    visible[:, 4, 1:] = False
    for dtype, size in [(torch.bfloat16, 1.0), (torch.float16, 1.0), (torch.float16, 64.0)]:
        # Small integers: scores are exact, so that ties stay ties.
        q, k = (
            (size * torch.randint(-4, 5, (1, heads, n, 8), generator=_generator(seed + n))).to(
                dtype
            )
            for heads, n in [(4, 5), (2, 40)]
        )
        q[:, :, 4], k[:, :, 0] = 4 * size, -4 * size  # the only key in sight has a very low score
        v = (3 + _randn(seed + 2, 1, 2, 40, 8)).to(dtype)
        out = subject.attend(q, k, v, visible)
        assert out.dtype == dtype
        for head in range(4):
            keys, values = k[0, head // 2], v[0, head // 2]
            exact = _attend(q[0, head], keys, values, visible[0].tolist(), None)
            rounding = torch.finfo(dtype).eps
            torch.testing.assert_close(
                out[0, head].double(), exact, rtol=0.55 * rounding, atol=1e-4
            )


# ----- blocks


@pytest.mark.symptom("Parity with the reference is lost behind the first block.")
def test_a_block_adds_each_branch_to_the_stream_once(subject: Any, seed: int) -> None:
    """The pair that a block returns holds the stream and the branch that is still to be added."""
    for changes in (LLAMA, {}):
        model, sizes, weights = _model(subject, seed, changes)
        oracle = _Oracle(sizes, weights)
        hidden, residual = _randn(seed + 1, 2, 2, 5, M)
        rotary = subject.rotary_tables(torch.arange(5), sizes["head_dim"], sizes["rope_base"])
        visible = subject.visible_keys(torch.tensor([5, 5]), 5)
        for given in (None, 3 * residual):
            branch, stream = model.blocks[1](hidden, given, rotary, visible)
            assert subject.mutated == ()
            for row in range(2):
                entry = hidden[row].double() + (0.0 if given is None else given[row].double())
                middle = entry + oracle.attention(entry, 1)
                _close(stream[row], middle, 5e-5)
                _close(branch[row], oracle.mlp(middle, 1), 5e-5)


@pytest.mark.symptom("Every checkpoint scores a little worse than its model card says.")
def test_logits_are_those_of_a_textbook_decoder(subject: Any, seed: int) -> None:
    """For every kind of decoder, the last token's logits equal a computation in float64."""
    tokens = _tokens(seed + 1, 2, 6)
    for changes in ({}, LLAMA, GEMMA, {"n_kv_heads": 3, "n_layers": 1, "logit_cap": 2.0}):
        model, sizes, weights = _model(subject, seed, changes)
        oracle = _Oracle(sizes, weights)
        logits = model(tokens)
        hidden = model.hidden_states(tokens, torch.tensor([6, 6]))
        every = model.logits(hidden)
        for row in range(2):
            exact = oracle.logits(tokens[row].tolist())
            _close(logits[row], exact[-1], 1e-4)
            _close(every[row], exact, 1e-4)
            _close(hidden[row], oracle.hidden_states(tokens[row].tolist()), 1e-4)


@pytest.mark.symptom("The same prompt is answered differently alone and in a batch.")
def test_padding_has_no_influence(subject: Any, seed: int) -> None:
    """A right-padded row gives what its text gives alone, be the padding no token at all."""
    lengths = [7, 1, 4, 6]
    for changes in ({}, GEMMA):
        model, sizes, weights = _model(subject, seed, changes)
        oracle = _Oracle(sizes, weights)
        tokens = _tokens(seed + 1, 4, 7)
        padding = torch.arange(7) >= torch.tensor(lengths)[:, None]
        alone = [
            oracle.logits(text[:n].tolist())[-1] for text, n in zip(tokens, lengths, strict=True)
        ]
        for filler in (0, -1, 5, 10**6):
            padded = tokens.masked_fill(padding, filler)
            logits = model(padded, torch.tensor(lengths))
            assert subject.mutated == ()
            _close(logits, torch.stack(alone), 1e-4)
    model, _, _ = _model(subject, seed, {"vocab_size": 1, "n_layers": 1})
    logprobs = model.token_logprobs(torch.tensor([[0, 0, -1], [0, 0, 0]]), torch.tensor([2, 3]))
    assert logprobs.tolist() == [[0.0] * 3] * 2


@pytest.mark.symptom("Scores of a prompt change when text is appended to it.")
def test_no_token_sees_the_future(subject: Any, seed: int) -> None:
    """What comes later in a text has no influence on the hidden states before it."""
    model, _, _ = _model(subject, seed)
    tokens, lengths = _tokens(seed + 1, 1, 8), torch.tensor([8])
    other = tokens.clone()
    other[0, 5:] = (other[0, 5:] + 1) % V
    before, after = (model.hidden_states(text, lengths) for text in (tokens, other))
    _close(after[:, :5], before[:, :5])
    assert float((after[:, 5:] - before[:, 5:]).abs().amax(-1).min()) > 1e-3


@pytest.mark.symptom("Short prompts of a batch continue with words that fit the padding.")
def test_the_last_token_of_each_row_is_picked(subject: Any, seed: int) -> None:
    """Row b is read at column lengths[b] - 1, bit by bit."""
    hidden = _randn(seed, 4, 5, 3)
    lengths = [1, 5, 3, 4]
    for dtype in (torch.float32, torch.bfloat16):
        states = hidden.to(dtype)
        last = subject.last_hidden(states, torch.tensor(lengths))
        assert last.dtype == dtype
        assert torch.equal(last, torch.stack([states[b, n - 1] for b, n in enumerate(lengths)]))
    single = subject.last_hidden(hidden[:, :1], torch.tensor([1, 1, 1, 1]))
    assert torch.equal(single, hidden[:, 0])


# ----- scores


@pytest.mark.symptom("Reported perplexities are far too good, or far too bad.")
def test_each_token_is_predicted_from_those_before_it(subject: Any, seed: int) -> None:
    """Log-probabilities equal the oracle's for any chunk size; the first and padding have 0."""
    lengths = [9, 2, 6, 1]
    tokens = _tokens(seed + 1, 4, 9)
    padding = torch.arange(9) >= torch.tensor(lengths)[:, None]
    for changes, chunk_sizes in [({}, (1, 4, 8)), (GEMMA, (3, 7, 9, 256))]:
        model, sizes, weights = _model(subject, seed, changes)
        oracle = _Oracle(sizes, weights)
        exact = torch.zeros(4, 9, dtype=torch.float64)
        for row, length in enumerate(lengths):
            exact[row, :length] = oracle.logprobs(tokens[row, :length].tolist())
        for size in chunk_sizes:
            padded = tokens.masked_fill(padding, -size)
            logprobs = model.token_logprobs(
                tokens=padded, lengths=torch.tensor(lengths), chunk_size=size
            )
            assert subject.mutated == ()
            _close(logprobs, exact, 1e-4)
            assert not logprobs[padding].any()
            assert not logprobs[:, 0].any()
    alone = model.token_logprobs(tokens[:, :1], torch.tensor([1, 1, 1, 1]))
    assert alone.tolist() == [[0.0]] * 4


@pytest.mark.symptom("Multiple-choice benchmarks prefer the wrong answers.")
def test_a_continuation_is_scored_without_its_prompt(subject: Any, seed: int) -> None:
    """The score is the sum over the tokens behind the prompt, 0 where there are none."""
    lengths, n_prompt = [9, 5, 6, 4, 1], [3, 4, 1, 4, 1]
    tokens = _tokens(seed + 1, 5, 9)
    padding = torch.arange(9) >= torch.tensor(lengths)[:, None]
    model, sizes, weights = _model(subject, seed)
    oracle = _Oracle(sizes, weights)
    scores = model.score(
        tokens.masked_fill(padding, -1), torch.tensor(lengths), torch.tensor(n_prompt)
    )
    assert subject.mutated == ()
    exact = [
        oracle.logprobs(tokens[row, :length].tolist())[given:].sum()
        for row, (length, given) in enumerate(zip(lengths, n_prompt, strict=True))
    ]
    _close(scores, torch.stack(exact), 1e-4)


# ----- checkpoints


@pytest.mark.symptom("A config that leaves out the usual values gives another model.")
def test_what_a_config_leaves_out_is_as_in_qwen3(subject: Any) -> None:
    """Queries and keys are normed and the head is tied; bases and epsilons are the usual ones."""
    needed = ("vocab_size", "dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "head_dim")
    config = subject.DecoderConfig(**{name: SIZES[name] for name in needed})
    assert (config.rope_base, config.norm_eps) == (10000.0, 1e-6)
    assert (config.qk_norm, config.tie_embeddings) == (True, True)
    assert (config.zero_centered_norms, config.scale_embeddings) == (False, False)
    assert (config.attention_cap, config.logit_cap) == (None, None)


@pytest.mark.symptom("Only some of the supported checkpoints give sensible text.")
def test_checkpoints_are_fused_without_loss(subject: Any, seed: int) -> None:
    """Rows of fused matrices are those of the separate ones in order; nothing is left over."""
    for changes in (LLAMA, {"n_layers": 1}):
        sizes = {**SIZES, "dim": 3, "hidden_dim": 2, "n_heads": 2, "n_kv_heads": 1, **changes}
        config = subject.DecoderConfig(**sizes)
        weights = _checkpoint(seed, sizes)
        ours = subject.from_checkpoint(weights, config)
        model = subject.Decoder(config)
        assert set(ours) == set(model.state_dict())
        model.load_state_dict(ours)
        own = "model.layers.0"
        block = model.blocks[0].state_dict()
        for fused, parts in {
            "attention.wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
            "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
        }.items():
            whole = torch.cat([weights[f"{own}.{part}.weight"] for part in parts])
            assert torch.equal(block[f"{fused}.weight"], whole)
    lean = {name: w.bfloat16() for name, w in weights.items() if "lm_head" not in name}
    again = subject.from_checkpoint(lean, config)
    assert set(again) == set(ours)
    for name, weight in ours.items():
        assert again[name].dtype == torch.bfloat16
        assert torch.equal(again[name], weight.bfloat16())
    for name in lean:
        assert _refused(
            subject.from_checkpoint, {k: w for k, w in lean.items() if k != name}, config
        )


@pytest.mark.symptom("A bfloat16 deployment scores worse than the format explains.")
def test_a_16_bit_model_is_near_the_exact_one(subject: Any) -> None:
    """A bfloat16 model has bfloat16 states, float32 logits, and small errors in either."""
    tokens, lengths = _tokens(1, 2, 6), torch.tensor([6, 6])
    for changes in (LLAMA, GEMMA):
        model, sizes, weights = _model(subject, 0, {**changes, "n_layers": 1})
        oracle = _Oracle(sizes, {name: weight.bfloat16() for name, weight in weights.items()})
        model.bfloat16()
        hidden = model.hidden_states(tokens, lengths)
        assert hidden.dtype == torch.bfloat16
        logits, logprobs = model(tokens), model.token_logprobs(tokens, lengths)
        assert logits.dtype == logprobs.dtype == torch.float32
        for row in range(2):
            exact = oracle.logits(tokens[row].tolist())
            _near(hidden[row], oracle.hidden_states(tokens[row].tolist()), 0.04)
            _near(logits[row], exact[-1], 0.04)
            _near(logprobs[row], oracle.logprobs(tokens[row].tolist()), 0.04)
        # Once the logits are there, no digit of theirs is lost.
        table = model.logits(hidden).double().log_softmax(-1)[:, :-1]
        chosen = table.gather(-1, tokens[:, 1:, None]).squeeze(-1)
        _close(logprobs[:, 1:], chosen)
    # Beyond the cap, what the head rounds is squashed: only a cap in 16 bit could err visibly.
    states = (4 * _randn(2, 30, M)).bfloat16()
    raw = states.double() @ oracle.weights["model.embed_tokens.weight"].T
    exact = sizes["logit_cap"] * torch.tanh(raw / sizes["logit_cap"])
    error = (model.logits(states).double() - exact).abs()
    assert float(error[raw.abs() > 2.5 * sizes["logit_cap"]].max()) < 5e-4 * sizes["logit_cap"]


# ----- the rest


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """Another default device changes nothing: all tensors follow the inputs and the weights."""
    model, sizes, weights = _model(subject, seed, GEMMA)
    oracle = _Oracle(sizes, weights)
    tokens, lengths = _tokens(seed + 1, 3, 5), torch.tensor([5, 2, 4])
    config = subject.DecoderConfig(**sizes)
    try:
        with subject.accelerator():
            whole = model(tokens)
            last = model(tokens, lengths)
            logprobs = model.token_logprobs(tokens, lengths, chunk_size=2)
            scores = model.score(tokens, lengths, torch.tensor([2, 1, 4]))
            visible = subject.visible_keys(lengths, 5)
            cos, sin = subject.rotary_tables(torch.arange(3), 4, 100.0)
            fused = subject.from_checkpoint(weights, config)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error
    for row, length in enumerate(lengths.tolist()):
        text = tokens[row].tolist()
        _close(whole[row], oracle.logits(text)[-1], 1e-4)
        _close(last[row], oracle.logits(text)[length - 1], 1e-4)
        _close(logprobs[row, :length], oracle.logprobs(text)[:length], 1e-4)
    assert scores.shape == (3,)
    assert int(visible.sum()) == 15 + (1 + 2 * 4) + (1 + 2 + 3 + 2 * 4)
    _close(cos.square() + sin.square(), torch.ones(3, 2))
    assert len(fused) == 11


@pytest.mark.symptom("Memory grows with every text, until the server runs out.")
def test_inference_keeps_no_gradients(subject: Any, seed: int) -> None:
    """Logits and log-probabilities are not attached to the weights, trainable though these are."""
    model, sizes, weights = _model(subject, seed)
    model.requires_grad_(True)
    tokens, lengths = _tokens(seed + 1, 2, 4), torch.tensor([4, 3])
    oracle = _Oracle(sizes, weights)
    for results, exact in [
        (model(tokens), oracle.logits(tokens[0].tolist())[-1]),
        (model.token_logprobs(tokens, lengths), oracle.logprobs(tokens[0].tolist())),
    ]:
        assert not results.requires_grad
        _close(results[0], exact, 1e-4)


@pytest.mark.symptom("Scoring a text changes the random draws of the code around it.")
def test_inference_draws_no_random_numbers(subject: Any, seed: int) -> None:
    """The global random state stays as it was, and the same text has the same score."""
    model, sizes, weights = _model(subject, seed)
    tokens, lengths = _tokens(seed + 1, 2, 4), torch.tensor([4, 3])
    before = subject.rng_state()
    first, second = (model.token_logprobs(tokens, lengths) for _ in range(2))
    assert subject.rng_state() == before
    assert torch.equal(first, second)
    _close(first[0], _Oracle(sizes, weights).logprobs(tokens[0].tolist()), 1e-4)


@pytest.mark.symptom("A malformed request gives a plausible answer instead of an error.")
def test_mistakes_of_the_caller_are_refused(subject: Any, seed: int) -> None:
    """Sizes that cannot be, lengths out of range and caps that are none raise ValueError."""
    one = {"n_heads": 1, "n_kv_heads": 1, "dim": 1, "hidden_dim": 1, "n_layers": 1, "head_dim": 2}
    assert not _refused(subject.DecoderConfig, **{**SIZES, **one, "vocab_size": 1})
    for change in (
        {"vocab_size": 0},
        {"dim": 0},
        {"hidden_dim": 0},
        {"n_layers": 0},
        {"n_heads": 5},
        {"n_heads": 0},
        {"n_kv_heads": 0},
        {"head_dim": 3},
        {"head_dim": 0},
    ):
        assert _refused(subject.DecoderConfig, **{**SIZES, **change}), change
    for cap in (0.0, -1.0):
        assert _refused(subject.softcap, torch.ones(2), cap)
    q, k = torch.zeros(1, 3, 2, 4), torch.zeros(1, 2, 2, 4)
    assert _refused(subject.attend, q, k, k, torch.ones(1, 2, 2, dtype=torch.bool))

    model, _, _ = _model(subject, seed, {"n_layers": 1})
    tokens, hidden = _tokens(seed, 2, 3), torch.zeros(2, 3, M)
    for wrong in ([0, 3], [3, 4], [3, -1], [3], [3, 3, 3]):
        lengths = torch.tensor(wrong)
        assert _refused(subject.last_hidden, hidden, lengths)
        assert _refused(model, tokens, lengths)
        assert _refused(model.token_logprobs, tokens, lengths)
    lengths = torch.tensor([3, 2])
    for size in (0, -1):
        assert _refused(model.token_logprobs, tokens, lengths, chunk_size=size)
    for n_prompt in ([0, 1], [4, 1], [3, 3], [1], [1, 1, 1]):
        assert _refused(model.score, tokens, lengths, torch.tensor(n_prompt))
    assert not _refused(model.score, tokens, lengths, torch.tensor([1, 2]))
