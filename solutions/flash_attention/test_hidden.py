"""What flash attention promises: `subject` is the file under test, `seed` differs between runs.

The oracle is attention over the full matrix of scores in double precision.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

INF = math.inf


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _qkv(
    seed: int,
    q_len: int,
    kv_len: int,
    *,
    b: int = 2,
    h: int = 4,
    g: int = 2,
    d: int = 4,
    dv: int = 3,
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        _randn(seed, b, h, q_len, d),
        _randn(seed + 1, b, g, kv_len, d),
        _randn(seed + 2, b, g, kv_len, dv),
    )


def _integers(seed: int, *shape: int) -> Tensor:
    """Return small whole numbers, whose products are exact in any precision."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)).float()


def _dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    kv_lens: Sequence[int] | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    sink: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return out [B, H, Q, Dv] and lse [B, H, Q] in float64."""
    n_seqs, n_heads, q_len, head_dim = q.shape
    out = torch.zeros(n_seqs, n_heads, q_len, v.shape[-1], dtype=torch.float64)
    lse = torch.full((n_seqs, n_heads, q_len), -INF, dtype=torch.float64)
    for b, h in itertools.product(range(n_seqs), range(n_heads)):
        n = k.shape[2] if kv_lens is None else kv_lens[b]
        g = h // (n_heads // k.shape[1])
        scores = q[b, h].double() @ k[b, g, :n].double().T
        scores = scores * (1 / math.sqrt(head_dim) if scale is None else scale)
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        seen = [[_sees(i, j, causal, window) for j in range(n)] for i in range(n - q_len, n)]
        scores = scores.masked_fill(~torch.tensor(seen, dtype=torch.bool), -INF)
        terms = [scores, torch.full((q_len, 1), -INF if sink is None else float(sink[h]))]
        lse[b, h] = torch.logsumexp(torch.cat(terms, dim=1), dim=1)
        weights = torch.exp(scores - lse[b, h, :, None]).nan_to_num(0.0)
        out[b, h] = weights @ v[b, g, :n].double()
    return out, lse


def _sees(q_pos: int, k_pos: int, causal: bool, window: int | None) -> bool:
    return (not causal or k_pos <= q_pos) and (window is None or q_pos - k_pos < window)


def _behind(prefix: Sequence[Tensor], own: Sequence[Tensor]) -> list[Tensor]:
    """Return keys and values of which each row begins with the same prefix."""
    n_seqs = len(own[0])
    copies = [x.expand(n_seqs, -1, -1, -1) for x in prefix]
    return [torch.cat(pair, dim=2) for pair in zip(copies, own, strict=True)]


def _assert_same(
    got: Any, want: tuple[Tensor, Tensor], *, rtol: float = 1e-5, atol: float = 1e-5
) -> None:
    """Compare out and lse; both come in float32."""
    out, lse = got
    assert (out.dtype, lse.dtype) == (torch.float32, torch.float32)
    assert (out.shape, lse.shape) == (want[0].shape, want[1].shape)
    torch.testing.assert_close(out.double(), want[0], rtol=rtol, atol=atol)
    torch.testing.assert_close(lse.double(), want[1], rtol=rtol, atol=atol)


# ----- tiles


@pytest.mark.symptom("Answers change with the tuning of the attention kernel.")
def test_the_result_does_not_depend_on_the_tiles(subject: Any, seed: int) -> None:
    """Any tile sizes, dividing the lengths or not, give exact attention and its log-normaliser."""
    q, k, v = _qkv(seed, 7, 7)
    want = _dense(q, k, v)
    for block_q, block_k in [(1, 1), (2, 3), (3, 2), (7, 7), (4, 1), (1, 5), (6, 4), (99, 99)]:
        got = subject.flash_attention(q, k, v, block_q=block_q, block_k=block_k)
        assert subject.mutated == ()
        _assert_same(got, want)
    _assert_same(subject.flash_attention(q, k, v), want)
    q, k, v = _qkv(seed, 2, 3, b=7)  # more rows than heads and dims
    _assert_same(subject.flash_attention(q, k, v), _dense(q, k, v))
    q, k, v = _qkv(seed, 66, 130, b=1, h=1, g=1)
    _assert_same(subject.flash_attention(q, k, v), _dense(q, k, v))


@pytest.mark.symptom("Some prompts make the model fall silent or repeat one word.")
def test_scores_may_grow_and_shrink_from_tile_to_tile(subject: Any, seed: int) -> None:
    """Rising, falling and jumping scores, far beyond what an exponential holds, are handled."""
    q = torch.ones(1, 1, 3, 1)
    v = _randn(seed, 1, 1, 8, 3)
    ladders = [
        [0, 2, 4, 6, 8, 10, 12, 14],
        [14, 12, 10, 8, 6, 4, 2, 0],
        [1, 12, -3, 11, 12, 2, 13, 12],
        [-900, -901, -899, -902, -898, -899, -900, -901],
        [500, 501, 200, 502, -500, 503, 502, 501],
        [-1000, 0, 1000, 0, 1000, -1000, 999, 999],
    ]
    for ladder in ladders:
        k = torch.tensor(ladder, dtype=torch.float32).reshape(1, 1, 8, 1)
        for block_k, window in [(1, None), (3, None), (8, None), (2, 1)]:
            got = subject.flash_attention(q, k, v, window=window, block_q=3, block_k=block_k)
            _assert_same(got, _dense(q, k, v, window=window), rtol=1e-4, atol=1e-4)


@pytest.mark.symptom("Attention kernels of other teams disagree with ours in rare rows.")
def test_the_online_softmax_takes_tiles_in_any_cut(subject: Any, seed: int) -> None:
    """Fed any sequence of tiles, empty rows included, the state gives softmax over all of them."""
    scores = 5.0 * _randn(seed, 2, 4, 9)
    v = _randn(seed + 1, 2, 9, 3)
    scores[:, 0, :5] = -INF
    scores[:, 0, 5:] -= 500.0
    scores[:, 1] = -INF
    scores[1, 2, 3:] = -INF
    lse = torch.logsumexp(scores.double(), dim=-1)
    weights = torch.exp(scores.double() - lse[..., None]).nan_to_num(0.0)
    for cuts in ([0, 9], [0, 2, 5, 9], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]):
        state = subject.OnlineSoftmax(torch.zeros(2, 4, 5), 3)
        for start, stop in itertools.pairwise(cuts):
            state.update(scores[..., start:stop], v[:, start:stop])
        want = (weights @ v.double(), lse)
        _assert_same(state.result(), want, rtol=1e-4, atol=1e-4)
    fresh = subject.OnlineSoftmax(torch.zeros(1, 2, 5), 3).result()
    _assert_same(fresh, (torch.zeros(1, 2, 3).double(), torch.full((1, 2), -INF).double()))


@pytest.mark.symptom("Long prompts lose parts of their context in attention.")
def test_the_range_of_keys_covers_what_queries_see(subject: Any) -> None:
    """From the tile of the oldest key that any query sees, up to the newest that any sees."""
    cases = [
        *itertools.product([(0, 1), (3, 5), (9, 11)], [0, 3], [4], [None, 1, 4, 6], [True, False]),
        *itertools.product([(7, 9), (8, 12)], [1], [1, 3], [2, 5], [True]),
    ]
    for (q_start, q_stop), behind, block_k, window, causal in cases:
        kv_len = q_stop + behind
        pairs = itertools.product(range(q_start, q_stop), range(kv_len))
        seen = [j for i, j in pairs if _sees(i, j, causal, window)]
        start, stop = subject.kv_range(
            q_start, q_stop, kv_len, block_k, causal=causal, window=window
        )
        assert start == min(seen) // block_k * block_k
        assert stop == max(seen) + 1
    start, stop = subject.kv_range(-3, 0, 4, 2, causal=True, window=2)
    assert start >= stop


@pytest.mark.symptom("Splitting the keys leaves some of them out, or makes empty parts.")
def test_pieces_are_as_many_as_the_things_need(subject: Any) -> None:
    """cdiv(a, b) pieces of size b hold a things, and one piece less does not."""
    for a, b in [(0, 4), (1, 4), (4, 4), (5, 4), (8, 4), (9, 4), (3, 1), (7, 5), (2, 9)]:
        pieces = subject.cdiv(a, b)
        assert (pieces - 1) * b < a <= pieces * b


# ----- masks


@pytest.mark.symptom("Continuing a cached prompt gives other words than feeding it at once.")
def test_queries_are_the_last_positions(subject: Any, seed: int) -> None:
    """Queries fewer than the keys are the newest tokens: the last query belongs to the last key."""
    for q_len, kv_len in [(1, 1), (1, 9), (3, 9), (4, 8), (5, 6)]:
        q, k, v = _qkv(seed, q_len, kv_len)
        for block_q, block_k in [(2, 3), (3, 2), (4, 4)]:
            got = subject.flash_attention(q, k, v, block_q=block_q, block_k=block_k)
            _assert_same(got, _dense(q, k, v))
        got = subject.flash_attention(q, k, v, causal=False, block_q=2, block_k=3)
        _assert_same(got, _dense(q, k, v, causal=False))


@pytest.mark.symptom("A sliding-window model remembers one token too many or too few.")
def test_a_window_holds_exactly_its_last_keys(subject: Any, seed: int) -> None:
    """However window and tiles lie, a query sees its last W positions, itself included."""
    for q_len, kv_len, block_q, block_k in [(9, 9, 4, 2), (6, 11, 3, 4), (2, 10, 2, 3)]:
        q, k, v = _qkv(seed, q_len, kv_len)
        for window in (1, 2, 3, 4, 5, 30):
            got = subject.flash_attention(q, k, v, window=window, block_q=block_q, block_k=block_k)
            _assert_same(got, _dense(q, k, v, window=window))


@pytest.mark.symptom("An encoder with local attention looks in the wrong places.")
def test_a_window_without_causality_bounds_the_past_alone(subject: Any, seed: int) -> None:
    """Without causality a query sees everything after it, and W positions up to itself."""
    q, k, v = _qkv(seed, 5, 9)
    for window in (1, 3, 6, 20):
        got = subject.flash_attention(q, k, v, causal=False, window=window, block_q=2, block_k=3)
        _assert_same(got, _dense(q, k, v, causal=False, window=window))
    q_pos, k_pos = torch.tensor([4, 1]), torch.tensor([0, 1, 3, 4, 6])
    for causal, limit in [(True, None), (True, 2), (False, 2), (False, None), (True, 1)]:
        want = [[_sees(i, j, causal, limit) for j in k_pos.tolist()] for i in q_pos.tolist()]
        got = subject.tile_mask(q_pos, k_pos, causal=causal, window=limit)
        assert got.bool().tolist() == want
    want = [[_sees(i, j, True, None) for j in k_pos.tolist()] for i in q_pos.tolist()]
    assert subject.tile_mask(q_pos, k_pos).bool().tolist() == want


@pytest.mark.symptom("In a batch of unequal lengths short requests get strange answers.")
def test_keys_beyond_a_row_s_length_do_not_exist(subject: Any, seed: int) -> None:
    """Each row has its own number of keys; what lies behind them, NaN included, has no effect."""
    q, k, v = _qkv(seed, 3, 10, b=4)
    lens = [10, 3, 6, 7]
    for b, n in enumerate(lens):
        k[b, :, n:] = math.nan
        v[b, :, n:] = math.nan
    for causal, window in [(True, None), (True, 2), (False, None)]:
        want = _dense(q, k, v, causal=causal, window=window, kv_lens=lens)
        for kv_lens in (lens, torch.tensor(lens)):
            got = subject.flash_attention(
                q, k, v, causal=causal, window=window, kv_lens=kv_lens, block_q=2, block_k=4
            )
            _assert_same(got, want)


@pytest.mark.symptom("An empty slot in the batch fills the whole batch with NaN.")
def test_a_query_without_keys_gives_zeros(subject: Any, seed: int) -> None:
    """A query that sees no key has output zero and log-normaliser -inf, others are unaffected."""
    q, k, v = _qkv(seed, 5, 6, b=3)
    for causal, window in [(True, None), (True, 1), (False, None), (False, 3)]:
        want = _dense(q, k, v, causal=causal, window=window, kv_lens=[2, 0, 6])
        assert bool((want[1] == -INF).any())
        for block_q, block_k in [(2, 2), (5, 6), (1, 1), (3, 4)]:
            got = subject.flash_attention(
                q,
                k,
                v,
                causal=causal,
                window=window,
                kv_lens=[2, 0, 6],
                block_q=block_q,
                block_k=block_k,
            )
            _assert_same(got, want)


# ----- scores


@pytest.mark.symptom("A model with grouped-query attention talks nonsense from the first word.")
def test_neighbouring_query_heads_share_a_key_value_head(subject: Any, seed: int) -> None:
    """Query head h reads key/value head h // (H / G), for one, some and all heads."""
    for h, g in [(6, 2), (6, 3), (4, 1), (3, 3)]:
        q, k, v = _qkv(seed, 4, 5, h=h, g=g)
        _assert_same(subject.flash_attention(q, k, v, block_q=3, block_k=2), _dense(q, k, v))
        got = subject.split_kv_decode(q[:, :, -1:], k, v, 2)
        _assert_same(got, _dense(q[:, :, -1:], k, v))


@pytest.mark.symptom("Attention is too sharp or too flat for models with unusual head sizes.")
def test_scores_are_scaled(subject: Any, seed: int) -> None:
    """Scores are scaled by D ** -0.5, whatever the value dim, or by the number that is given."""
    for d, dv in [(4, 9), (9, 4)]:
        q, k, v = _qkv(seed, 4, 5, d=d, dv=dv)
        prefix = (_randn(seed + 7, 2, 3, d), _randn(seed + 8, 2, 3, dv))
        joined = _behind(prefix, (k, v))
        for scale in (None, 1.0, 0.125):
            want = _dense(q, k, v, scale=scale)
            _assert_same(subject.flash_attention(q, k, v, scale=scale, block_k=2), want)
            got = subject.split_kv_decode(q[:, :, -1:], k, v, 2, scale=scale)
            _assert_same(got, (want[0][:, :, -1:], want[1][:, :, -1:]))
            got = subject.shared_prefix_attention(q, *prefix, k, v, scale=scale)
            _assert_same(got, _dense(q, *joined, scale=scale))


@pytest.mark.symptom("Gemma-like models get worse with long prompts or unusual inputs.")
def test_a_softcap_bounds_scores_and_leaves_masks_alone(subject: Any, seed: int) -> None:
    """Scores become cap * tanh(score / cap); keys that are masked stay without weight."""
    q, k, v = _qkv(seed, 5, 8)
    q = 4 * q
    prefix = (_randn(seed + 7, 2, 3, 4), _randn(seed + 8, 2, 3, 3))
    joined = _behind(prefix, (k, v))
    for softcap in (0.5, 3.0, 50.0):
        for causal, window in [(True, None), (True, 2), (False, None)]:
            got = subject.flash_attention(
                q, k, v, causal=causal, window=window, softcap=softcap, block_q=2, block_k=3
            )
            _assert_same(got, _dense(q, k, v, causal=causal, window=window, softcap=softcap))
        got = subject.split_kv_decode(q[:, :, :1], k, v, 3, kv_lens=[8, 5], softcap=softcap)
        _assert_same(got, _dense(q[:, :, :1], k, v, kv_lens=[8, 5], softcap=softcap))
        got = subject.shared_prefix_attention(q, *prefix, k, v, softcap=softcap)
        _assert_same(got, _dense(q, *joined, softcap=softcap))
    scores = subject.tile_scores(q[0, :2], k[0], 100.0, 3.0)
    assert float(scores.abs().max()) <= 3.0
    torch.testing.assert_close(
        subject.tile_scores(q[0, :2], k[0], 0.5),
        (0.5 * q[0, :2].double() @ k[0].double().transpose(1, 2)).float(),
    )


@pytest.mark.symptom("Models with attention sinks answer worse, most of all on short prompts.")
def test_a_sink_takes_its_share_once(subject: Any, seed: int) -> None:
    """A sink adds one score per head to the softmax and no value, however the keys are split."""
    q, k, v = _qkv(seed, 4, 9)
    sink = torch.tensor([-2.0, 0.0, 1.5, 30.0])
    for kv_lens, given in [([9, 9], sink), ([6, 2], sink.double())]:
        want = _dense(q, k, v, kv_lens=kv_lens, sink=sink)
        got = subject.flash_attention(q, k, v, kv_lens=kv_lens, sink=given, block_q=3, block_k=2)
        _assert_same(got, want)
    want = _dense(q[:, :, :1], k, v, sink=sink)
    for n_splits in (1, 3, 4):
        got = subject.split_kv_decode(q[:, :, :1], k, v, n_splits, sink=sink)
        _assert_same(got, want)


@pytest.mark.symptom("In bfloat16 and float16 answers are worse than the format explains.")
def test_low_precision_costs_little(subject: Any, seed: int) -> None:
    """With 16-bit inputs out has their dtype and the error of one rounding, lse is float32."""
    for dtype in (torch.bfloat16, torch.float16):
        eps = torch.finfo(dtype).eps
        q, k, v = (x.to(dtype) for x in _qkv(seed, 6, 9, dv=12))
        prefix = [x[0].flip(1) for x in (k, v)]
        joined = _behind(prefix, (k, v))
        last = q[:, :, -1:]
        pairs = [
            (subject.flash_attention(q, k, v, block_q=4, block_k=2), _dense(q, k, v)),
            (subject.split_kv_decode(last, k, v, 4), _dense(last, k, v)),
            (subject.shared_prefix_attention(q, *prefix, k, v), _dense(q, *joined)),
        ]
        for (out, lse), want in pairs:
            assert (out.dtype, lse.dtype) == (dtype, torch.float32)
            torch.testing.assert_close(out.double(), want[0], rtol=0.51 * eps, atol=0.02 * eps)
            torch.testing.assert_close(lse.double(), want[1], rtol=1e-5, atol=1e-5)


@pytest.mark.symptom("In 16 bits an answer gets noisier the more pieces its context is cut into.")
def test_parts_that_nearly_cancel_leave_an_exact_rest(subject: Any, seed: int) -> None:
    """In 16 bits parts with large values of opposite sign leave their sum to one rounding."""
    for dtype in (torch.bfloat16, torch.float16):
        eps = torch.finfo(dtype).eps
        q, k, v = _qkv(seed, 1, 8)
        k[:, :, 4:] = k[:, :, :4]  # both halves have the same weights
        v[:, :, :4] += 50.0
        v[:, :, 4:] -= 50.0
        q, k, v = (x.to(dtype) for x in (q, k, v))
        k[1], v[1] = k[0], v[0]
        own = (k[:, :, 4:], v[:, :, 4:])
        for out, _ in (
            subject.split_kv_decode(q, k, v, 2),
            subject.shared_prefix_attention(q, k[0, :, :4], v[0, :, :4], *own),
            subject.flash_attention(q, k, v, block_k=4),
        ):
            want = _dense(q, k, v)[0]
            torch.testing.assert_close(out.double(), want, rtol=0.6 * eps, atol=2e-4)


@pytest.mark.symptom("For some inputs a 16-bit model answers with nothing but NaN.")
def test_large_scores_do_no_harm(subject: Any) -> None:
    """Scores beyond what float16 or an exponential can hold give the right weights all the same."""
    for dtype, size in [(torch.float16, 64), (torch.float32, 32)]:
        # Whole numbers times a power of two: scores are exact, so that ties stay ties.
        q = (_integers(0, 1, 4, 5, 4) * size).to(dtype)
        k = (_integers(1, 1, 2, 9, 4) * size).to(dtype)
        v = _integers(2, 1, 2, 9, 3).to(dtype)
        got = subject.flash_attention(q, k, v, block_q=2, block_k=2)
        want = _dense(q, k, v)
        torch.testing.assert_close(got[0].double(), want[0], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(got[1].double(), want[1], rtol=1e-5, atol=1e-3)
        got = subject.split_kv_decode(q[:, :, -1:], k, v, 5, block_k=1)
        torch.testing.assert_close(got[0].double(), want[0][:, :, -1:], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(got[1].double(), want[1][:, :, -1:], rtol=1e-5, atol=1e-3)


# ----- partial results


@pytest.mark.symptom("Answers differ when attention is spread over several devices.")
def test_partial_results_merge_into_the_whole(subject: Any, seed: int) -> None:
    """Results over disjoint keys give the full result, for any size of scores and empty parts."""
    for size in (1.0, 30.0):
        q, k, v = _qkv(seed, 3, 12)
        q = size * q
        want = _dense(q, k, v, causal=False)
        for cuts in ([0, 12], [0, 5, 12], [0, 1, 2, 9, 12], [0, 4, 4, 12]):
            parts = [
                _dense(q, k[:, :, a:b], v[:, :, a:b], causal=False)
                for a, b in itertools.pairwise(cuts)
            ]
            outs, lses = (torch.stack([p[j] for p in parts]).float() for j in (0, 1))
            got = subject.merge_partials(outs, lses)
            assert subject.mutated == ()
            _assert_same(got, want, rtol=1e-4, atol=1e-4)
    for shift in (-5000.0, 200.0, 5000.0):
        lses = torch.tensor([[0.5, -INF, -INF], [-1.0, 2.0, -INF]])[:, None, None] + shift
        outs = _randn(seed, 2, 1, 1, 3, 4)
        outs[0, ..., 1, :] = outs[:, ..., 2, :] = 0.0
        share = 1 / (1 + math.exp(-1.5))
        want_out = torch.zeros(1, 1, 3, 4)
        want_out[..., 0, :] = share * outs[0, ..., 0, :] + (1 - share) * outs[1, ..., 0, :]
        want_out[..., 1, :] = outs[1, ..., 1, :]
        want_lse = [shift + math.log(math.exp(0.5) + math.exp(-1.0)), shift + 2.0, -INF]
        got = subject.merge_partials(outs, lses)
        torch.testing.assert_close(got[0], want_out, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(got[1], torch.tensor([[want_lse]]), rtol=1e-6, atol=1e-5)
    out, _ = subject.merge_partials(outs.to(torch.bfloat16), lses)
    assert out.dtype == torch.bfloat16


@pytest.mark.symptom("With long contexts decoding differs from the same text in one pass.")
def test_split_decoding_is_decoding(subject: Any, seed: int) -> None:
    """Any number of splits, dividing the keys or not, gives attention over each row's own keys."""
    q, k, v = _qkv(seed, 1, 10, b=4)
    lens = [10, 1, 7, 0]
    for b, n in enumerate(lens):
        k[b, :, n:] = math.nan
        v[b, :, n:] = math.nan
    want = _dense(q, k, v, kv_lens=lens)
    for n_splits in (1, 2, 3, 4, 7, 10, 13):
        for kv_lens in (lens, torch.tensor(lens)):
            got = subject.split_kv_decode(q, k, v, n_splits, kv_lens=kv_lens, block_k=2)
            _assert_same(got, want)
    got = subject.split_kv_decode(q[:1], k[:1], v[:1], 3)
    _assert_same(got, (want[0][:1], want[1][:1]))


@pytest.mark.symptom("Requests with a common system prompt get each other's answers.")
def test_a_shared_prefix_counts_for_every_row(subject: Any, seed: int) -> None:
    """A prefix given once is as good as the same prefix in front of every row's own keys."""
    k_prefix, v_prefix = _randn(seed + 5, 2, 5, 4), _randn(seed + 6, 2, 5, 3)
    for q_len, kv_len, lens in [(3, 7, [7, 7, 7]), (2, 6, [6, 2, 4]), (1, 1, [1, 1, 1])]:
        q, k, v = _qkv(seed, q_len, kv_len, b=3)
        got = subject.shared_prefix_attention(
            q, k_prefix, v_prefix, k, v, kv_lens=lens, block_q=2, block_k=3
        )
        assert subject.mutated == ()
        for b, n in enumerate(lens):
            row = [
                torch.cat([prefix, own[b, :, :n]], dim=1)[None]
                for prefix, own in [(k_prefix, k), (v_prefix, v)]
            ]
            _assert_same([x[b : b + 1] for x in got], _dense(q[b : b + 1], *row))


# ----- the rest


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """A different default device changes nothing for inputs that lie where they lie."""
    q, k, v = _qkv(seed, 3, 7)
    last, sink = q[:, :, -1:], torch.zeros(4)
    try:
        with subject.accelerator():
            whole = subject.flash_attention(q, k, v, window=4, kv_lens=[7, 5], sink=sink, block_k=2)
            split = subject.split_kv_decode(last, k, v, 3, kv_lens=[7, 5])
            shared = subject.shared_prefix_attention(q, k[0], v[0], k, v)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    _assert_same(whole, _dense(q, k, v, window=4, kv_lens=[7, 5], sink=sink))
    _assert_same(split, _dense(last, k, v, kv_lens=[7, 5]))
    joined = _behind((k[0], v[0]), (k, v))
    _assert_same(shared, _dense(q, *joined))


@pytest.mark.symptom("A wrong model configuration goes unnoticed until answers are garbage.")
def test_misuse_is_refused(subject: Any, seed: int) -> None:
    """Shapes that do not fit and settings out of range raise ValueError."""
    q, k, v = _qkv(seed, 2, 4)
    wrong: list[tuple[tuple[Tensor, ...], dict[str, Any]]] = [
        ((q[:, :3], k, v), {}),
        ((q, k, v[:, :, :3]), {}),
        ((q, k[:, :, :3], v), {}),
        ((q, k, v[:1]), {}),
        ((q, k[:1], v), {}),
        ((q, k[..., :3], v), {}),
        ((q[..., :3], k, v), {}),
        ((q[:1], k, v), {}),
        ((q, k[:1], v[:1]), {}),
        ((q, k, v), {"block_q": 0}),
        ((q, k, v), {"block_k": 0}),
        ((q, k, v), {"window": 0}),
        ((q, k, v), {"softcap": 0.0}),
        ((q, k, v), {"softcap": -1.0}),
        ((q, k, v), {"kv_lens": [4, 5]}),
        ((q, k, v), {"kv_lens": [4, -1]}),
        ((q, k, v), {"kv_lens": [4]}),
        ((q, k, v), {"kv_lens": [4, 4, 4]}),
        ((q, k, v), {"sink": torch.zeros(2)}),
        ((q, k, v), {"sink": torch.zeros(6)}),
    ]
    for tensors, how in wrong:
        with pytest.raises(ValueError, match=r"."):
            subject.flash_attention(*tensors, **how)
    last = q[:, :, :1]
    calls = [(q, 2, [4, 4]), (last[:, :, :0], 2, [4, 4]), (last, 0, [4, 4]), (last, 2, [4, 5])]
    for queries, n_splits, lens in calls:
        with pytest.raises(ValueError, match=r"."):
            subject.split_kv_decode(queries, k, v, n_splits, kv_lens=lens)
    for prefix in [(k[0, :1].repeat(3, 1, 1), v[0, :1].repeat(3, 1, 1)), (k[0], v[0, :, :3])]:
        with pytest.raises(ValueError, match=r"."):
            subject.shared_prefix_attention(q, *prefix, k, v)
