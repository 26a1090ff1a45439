"""Exact attention, computed tile by tile.

No tile of scores outlives its step: a softmax that is corrected as larger scores turn up takes
the place of the full matrix. Partial results over different keys carry the logarithm of their
normaliser (`lse`) and can be merged, which is how long contexts are split over many workers and how
a prompt prefix that all sequences share is read once.

Shapes: B batch, H query heads, G key/value heads, Q and K lengths, D head dim, Dv value dim.
References: FlashAttention, Dao et al., arXiv:2205.14135; online softmax, Milakov and Gimelshein,
arXiv:1805.02867; attention states that merge, FlashInfer, Ye et al., arXiv:2501.01005.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NEG_INF = float("-inf")


def cdiv(a: int, b: int) -> int:
    """Return how many pieces of size b hold a things."""
    return -(-a // b)


# One tile.


def tile_scores(q: Tensor, k: Tensor, scale: float, softcap: float | None = None) -> Tensor:
    """Return the scores of a tile in float32: q [H, q, D], k [H, k, D] -> [H, q, k].

    A softcap keeps scores in (-softcap, softcap), as in Gemma 2.
    """
    scores = (q.float() @ k.float().transpose(-1, -2)) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    return scores


def tile_mask(
    q_pos: Tensor, k_pos: Tensor, *, causal: bool = True, window: int | None = None
) -> Tensor:
    """Say which keys of a tile a query may see: q_pos [q], k_pos [k] -> [q, k] bool.

    A window counts the query's own position and bounds how far back a query looks.
    """
    distance = q_pos[:, None] - k_pos[None, :]
    visible = torch.ones_like(distance, dtype=torch.bool)
    if causal:
        visible = visible & (distance >= 0)
    if window is not None:
        visible = visible & (distance < window)
    return visible


def kv_range(
    q_start: int, q_stop: int, kv_len: int, block_k: int, *, causal: bool, window: int | None
) -> tuple[int, int]:
    """Return the stretch of keys [start, stop) that queries at [q_start, q_stop) may need.

    The start is that of a tile. An empty stretch has start >= stop.

    >>> kv_range(9, 11, 16, 4, causal=True, window=5)
    (4, 11)
    """
    start = 0 if window is None else max(0, q_start - window + 1)
    stop = min(kv_len, q_stop) if causal else kv_len
    return start // block_k * block_k, stop


class OnlineSoftmax:
    """A softmax-weighted sum of values over keys that arrive tile by tile.

    Everything held is relative to the largest score so far, so that no exponential overflows.
    """

    def __init__(self, q: Tensor, v_dim: int) -> None:
        """Begin without a key, for queries [H, q, D] and values of v_dim."""
        rows, device = q.shape[:2], q.device
        self.running_max = torch.full(rows, NEG_INF, dtype=torch.float32, device=device)
        self.normalizer = torch.zeros(rows, dtype=torch.float32, device=device)
        self.accumulator = torch.zeros(*rows, v_dim, dtype=torch.float32, device=device)

    def update(self, scores: Tensor, v: Tensor) -> None:
        """Take in a tile: scores [H, q, k] float32, -inf where masked; v [H, k, Dv]."""
        new_max = torch.maximum(self.running_max, scores.amax(dim=-1))
        # What weights and sums are relative to, finite in every row: [H, q].
        shift = new_max.masked_fill(new_max == NEG_INF, 0.0)
        correction = torch.exp(self.running_max - shift)
        weights = torch.exp(scores - shift[..., None])
        self.normalizer = self.normalizer * correction + weights.sum(dim=-1)
        self.accumulator = self.accumulator * correction[..., None] + weights @ v.float()
        self.running_max = new_max

    def result(self) -> tuple[Tensor, Tensor]:
        """Return out [H, q, Dv] and lse [H, q]; rows without a key are 0 and -inf."""
        return _normalize(self.accumulator, self.normalizer, self.running_max)


def _normalize(weighted: Tensor, normalizer: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Divide sums of values [..., Dv] by their normaliser [...], both relative to exp(shift)."""
    out = weighted / normalizer.masked_fill(normalizer == 0, 1.0)[..., None]
    return out, shift + torch.log(normalizer)


# Whole sequences.


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    window: int | None = None,
    kv_lens: Tensor | Sequence[int] | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    sink: Tensor | None = None,
    block_q: int = 64,
    block_k: int = 64,
) -> tuple[Tensor, Tensor]:
    """Attend: q [B, H, Q, D], k [B, G, K, D], v [B, G, K, Dv] -> out [B, H, Q, Dv], lse [B, H, Q].

    Row b has kv_lens[b] keys (default K), and its queries are the last Q of these positions. What
    lies behind them is not read. `sink` [H] is a learned score per head that takes part in the
    softmax without a value. scale defaults to D ** -0.5. out has q's dtype, lse is float32; a query
    that sees no key gives zeros and, without a sink, -inf.
    """
    lens = _check_shapes(q, k, v, kv_lens)
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    out, lse = _attend(
        q,
        k,
        v,
        lens,
        causal=causal,
        window=window,
        softcap=softcap,
        scale=scale,
        block_q=block_q,
        block_k=block_k,
    )
    if sink is not None:
        out, lse = add_sink(out, lse, sink)
    return out.to(q.dtype), lse


def _attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lens: Sequence[int],
    *,
    causal: bool,
    window: int | None,
    softcap: float | None,
    scale: float | None,
    block_q: int,
    block_k: int,
) -> tuple[Tensor, Tensor]:
    """Attend as `flash_attention` does, without a sink: out and lse in float32."""
    if block_q < 1 or block_k < 1:
        raise ValueError(f"tiles of {block_q} queries and {block_k} keys hold nothing")
    if softcap is not None and softcap <= 0:
        raise ValueError(f"softcap must be > 0, got {softcap}")
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    n_seqs, n_heads, q_len, _ = q.shape
    groups = n_heads // k.shape[1]  # query heads to a key/value head
    out = torch.empty(*q.shape[:3], v.shape[-1], dtype=torch.float32, device=q.device)
    lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
    for b in range(n_seqs):
        offset = lens[b] - q_len  # position of the first query
        for q_start in range(0, q_len, block_q):
            q_stop = min(q_start + block_q, q_len)
            q_tile = q[b, :, q_start:q_stop]
            q_pos = torch.arange(q_start, q_stop, device=q.device) + offset
            softmax = OnlineSoftmax(q_tile, v.shape[-1])
            kv_start, kv_stop = kv_range(
                q_start + offset, q_stop + offset, lens[b], block_k, causal=causal, window=window
            )
            for k_start in range(kv_start, kv_stop, block_k):
                k_stop = min(k_start + block_k, kv_stop)
                # Each query head's own copy of the tile: [H, k, D] and [H, k, Dv].
                k_tile = k[b, :, k_start:k_stop].repeat_interleave(groups, dim=0)
                v_tile = v[b, :, k_start:k_stop].repeat_interleave(groups, dim=0)
                k_pos = torch.arange(k_start, k_stop, device=q.device)
                visible = tile_mask(q_pos, k_pos, causal=causal, window=window)
                scores = tile_scores(q_tile, k_tile, scale, softcap)
                softmax.update(scores.masked_fill(~visible, NEG_INF), v_tile)
            out[b, :, q_start:q_stop], lse[b, :, q_start:q_stop] = softmax.result()
    return out, lse


def add_sink(out: Tensor, lse: Tensor, sink: Tensor) -> tuple[Tensor, Tensor]:
    """Let a score without a value take its share: out [B, H, Q, Dv], lse [B, H, Q], sink [H]."""
    if sink.shape != out.shape[1:2]:
        raise ValueError(f"sink must have shape [{out.shape[1]}], got {list(sink.shape)}")
    total = torch.logaddexp(lse, sink.float()[None, :, None])
    return out * torch.exp(lse - total)[..., None].to(out.dtype), total


def _check_shapes(
    q: Tensor, k: Tensor, v: Tensor, kv_lens: Tensor | Sequence[int] | None
) -> list[int]:
    """Refuse what does not fit together, and return the number of keys of each row."""
    if q.shape[1] % k.shape[1] != 0:
        raise ValueError(f"{q.shape[1]} query heads cannot share {k.shape[1]} key/value heads")
    if k.shape[:3] != v.shape[:3] or (k.shape[0], k.shape[3]) != (q.shape[0], q.shape[3]):
        shapes = [list(x.shape) for x in (q, k, v)]
        raise ValueError(f"q, k and v do not fit together: {shapes}")
    if kv_lens is None:
        return [k.shape[2]] * q.shape[0]
    lens = [int(n) for n in kv_lens]
    if len(lens) != q.shape[0] or min(lens) < 0 or max(lens) > k.shape[2]:
        raise ValueError(f"kv_lens must be {q.shape[0]} numbers in [0, {k.shape[2]}], got {lens}")
    return lens


# Partial results.


def merge_partials(outs: Tensor, lses: Tensor) -> tuple[Tensor, Tensor]:
    """Merge results over disjoint sets of keys into the result over all of them.

    outs [P, B, H, Q, Dv] in any dtype, lses [P, B, H, Q] -> out [B, H, Q, Dv], lse [B, H, Q].
    """
    top = lses.amax(dim=0)
    shift = top.masked_fill(top == NEG_INF, 0.0)
    weights = torch.exp(lses - shift)
    weighted = (weights[..., None] * outs.float()).sum(dim=0)
    out, lse = _normalize(weighted, weights.sum(dim=0), shift)
    return out.to(outs.dtype), lse


def split_kv_decode(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    n_splits: int,
    *,
    kv_lens: Tensor | Sequence[int] | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    sink: Tensor | None = None,
    block_k: int = 64,
) -> tuple[Tensor, Tensor]:
    """Attend from one query per row, with the keys cut into n_splits runs of about equal length.

    q [B, H, 1, D], otherwise as `flash_attention`. On a GPU the runs are independent work.
    """
    if q.shape[2] != 1:
        raise ValueError(f"split_kv_decode takes one query per row, got {q.shape[2]}")
    if n_splits < 1:
        raise ValueError(f"n_splits must be at least 1, got {n_splits}")
    lens = _check_shapes(q, k, v, kv_lens)
    kv_len = k.shape[2]
    split = cdiv(kv_len, n_splits)
    outs: list[Tensor] = []
    lses: list[Tensor] = []
    for start in range(0, kv_len, split):
        stop = min(start + split, kv_len)
        part, part_lse = _attend(
            q,
            k[:, :, start:stop],
            v[:, :, start:stop],
            [min(max(n - start, 0), stop - start) for n in lens],
            causal=False,
            window=None,
            softcap=softcap,
            scale=scale,
            block_q=1,
            block_k=block_k,
        )
        outs.append(part)
        lses.append(part_lse)
    out, lse = merge_partials(torch.stack(outs), torch.stack(lses))
    if sink is not None:
        out, lse = add_sink(out, lse, sink)
    return out.to(q.dtype), lse


def shared_prefix_attention(
    q: Tensor,
    k_prefix: Tensor,
    v_prefix: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    kv_lens: Tensor | Sequence[int] | None = None,
    softcap: float | None = None,
    scale: float | None = None,
    block_q: int = 64,
    block_k: int = 64,
) -> tuple[Tensor, Tensor]:
    """Attend to a prefix that all rows share and, causally, to each row's own keys behind it.

    k_prefix [G, P, D], v_prefix [G, P, Dv]; otherwise as `flash_attention`, whose kv_lens count the
    own keys alone. The queries of all rows go over the prefix together, as one long row.
    """
    n_seqs, n_heads, q_len, head_dim = q.shape
    lens = _check_shapes(q, k, v, kv_lens)
    together = q.transpose(0, 1).reshape(1, n_heads, n_seqs * q_len, head_dim)
    prefix_lens = _check_shapes(together, k_prefix[None], v_prefix[None], None)
    prefix, prefix_lse = _attend(
        together,
        k_prefix[None],
        v_prefix[None],
        prefix_lens,
        causal=False,
        window=None,
        softcap=softcap,
        scale=scale,
        block_q=block_q,
        block_k=block_k,
    )
    prefix = prefix.reshape(n_heads, n_seqs, q_len, -1).transpose(0, 1)
    prefix_lse = prefix_lse.reshape(n_heads, n_seqs, q_len).transpose(0, 1)
    own, own_lse = _attend(
        q,
        k,
        v,
        lens,
        causal=True,
        window=None,
        softcap=softcap,
        scale=scale,
        block_q=block_q,
        block_k=block_k,
    )
    out, lse = merge_partials(torch.stack([prefix, own]), torch.stack([prefix_lse, own_lse]))
    return out.to(q.dtype), lse
