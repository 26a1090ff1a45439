"""Promises of the sliding-window decoder."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

SIZES: dict[str, Any] = {
    "vocab_size": 13,
    "dim": 10,
    "hidden_dim": 14,
    "n_layers": 2,
    "n_heads": 6,
    "n_kv_heads": 2,
    "head_dim": 4,
    "window": 4,
    "n_sink": 0,
    "rope_base": 100.0,
    "norm_eps": 1e-3,
}


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _close(actual: Tensor, reference: Tensor, tolerance: float = 2e-5) -> None:
    """Compare with a float64 reference, relative to the reference's scale."""
    assert actual.shape == reference.shape
    floor = tolerance * max(float(reference.abs().max()), 1e-3)
    torch.testing.assert_close(actual.double(), reference.double(), rtol=0, atol=floor)


def _model(
    subject: Any, seed: int, **changes: Any
) -> tuple[Any, dict[str, Any], dict[str, Tensor]]:
    """Build a decoder with drawn weights; return it with its sizes and float64 weights."""
    sizes = {**SIZES, **changes}
    model = subject.SlidingWindowDecoder(subject.DecoderConfig(**sizes))
    generator = _generator(seed)
    weights = {}
    for name, old in model.state_dict().items():
        drawn = torch.randn(old.shape, generator=generator)
        if drawn.dim() == 1:
            drawn = 1 + 0.3 * drawn
        elif "embedding" not in name:
            drawn = 1.5 * drawn / drawn.shape[1] ** 0.5
        weights[name] = drawn
    model.load_state_dict(weights)
    return model, sizes, {name: weight.double() for name, weight in weights.items()}


def _tokens(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, SIZES["vocab_size"], shape, generator=_generator(seed))


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x = x.double()
    return weight.double() * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def _turn(x: Tensor, positions: Tensor | Sequence[int], base: float) -> Tensor:
    """Rotate x [..., S, D] as complex numbers x[i] + 1j * x[i + D/2]."""
    half = x.shape[-1] // 2
    frequency = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.as_tensor(positions, dtype=torch.float64)[:, None] * frequency
    z = torch.complex(x[..., :half].double(), x[..., half:].double())
    z = z * torch.polar(torch.ones_like(angle), angle)
    return torch.cat([z.real, z.imag], dim=-1)


def _sees(query: int, key: int, window: int, n_sink: int) -> bool:
    return 0 <= key <= query and (query - key < window or key < n_sink)


def _attend(q: Tensor, k: Tensor, v: Tensor, allowed: list[list[bool]]) -> Tensor:
    """Attend from q [..., S, D] to k, v [..., K, D] in float64; nothing to see gives zeros."""
    hidden = ~torch.tensor(allowed)
    scores = q.double() @ k.double().mT / q.shape[-1] ** 0.5
    scores = scores.masked_fill(hidden, -torch.inf)
    share = (scores - scores.amax(-1, keepdim=True).clamp_min(-1e300)).exp()
    out: Tensor = share @ v.double() / share.sum(-1, keepdim=True).clamp_min(1e-300)
    return out


def _logits(sizes: dict[str, Any], weights: dict[str, Tensor], tokens: list[int]) -> Tensor:
    """Return the logits [S, V] of one whole sequence, in float64 and without a cache."""
    steps = range(len(tokens))
    allowed = [[_sees(i, j, sizes["window"], sizes["n_sink"]) for j in steps] for i in steps]
    share = sizes["n_heads"] // sizes["n_kv_heads"]
    shared = [head // share for head in range(sizes["n_heads"])]
    x = weights["embedding.weight"][torch.as_tensor(tokens)]
    for layer in range(sizes["n_layers"]):
        own = {k.removeprefix(f"layers.{layer}."): w for k, w in weights.items()}
        h = _rms_norm(x, own["attention_norm.weight"], sizes["norm_eps"])
        q, k, v = (
            torch.stack(torch.split(h @ own[f"attention.{name}.weight"].T, sizes["head_dim"], -1))
            for name in ("wq", "wk", "wv")
        )  # [heads, S, D]
        q, k = (_turn(part, steps, sizes["rope_base"]) for part in (q, k))
        heads = _attend(q, k[shared], v[shared], allowed)
        x = x + torch.cat(list(heads), dim=-1) @ own["attention.wo.weight"].T
        h = _rms_norm(x, own["ffn_norm.weight"], sizes["norm_eps"])
        gate, up = h @ own["w_gate.weight"].T, h @ own["w_up.weight"].T
        x = x + (gate * gate.sigmoid() * up) @ own["w_down.weight"].T
    return _rms_norm(x, weights["norm.weight"], sizes["norm_eps"]) @ weights["lm_head.weight"].T


def _refused(call: Callable[..., object], *args: object, **kwargs: object) -> bool:
    try:
        call(*args, **kwargs)
    except ValueError:
        return True
    return False


class _Rows:
    """Feeds several sequences to one cache and checks every answer against each alone."""

    def __init__(self, subject: Any, seed: int, batch: int, **changes: Any) -> None:
        self.model, self.sizes, self.weights = _model(subject, seed, **changes)
        self.cache = self.model.new_cache(batch)
        self.history: list[list[int]] = [[] for _ in range(batch)]
        self.generator = _generator(seed + 1)

    def feed(self, *n_new: int) -> None:
        width = max(n_new)
        shape = (len(n_new), width)
        tokens = torch.randint(0, self.sizes["vocab_size"], shape, generator=self.generator)
        logits = self.model(tokens, self.cache, torch.tensor(n_new))
        assert logits.shape == (*shape, self.sizes["vocab_size"])
        for row, n in enumerate(n_new):
            self.history[row] += tokens[row, :n].tolist()
            if n:
                alone = _logits(self.sizes, self.weights, self.history[row])
                _close(logits[row, :n], alone[-n:], 1e-4)


def _check_chunks(subject: Any, seed: int, chunk_sizes: Sequence[int], n_sink: int) -> None:
    model, sizes, weights = _model(subject, seed, n_sink=n_sink)
    tokens = _tokens(seed + 1, 1, 13)
    whole = _logits(sizes, weights, tokens[0].tolist())
    for size in chunk_sizes:
        cache = model.new_cache(1)
        pieces = [model(tokens[:, i : i + size], cache) for i in range(0, 13, size)]
        _close(torch.cat(pieces, dim=1)[0], whole, 1e-4)


@pytest.mark.symptom("Long conversations drift away from the reference implementation.")
def test_a_token_sees_as_many_keys_as_the_window_holds(subject: Any) -> None:
    """With a window of W, a token attends to itself and to the W - 1 tokens before it."""
    positions = torch.arange(11)[None]
    for window in (1, 2, 4, 11, 20):
        allowed = subject.visible(positions, positions, window=window).bool()
        assert allowed.shape == (1, 11, 11)
        expected = [[_sees(i, j, window, 0) for j in range(11)] for i in range(11)]
        assert allowed[0].tolist() == expected


@pytest.mark.symptom("Streaming breaks down once the first tokens have left the window.")
def test_sinks_stay_in_sight(subject: Any) -> None:
    """The first n_sink tokens stay visible beyond the window, to tokens that follow them."""
    positions = torch.arange(10)[None]
    for window, n_sink in ((2, 1), (3, 4), (1, 2)):
        allowed = subject.visible(positions, positions, window=window, n_sink=n_sink).bool()
        expected = [[_sees(i, j, window, n_sink) for j in range(10)] for i in range(10)]
        assert allowed[0].tolist() == expected


@pytest.mark.symptom("Now and then a short prompt is answered as if it had had a longer past.")
def test_visibility_goes_by_position_alone(subject: Any, seed: int) -> None:
    """Keys may lie in any order and slots be unused: only positions say what is visible."""
    empty = subject.EMPTY
    order = torch.randperm(9, generator=_generator(seed))
    k_pos = torch.stack([order + 3, torch.where(order < 6, order, empty)])
    q_pos = torch.tensor([[11, 5, 4, 3], [5, 0, empty, 2]])
    for window, n_sink in ((3, 0), (3, 2), (8, 4)):
        allowed = subject.visible(q_pos, k_pos, window=window, n_sink=n_sink).bool()
        assert allowed.shape == (2, 4, 9)
        for row in range(2):
            for i, query in enumerate(q_pos[row].tolist()):
                keys = k_pos[row].tolist()
                expected = [_sees(query, key, window, n_sink) for key in keys]
                assert allowed[row, i].tolist() == expected


@pytest.mark.symptom("Scores of a prompt change when text is appended to it.")
def test_no_token_sees_the_future(subject: Any, seed: int) -> None:
    """What comes later in a sequence has no influence on the logits before it."""
    model, _, _ = _model(subject, seed, n_sink=6)
    tokens = _tokens(seed + 1, 1, 8)
    other = tokens.clone()
    other[0, 3:] = (other[0, 3:] + 1) % SIZES["vocab_size"]
    before = model(tokens, model.new_cache(1))
    after = model(other, model.new_cache(1))
    _close(after[:, :3], before[:, :3])
    assert float((after[:, 3:] - before[:, 3:]).abs().max()) > 1e-3


@pytest.mark.symptom("Quality dropped after the checkpoint with fewer key/value heads was loaded.")
def test_attention_equals_a_computation_head_by_head(subject: Any, seed: int) -> None:
    """Grouped attention gives what each head gives alone, for any mask and any head sharing."""
    generator = _generator(seed)
    for n_heads, n_kv_heads in ((6, 2), (6, 3), (3, 1), (4, 4)):
        q = torch.randn(2, n_heads, 3, 6, generator=generator)
        k = torch.randn(2, n_kv_heads, 7, 6, generator=generator)
        v = torch.randn(2, n_kv_heads, 7, 6, generator=generator)
        allowed = torch.rand(2, 3, 7, generator=generator) < 0.6
        expected = torch.zeros_like(q, dtype=torch.float64)
        for row in range(2):
            for head in range(n_heads):
                kv = head // (n_heads // n_kv_heads)
                mask = allowed[row].tolist()
                expected[row, head] = _attend(q[row, head], k[row, kv], v[row, kv], mask)
        _close(subject.grouped_attention(q, k, v, allowed), expected)


@pytest.mark.symptom("The bfloat16 deployment answers differently from the float32 one.")
def test_attention_in_bfloat16_is_as_accurate_as_bfloat16_can_be(subject: Any, seed: int) -> None:
    """With bfloat16 inputs, attention differs from float64 by the rounding of its result only."""
    generator = _generator(seed)
    q = (4 * torch.randn(1, 4, 5, 8, generator=generator)).bfloat16()
    k = torch.randn(1, 2, 40, 8, generator=generator).bfloat16()
    v = (3 + torch.randn(1, 2, 40, 8, generator=generator)).bfloat16()
    out = subject.grouped_attention(q, k, v, torch.ones(1, 5, 40, dtype=torch.bool))
    assert out.dtype == torch.bfloat16
    for head in range(4):
        exact = _attend(q[0, head], k[0, head // 2], v[0, head // 2], [[True] * 40] * 5)
        torch.testing.assert_close(out[0, head].double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.symptom("One short prompt in a batch turns the logits of its neighbours into NaN.")
def test_nothing_to_attend_to_yields_zeros(subject: Any, seed: int) -> None:
    """A query that may see no key gets exactly zeros, and the other queries are unharmed."""
    generator = _generator(seed)
    q, k, v = (torch.randn(2, 2, 4, 6, generator=generator) for _ in range(3))
    allowed = torch.rand(2, 4, 4, generator=generator) < 0.7
    allowed[0, 1] = allowed[1, 0] = allowed[1, 3] = False
    out = subject.grouped_attention(q, k, v, allowed)
    for row in range(2):
        for head in range(2):
            mask = allowed[row].tolist()
            _close(out[row, head], _attend(q[row, head], k[row, head], v[row, head], mask))
    assert not out[0, :, 1].any()
    assert not out[1, :, (0, 3)].any()


@pytest.mark.symptom("For some inputs a layer answers as if there were nothing in the window.")
def test_a_key_out_of_sight_has_no_weight_however_low_the_rest(subject: Any, seed: int) -> None:
    """Where all visible keys have scores far below zero, hidden ones still get no weight."""
    generator = _generator(seed)
    # Scores of -1e5 and less, so far apart that one key gets all the weight.
    q = torch.randint(4, 9, (1, 4, 5, 4), generator=generator) * 64.0
    k = (torch.rand(1, 2, 7, 1, generator=generator).argsort(dim=2) + 4).repeat(1, 1, 1, 4) * -64.0
    v = torch.randn(1, 2, 7, 4, generator=generator)
    allowed = torch.rand(1, 5, 7, generator=generator) < 0.5
    allowed[0, :, 2], allowed[0, :, 5] = True, False
    out = subject.grouped_attention(q, k, v, allowed)
    for head in range(4):
        mask = allowed[0].tolist()
        _close(out[0, head], _attend(q[0, head], k[0, head // 2], v[0, head // 2], mask))


@pytest.mark.symptom("Attention patterns of the converted checkpoint look scrambled.")
def test_rope_turns_each_pair_by_its_own_angle(subject: Any, seed: int) -> None:
    """Pair i at position p turns by p * base ** (-2i / head_dim)."""
    x = torch.randn(2, 3, 5, 8, generator=_generator(seed))
    positions = torch.tensor([[0, 1, 2, 3, 4], [17, 9, 30, 0, 5]])
    for base in (10000.0, 50.0):
        cos, sin = subject.rope_tables(positions, 8, base)
        turned = subject.apply_rope(x, cos, sin)
        assert turned.dtype == torch.float32
        for row in range(2):
            for head in range(3):
                _close(turned[row, head], _turn(x[row, head], positions[row], base))


@pytest.mark.symptom("The same text scores differently further down in the context.")
def test_rotated_scores_depend_on_distance_alone(subject: Any, seed: int) -> None:
    """The product of a rotated query and a rotated key depends only on how far apart they are."""
    q, k = torch.randn(2, 1, 1, 1, 8, generator=_generator(seed)).expand(2, 4, 1, 3, 8)
    start, distance = torch.tensor([[0], [1], [7], [40]]), torch.tensor([[0, 3, 11]])
    turned_k = subject.apply_rope(k, *subject.rope_tables(start.expand(4, 3), 8, 1e3))
    turned_q = subject.apply_rope(q, *subject.rope_tables(start + distance, 8, 1e3))
    scores = (turned_q.double() * turned_k.double()).sum(-1)[:, 0]
    size = float(q[0, 0, 0].norm() * k[0, 0, 0].norm())
    torch.testing.assert_close(scores, scores[:1].expand(4, 3), rtol=0, atol=3e-5 * size)
    assert float((scores[0] - scores[0, 0]).abs().max()) > 1e-3 * size


@pytest.mark.symptom("Answers are right or wrong depending on the batch size.")
def test_each_row_is_rotated_by_its_own_positions(subject: Any, seed: int) -> None:
    """Rows use their own positions, also when batch, heads and length happen to be equal."""
    x = torch.randn(3, 3, 3, 6, generator=_generator(seed))
    positions = torch.tensor([[0, 1, 2], [5, 6, 7], [20, 21, 22]])
    turned = subject.apply_rope(x, *subject.rope_tables(positions, 6, 100.0))
    for row in range(3):
        for head in range(3):
            _close(turned[row, head], _turn(x[row, head], positions[row], 100.0))


@pytest.mark.symptom("In bfloat16 the model loses track after some thousand tokens.")
def test_rotation_stays_accurate_far_out(subject: Any, seed: int) -> None:
    """At positions in the tens of thousands, bfloat16 inputs are rotated accurately."""
    x = torch.randn(1, 2, 4, 8, generator=_generator(seed)).bfloat16()
    positions = torch.tensor([[4097, 10001, 16383, 30011]])
    turned = subject.apply_rope(x, *subject.rope_tables(positions, 8, 10000.0))
    for head in range(2):
        exact = _turn(x[0, head], positions[0], 10000.0)
        torch.testing.assert_close(turned[0, head].double(), exact, rtol=2**-8, atol=1e-2)


@pytest.mark.symptom("The bfloat16 model scores a little worse than every other implementation.")
def test_rotation_in_bfloat16_is_rounded_once(subject: Any, seed: int) -> None:
    """A rotated bfloat16 input is a bfloat16 that differs from float64 by its rounding only."""
    x = torch.randn(2, 3, 8, 16, generator=_generator(seed)).bfloat16()
    positions = torch.arange(16).view(2, 8)
    turned = subject.apply_rope(x, *subject.rope_tables(positions, 16, 100.0))
    assert turned.dtype == torch.bfloat16
    for row in range(2):
        for head in range(3):
            exact = _turn(x[row, head], positions[row], 100.0)
            torch.testing.assert_close(turned[row, head].double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.symptom("Activations blow up, or vanish, in a few layers of the half-precision model.")
def test_rms_norm_equals_float64(subject: Any, seed: int) -> None:
    """The norm agrees with float64 for small and for large inputs and keeps the dtype."""
    generator = _generator(seed)
    norm = subject.RMSNorm(16, 1e-4)
    weight = 1 + 0.5 * torch.randn(16, generator=generator)
    norm.load_state_dict({"weight": weight})
    for dtype, scale, error in (
        (torch.float32, 1.0, 1e-6),
        (torch.float32, 3e-3, 1e-6),
        (torch.float16, 700.0, 2**-11),
        (torch.bfloat16, 1.0, 2**-8),
    ):
        x = (scale * (0.5 + torch.randn(3, 4, 16, generator=generator))).to(dtype)
        out = norm(x)
        assert out.dtype == dtype
        exact = _rms_norm(x, weight, 1e-4)
        torch.testing.assert_close(out.double(), exact, rtol=2 * error, atol=1e-6)


@pytest.mark.symptom("Changing the prefill chunk size changes the answers.")
def test_prompts_in_chunks_equal_the_whole_sequence(subject: Any, seed: int) -> None:
    """Chunks of any size, longer than the window too, give the logits of the whole sequence."""
    _check_chunks(subject, seed, (4, 5, 13), 0)


@pytest.mark.symptom("Changing the prefill chunk size changes the answers of the streaming setup.")
def test_prompts_in_chunks_keep_their_sinks(subject: Any, seed: int) -> None:
    """With sinks as well, chunks of any size give the logits of the whole sequence."""
    _check_chunks(subject, seed, (2, 7), 3)


@pytest.mark.symptom("Text generated step by step differs from what scoring it at once predicts.")
def test_decoding_equals_the_whole_sequence(subject: Any, seed: int) -> None:
    """One token at a time gives the logits of the whole sequence, far beyond the window."""
    model, sizes, weights = _model(subject, seed, n_sink=1)
    tokens = _tokens(seed + 1, 12)
    cache = model.new_cache(1)
    active = torch.ones(1, dtype=torch.bool)
    steps = [model.decode(token[None], cache, active) for token in tokens]
    _close(torch.cat(steps), _logits(sizes, weights, tokens.tolist()), 1e-4)


@pytest.mark.symptom("A model with another shape of heads gives nonsense.")
def test_heads_of_any_number_and_size(subject: Any, seed: int) -> None:
    """One head, one shared head or wide heads: the logits equal a float64 computation."""
    shapes = ((1, 1, 8, 1), (4, 4, 2, 3), (4, 1, 6, 2))
    for n_heads, n_kv_heads, head_dim, n_layers in shapes:
        rows = _Rows(
            subject,
            seed,
            2,
            n_heads=n_heads,
            n_kv_heads=n_kv_heads,
            head_dim=head_dim,
            n_layers=n_layers,
            rope_base=1e4,
        )
        rows.feed(6, 2)


@pytest.mark.symptom("A checkpoint without the optional settings in its config gives nonsense.")
def test_settings_left_out_are_those_of_a_plain_model(subject: Any, seed: int) -> None:
    """Left out, there are no sinks, the rotation has base 10000 and the norm adds 1e-5."""
    optional = ("n_sink", "rope_base", "norm_eps")
    plain = {name: SIZES[name] for name in SIZES if name not in optional}
    config = subject.DecoderConfig(**plain)
    assert subject.fields(config)["rope_base"] == 10_000
    cache = subject.RollingKVCache(config, 1, like=torch.zeros(1))
    assert cache.k.shape == (2, 1, 2, 4, 4)
    model, sizes, weights = _model(subject, seed, n_sink=0, rope_base=1e4, norm_eps=1e-5)
    default = subject.SlidingWindowDecoder(config)
    default.load_state_dict(model.state_dict())
    tokens = _tokens(seed + 1, 1, 9)
    logits = default(tokens, default.new_cache(1))
    _close(logits[0], _logits(sizes, weights, tokens[0].tolist()), 1e-4)


@pytest.mark.symptom("Answers change when long and short requests share a batch.")
def test_rows_of_a_batch_are_as_if_alone(subject: Any, seed: int) -> None:
    """Rows with different numbers of new tokens, also none, answer as if each were alone."""
    rows = _Rows(subject, seed, 3, n_sink=1)
    for n_new in ((3, 1, 5), (0, 2, 1), (4, 6, 0), (1, 1, 1), (7, 2, 3)):
        rows.feed(*n_new)


@pytest.mark.symptom("The first generated token is off for some prompts of a batch.")
def test_prefill_returns_what_follows_each_prompt(subject: Any, seed: int) -> None:
    """Prefill gives, for each row, the logits after that row's own last token."""
    model, sizes, weights = _model(subject, seed)
    lengths = torch.tensor([4, 8, 1, 6, 9])
    tokens = _tokens(seed + 1, 5, 9)
    for chunk_size in (1, 4, 20):
        last = model.prefill(tokens, lengths, model.new_cache(5), chunk_size=chunk_size)
        for row, length in enumerate(lengths.tolist()):
            alone = _logits(sizes, weights, tokens[row, :length].tolist())
            _close(last[row], alone[-1], 1e-4)


@pytest.mark.symptom("A request that paused for a few steps continues with a damaged memory.")
def test_an_idle_row_keeps_its_memory(subject: Any, seed: int) -> None:
    """A row that is not active in a step holds the same tokens afterwards."""
    rows = _Rows(subject, seed, 2, n_sink=1)
    rows.feed(3, 7)
    before = [rows.cache.snapshot(1, row) for row in range(2)]
    rows.model.decode(torch.tensor([1, 2]), rows.cache, torch.tensor([False, False]))
    rows.model.decode(torch.tensor([3, 4]), rows.cache, torch.tensor([False, False]))
    assert rows.cache.lengths.tolist() == [3, 7]
    for row in range(2):
        for old, new in zip(before[row], rows.cache.snapshot(1, row), strict=True):
            torch.testing.assert_close(new, old, rtol=0, atol=0)
    rows.feed(1, 1)


@pytest.mark.symptom("After a migration between servers, a running request loses its thread.")
def test_the_cache_holds_the_sinks_and_the_last_tokens(subject: Any) -> None:
    """After any steps a row holds exactly the sinks and the last `window` tokens, in order."""
    for window, n_sink in ((4, 0), (3, 2)):
        sizes = {**SIZES, "window": window, "n_sink": n_sink}
        cache = subject.RollingKVCache(subject.DecoderConfig(**sizes), 3, like=torch.zeros(1))
        seen = [0, 0, 0]
        for n_new in ((1, 3, 2), (9, 0, 1), (0, 2, 4), (1, 5, 1)):
            width = max(n_new)
            plan = cache.plan(width, torch.tensor(n_new))
            place = torch.tensor(seen)[:, None] + torch.arange(width)
            mark = place + 100 * torch.arange(3)[:, None]
            k = (mark[:, None, :, None] + 1000 * torch.arange(2)[:, None, None]).expand(3, 2, -1, 4)
            for layer in range(2):
                cache.store(layer, k + 0.25 + layer / 8, -k - layer / 8, plan)
            cache.commit(plan)
            seen = [old + new for old, new in zip(seen, n_new, strict=True)]
            assert cache.lengths.tolist() == seen
            for row, length in enumerate(seen):
                held = [p for p in range(length) if p < n_sink or p >= length - window]
                marks = torch.tensor(held, dtype=torch.float64) + 100 * row
                exact = (marks + 1000 * torch.arange(2)[:, None])[:, :, None].expand(2, -1, 4)
                layer = (row + length) % 2
                positions, keys, values = cache.snapshot(layer, row)
                assert positions.tolist() == held
                torch.testing.assert_close(keys.double(), exact + 0.25 + layer / 8)
                torch.testing.assert_close(values.double(), -exact - layer / 8)


@pytest.mark.symptom("On the accelerator, long prompts are answered differently from run to run.")
def test_a_step_stores_each_token_worth_it_in_a_slot_of_its_own(subject: Any) -> None:
    """A step plans to store the new tokens that stay in reach, and no slot takes two of them."""
    sizes = {**SIZES, "window": 3, "n_sink": 2}
    cache = subject.RollingKVCache(subject.DecoderConfig(**sizes), 3, like=torch.zeros(1))
    seen = [0, 0, 0]
    for n_new in ((1, 9, 4), (7, 0, 3)):
        plan = cache.plan(9, torch.tensor(n_new))
        rows, columns, slots = plan.rows.tolist(), plan.columns.tolist(), plan.slots.tolist()
        assert len(set(zip(rows, slots, strict=True))) == len(rows)
        stored = sorted((row, seen[row] + col) for row, col in zip(rows, columns, strict=True))
        before, seen = seen, [old + new for old, new in zip(seen, n_new, strict=True)]
        assert plan.lengths.tolist() == seen
        assert stored == [
            (row, p)
            for row in range(3)
            for p in range(before[row], seen[row])
            if p < 2 or p >= seen[row] - 3
        ]
        cache.commit(plan)


@pytest.mark.symptom("Memory of a long-running stream grows until the server runs out.")
def test_storage_does_not_grow(subject: Any, seed: int) -> None:
    """The cache has one slot per sink and per token of the window, however long the sequence."""
    model, _, _ = _model(subject, seed, n_sink=2)
    cache = model.new_cache(3)
    for _ in range(3):
        model(_tokens(seed, 3, 7), cache)
        assert cache.k.shape == cache.v.shape == (2, 3, 2, 6, 4)
        assert cache.positions.shape == (3, 6)
    assert cache.lengths.tolist() == [21, 21, 21]


@pytest.mark.symptom("With speculative decoding on, rejected drafts leak into the answer.")
def test_rolled_back_tokens_never_were(subject: Any, seed: int) -> None:
    """After a rollback a row goes on as if the dropped tokens had never been fed."""
    rows = _Rows(subject, seed, 3, window=5, n_sink=2)
    rows.feed(3, 2, 1)
    rows.feed(4, 4, 3)
    assert not _refused(rows.cache.rollback, torch.tensor([0, 3, 4]))
    assert rows.cache.lengths.tolist() == [7, 3, 0]
    rows.history = [rows.history[0], rows.history[1][:-3], []]
    rows.feed(1, 1, 1)
    rows.feed(3, 2, 4)


@pytest.mark.symptom("Rejecting a draft late in a long answer silently corrupts what follows.")
def test_rollback_is_refused_once_tokens_are_lost(subject: Any, seed: int) -> None:
    """A rollback that cannot be exact raises ValueError and changes nothing."""
    rows = _Rows(subject, seed, 2, window=4, n_sink=1)
    rows.feed(6, 3)
    assert _refused(rows.cache.rollback, torch.tensor([1, 1]))
    assert not _refused(rows.cache.rollback, torch.tensor([0, 1]))
    rows.history[1].pop()
    assert _refused(rows.cache.rollback, torch.tensor([0, 3]))
    assert _refused(rows.cache.rollback, torch.tensor([0, -1]))
    rows.feed(2, 3)
    assert not _refused(rows.cache.rollback, torch.tensor([0, 4]))
    rows.history[1] = rows.history[1][:1]
    rows.feed(1, 2)


@pytest.mark.symptom("A user saw words of somebody else's conversation.")
def test_a_reset_row_starts_empty(subject: Any, seed: int) -> None:
    """A row handed to a new request knows nothing of the old one; other rows go on."""
    for n_sink in (0, 2):
        rows = _Rows(subject, seed, 3, n_sink=n_sink)
        rows.feed(7, 9, 2)
        rows.cache.reset_rows([1])
        rows.history[1] = []
        assert rows.cache.lengths.tolist() == [7, 0, 2]
        assert [part.numel() for part in rows.cache.snapshot(0, 1)] == [0, 0, 0]
        rows.feed(1, 2, 1)
        rows.feed(2, 5, 1)


@pytest.mark.symptom("After one request overflowed, its slot on the server answers NaN for ever.")
def test_a_request_that_overflowed_leaves_nothing_behind(subject: Any, seed: int) -> None:
    """Even NaN left by an old request has no influence on the next one in its row."""
    generator = _generator(seed)
    config = subject.DecoderConfig(**{**SIZES, "n_sink": 1})
    cache = subject.RollingKVCache(config, 2, like=torch.zeros(1))
    broken = torch.full((2, 2, 5, 4), float("nan"))
    plan = cache.plan(5)
    cache.store(0, broken, broken, plan)
    cache.commit(plan)
    cache.reset_rows([0, 1])
    q = torch.randn(2, 6, 3, 4, generator=generator)
    k, v = torch.randn(2, 2, 2, 3, 4, generator=generator)
    plan = cache.plan(3)
    keys, values = cache.extend(0, k, v)
    out = subject.grouped_attention(q, keys, values, plan.allowed)
    causal = [[j <= i for j in range(3)] for i in range(3)]
    for row in range(2):
        for head in range(6):
            kv = head // 3
            _close(out[row, head], _attend(q[row, head], k[row, kv], v[row, kv], causal))


@pytest.mark.symptom("When a request finishes, another one continues with the wrong context.")
def test_rows_can_move_and_leave(subject: Any, seed: int) -> None:
    """After rows are reordered or dropped, each goes on with its own memory."""
    rows = _Rows(subject, seed, 3, n_sink=1)
    rows.feed(2, 7, 4)
    for order in ([1, 2, 0], [2, 0]):
        rows.cache.select_rows(order)
        rows.history = [rows.history[row] for row in order]
        rows.feed(*range(1, len(order) + 1))
    assert rows.cache.lengths.tolist() == [len(row) for row in rows.history]


@pytest.mark.symptom("With beam search, sibling beams overwrite each other.")
def test_copied_rows_part_ways(subject: Any, seed: int) -> None:
    """A row that was selected twice becomes two rows that no longer share anything."""
    rows = _Rows(subject, seed, 2)
    rows.feed(6, 3)
    rows.cache.select_rows([1, 0, 1])
    rows.history = [list(rows.history[row]) for row in (1, 0, 1)]
    rows.feed(1, 1, 1)
    rows.feed(2, 0, 3)
    rows.feed(1, 1, 1)


@pytest.mark.symptom("The same prompt is answered differently alone and in a batch.")
def test_generation_is_greedy_for_every_prompt(subject: Any, seed: int) -> None:
    """Each new token is the best one after its own prompt and the tokens before it."""
    model, sizes, weights = _model(subject, seed, n_sink=1)
    drawn = _tokens(seed + 1, 18).tolist()
    prompts = [drawn[:2], drawn[2:11], drawn[11:12], drawn[12:17]]
    answers = subject.generate(model, prompts, max_new_tokens=7, chunk_size=3)
    assert [len(answer) for answer in answers] == [7, 7, 7, 7]
    for prompt, answer in zip(prompts, answers, strict=True):
        scores = _logits(sizes, weights, [*prompt, *answer])[len(prompt) - 1 : -1]
        chosen = scores.gather(1, torch.tensor(answer)[:, None])[:, 0]
        torch.testing.assert_close(chosen, scores.amax(-1), rtol=0, atol=1e-3)


def _counting_model(subject: Any) -> Any:
    """Build a decoder that answers token t with t + 1, modulo 8."""
    sizes = {**SIZES, "vocab_size": 8, "dim": 8}
    model = subject.SlidingWindowDecoder(subject.DecoderConfig(**sizes))
    weights = {name: torch.zeros_like(old) for name, old in model.state_dict().items()}
    weights["embedding.weight"] = torch.eye(8)
    weights["norm.weight"] = torch.ones(8)
    weights["lm_head.weight"] = torch.eye(8).roll(1, dims=0)
    model.load_state_dict(weights)
    return model


@pytest.mark.symptom("Some answers run on after the end-of-sequence token.")
def test_generation_stops_at_the_end_token(subject: Any) -> None:
    """An answer ends with the end token, be its id 0 or it the first token, for good."""
    model = _counting_model(subject)
    prompts = [[5], [7], [1, 2], [3, 0, 6]]
    answers = subject.generate(model, prompts, max_new_tokens=4, eos_id=0)
    assert answers == [[6, 7, 0], [0], [3, 4, 5, 6], [7, 0]]
    answers = subject.generate(model, prompts, max_new_tokens=9, eos_id=4)
    assert answers == [[6, 7, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [3, 4], [7, 0, 1, 2, 3, 4]]


@pytest.mark.symptom("Answers are one token longer or shorter than the limit.")
def test_generation_keeps_to_the_limit(subject: Any) -> None:
    """Without an end token an answer has exactly max_new_tokens tokens, also when that is 0."""
    model = _counting_model(subject)
    for limit in (0, 1, 5):
        assert subject.generate(model, [], max_new_tokens=limit) == []
        answers = subject.generate(model, [[6], [2, 4]], max_new_tokens=limit)
        assert answers == [[7, 0, 1, 2, 3][:limit], [5, 6, 7, 0, 1][:limit]]


@pytest.mark.symptom("Memory use doubled after an update, or a half-precision model fails to load.")
def test_results_have_the_dtype_of_their_inputs(subject: Any, seed: int) -> None:
    """A bfloat16 model has a bfloat16 cache and logits; a cache may be smaller than its model."""
    model, sizes, weights = _model(subject, seed)
    tokens = _tokens(seed + 1, 2, 6)
    k = torch.randn(2, 2, 6, 4, generator=_generator(seed))
    cache = subject.RollingKVCache(
        subject.DecoderConfig(**sizes), 2, like=torch.zeros(1, dtype=torch.bfloat16)
    )
    plan = cache.plan(6)
    cache.store(0, k, k, plan)
    cache.commit(plan)
    keys, values = cache.extend(0, k[:, :, :1], k[:, :, :1])
    assert (cache.k.dtype, keys.dtype, values.dtype) == (
        torch.bfloat16,
        torch.float32,
        torch.float32,
    )
    positions, held, _ = cache.snapshot(0, 1)
    slots = cache.slot_of(torch.arange(9))
    assert (positions.dtype, slots.dtype, held.dtype) == (torch.int64, torch.int64, torch.bfloat16)
    _close(held.float(), k[1, :, 2:], 2**-8)
    cos, sin = subject.rope_tables(torch.arange(3)[None], 8, 10_000.0)
    assert (cos.dtype, sin.dtype) == (torch.float32, torch.float32)
    model.to(torch.bfloat16)
    cache = model.new_cache(2)
    logits = model(tokens, cache)
    assert (cache.k.dtype, cache.v.dtype, logits.dtype) == (torch.bfloat16,) * 3
    lengths, active = torch.tensor([6, 3]), torch.ones(2, dtype=torch.bool)
    cache = model.new_cache(2)
    last = model.prefill(tokens, lengths, cache, chunk_size=4)
    assert (last.dtype, model.decode(tokens[:, 0], cache, active).dtype) == (torch.bfloat16,) * 2
    for row in range(2):
        _close(logits[row].float(), _logits(sizes, weights, tokens[row].tolist()), 0.3)


@pytest.mark.symptom("Inputs that the caller still needs come back changed.")
def test_arguments_are_left_alone(subject: Any, seed: int) -> None:
    """No call changes the tensors or lists that it is given."""
    model, _, _ = _model(subject, seed)
    tokens, n_new, cache = _tokens(seed, 2, 5), torch.tensor([5, 2]), model.new_cache(2)
    assert model(tokens, cache, n_new).shape == (2, 5, 13)
    assert not {0, 2} & set(subject.mutated)
    cache.rollback(torch.tensor([0, 1]))
    assert not subject.mutated
    assert model.prefill(tokens, n_new, model.new_cache(2), chunk_size=2).shape == (2, 13)
    assert not {0, 1} & set(subject.mutated)
    q, k, v = torch.randn(3, 1, 2, 3, 4, generator=_generator(seed)).unbind()
    out = subject.grouped_attention(q, k, v, torch.eye(3, dtype=torch.bool)[None])
    assert not subject.mutated
    _close(out, v)
    cos, sin = subject.rope_tables(torch.tensor([[0, 1, 2]]), 4, 100.0)
    assert subject.apply_rope(q, cos, sin).shape == q.shape
    assert not subject.mutated
    layer = model.requires_grad_(False).layers[1]
    x = torch.randn(2, 3, 10, generator=_generator(seed))
    rope = subject.rope_tables(torch.tensor([[0, 1, 2]]), 4, 100.0)
    cache = model.new_cache(2)
    assert layer(x, rope, cache, cache.plan(3)).shape == x.shape
    assert not {0, 1} & set(subject.mutated)
    assert len(subject.generate(model, [[1, 2], [3]], max_new_tokens=2)) == 2
    assert not {1} & set(subject.mutated)


@pytest.mark.symptom("Serving on the second accelerator fails, or is slow from hidden copies.")
def test_every_tensor_is_made_beside_the_inputs(subject: Any, seed: int) -> None:
    """Another default device changes nothing: all tensors follow the inputs and the weights."""
    model, sizes, weights = _model(subject, seed, n_sink=1)
    tokens, lengths = _tokens(seed + 1, 3, 6), torch.tensor([6, 2, 5])
    prompts = [row[:n].tolist() for row, n in zip(tokens, lengths.tolist(), strict=True)]
    expected = subject.generate(model, prompts, max_new_tokens=3, eos_id=0)
    try:
        with subject.accelerator():
            cache = model.new_cache(3)
            last = model.prefill(tokens, lengths, cache, chunk_size=4)
            logits = model(tokens, model.new_cache(3))
            cache.select_rows([2, 0, 1])
            cache.reset_rows([0])
            answers = subject.generate(model, prompts, max_new_tokens=3, eos_id=0)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error
    assert answers == expected
    assert cache.lengths.tolist() == [0, 6, 2]
    for row, length in enumerate(lengths.tolist()):
        whole = _logits(sizes, weights, tokens[row].tolist())
        _close(logits[row], whole, 1e-4)
        _close(last[row], whole[length - 1], 1e-4)


@pytest.mark.symptom("Turning the model on changes the random draws of the code around it.")
def test_inference_draws_no_random_numbers(subject: Any, seed: int) -> None:
    """Running the model and generating leave the global random state as it was."""
    model, sizes, weights = _model(subject, seed)
    before = subject.rng_state()
    (answer,) = subject.generate(model, [[1, 2, 3]], max_new_tokens=1)
    assert subject.rng_state() == before
    scores = _logits(sizes, weights, [1, 2, 3])[-1]
    torch.testing.assert_close(scores[answer[0]], scores.max(), rtol=0, atol=1e-3)


@pytest.mark.symptom("A malformed request gives a plausible answer instead of an error.")
def test_mistakes_of_the_caller_are_refused(subject: Any, seed: int) -> None:
    """Sizes that cannot be, numbers out of range and unknown tokens raise ValueError."""
    assert not _refused(subject.DecoderConfig, **{**SIZES, "n_heads": 1, "n_kv_heads": 1})
    for change in (
        {"window": 0},
        {"n_sink": -1},
        {"n_heads": 5},
        {"n_heads": 0},
        {"n_kv_heads": 0},
        {"head_dim": 3},
        {"head_dim": 0},
        {"n_layers": 0},
        {"dim": 0},
        {"hidden_dim": 0},
        {"vocab_size": 0},
    ):
        assert _refused(subject.DecoderConfig, **{**SIZES, **change}), change
    model, _, _ = _model(subject, seed)
    cache = model.new_cache(2)
    for n_new in ([3, 1], [-1, 2], [1, 1, 1], [1]):
        assert _refused(model, _tokens(seed, 2, 2), cache, torch.tensor(n_new))
    for n_rows in (1, 3):
        assert _refused(model, _tokens(seed, n_rows, 2), cache)
    prompts, lengths = _tokens(seed, 2, 2), torch.tensor([2, 2])
    assert _refused(model.prefill, prompts, lengths, cache, chunk_size=-1)
    assert cache.lengths.tolist() == [0, 0]
    for wrong in ([[1], []], [[1, 13]], [[14, 1]], [[-1]]):
        assert _refused(subject.generate, model, wrong, max_new_tokens=2)
    assert _refused(subject.generate, model, [[1]], max_new_tokens=-1)
    q, k = torch.zeros(1, 3, 2, 4), torch.zeros(1, 2, 2, 4)
    assert _refused(subject.grouped_attention, q, k, k, torch.ones(1, 2, 2, dtype=torch.bool))
