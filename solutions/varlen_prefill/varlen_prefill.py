"""Prefill of prompts of unequal lengths, packed one behind the other into a single row.

Nothing is computed for padding: the boundaries `cu`, the cumulative lengths, tell the sequences of
a row apart, and sequence i owns rows [cu[i], cu[i + 1]). Prompts that are too long for one step are
cut into chunks, whose queries attend to what earlier steps have left in a cache.

Shapes: B sequences, N rows of a packed row, S the longest sequence, H query heads, G key/value
heads, D head dim, Dv value dim, M model dim.
References: FlashAttention-2 (variable lengths), arXiv:2307.08691; sequence packing, Krell et al.,
arXiv:2107.02027; Sarathi-Serve (chunked prefill under a token budget), arXiv:2403.02310.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PAD = -1  # the sequence of a row that belongs to none

Span = tuple[int, int, int]  # sequence, start, stop: tokens [start, stop) of a sequence
Step = list[Span]  # what is computed together; a sequence has at most one span in it


# Boundaries.


def cu_seqlens(lengths: Tensor) -> Tensor:
    """Return the boundaries of sequences one behind the other: lengths [B] -> [B + 1] int64.

    >>> cu_seqlens(torch.tensor([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    return F.pad(lengths.cumsum(dim=0), (1, 0))


def ragged_arange(cu: Tensor) -> Tensor:
    """Count from 0 within each sequence: cu [B + 1] -> [N] int64, N = cu[B].

    >>> ragged_arange(torch.tensor([0, 2, 2, 5])).tolist()
    [0, 1, 0, 1, 2]
    """
    row = torch.arange(int(cu[-1]), device=cu.device)
    return row - cu[:-1].repeat_interleave(cu.diff())


def last_token_rows(cu: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row of each sequence's last token, from which the next one is sampled: [n] int64.

    The second tensor [n] names the sequences; those without a token have no such row.
    """
    lengths = cu.diff()
    seqs = (lengths > 0).nonzero().flatten()
    return cu[1:][seqs] - 1, seqs


# Packing.


@dataclass(frozen=True, slots=True)
class Packed:
    """The tokens of B sequences as N rows; rows behind cu[B] are padding."""

    tokens: Tensor  # [N] int64
    cu: Tensor  # [B + 1] int64
    positions: Tensor  # [N] int64, place of each token in its own sequence; 0 for padding
    seq_ids: Tensor  # [N] int64, the sequence of each token; PAD for padding

    @property
    def n_seqs(self) -> int:
        """Return B."""
        return len(self.cu) - 1

    @property
    def n_tokens(self) -> int:
        """Return the number of rows that are not padding."""
        return int(self.cu[-1])


def pack(
    sequences: Sequence[Tensor],
    offsets: Sequence[int] | None = None,
    *,
    multiple_of: int = 1,
    pad_id: int = 0,
) -> Packed:
    """Pack token ids, each [n] int64; the first offsets[i] tokens of sequence i came before these.

    The row is filled up with pad_id to a multiple of `multiple_of`, as some kernels want it.
    """
    if offsets is None:
        offsets = [0] * len(sequences)
    if not sequences or len(offsets) != len(sequences):
        raise ValueError(f"{len(sequences)} sequences with {len(offsets)} offsets")
    if min(offsets) < 0:
        raise ValueError(f"offsets must not be negative, got {list(offsets)}")
    if multiple_of < 1:
        raise ValueError(f"multiple_of must be at least 1, got {multiple_of}")
    tokens = torch.cat(list(sequences))
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=tokens.device)
    starts = torch.tensor(offsets, device=tokens.device)
    cu = cu_seqlens(lengths)
    positions = ragged_arange(cu) + starts.repeat_interleave(lengths)
    seq_ids = torch.arange(len(lengths), device=tokens.device).repeat_interleave(lengths)
    n_padding = -len(tokens) % multiple_of
    return Packed(
        tokens=F.pad(tokens, (0, n_padding), value=pad_id),
        cu=cu,
        positions=F.pad(positions, (0, n_padding)),
        seq_ids=F.pad(seq_ids, (0, n_padding), value=PAD),
    )


def unpack(x: Tensor, cu: Tensor) -> list[Tensor]:
    """Return the rows of each sequence, without padding: x [N, ...] -> B of [n, ...]."""
    n_rows: list[int] = cu.diff().tolist()
    return list(torch.split(x[: sum(n_rows)], n_rows))


def pad_packed(x: Tensor, cu: Tensor, fill: float = 0.0) -> Tensor:
    """Give each sequence a row of its own, padded on the right: x [N, ...] -> [B, S, ...]."""
    lengths = cu.diff()
    longest = int(lengths.max())
    real = torch.arange(longest, device=x.device) < lengths[:, None]
    out = x.new_full((len(lengths), longest, *x.shape[1:]), fill)
    out[real] = x[: int(cu[-1])]
    return out


def unpad(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Pack rows that are padded on the right: x [B, S, ...], lengths [B] -> [N, ...] and cu."""
    if ((lengths < 0) | (lengths > x.shape[1])).any():
        raise ValueError(f"lengths {lengths.tolist()} do not fit into {x.shape[1]} columns")
    real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
    return x[real], cu_seqlens(lengths)


# Attention.


def causal_mask(q_pos: Tensor, k_pos: Tensor, window: int | None = None) -> Tensor:
    """Say which keys each query of one sequence may see: q_pos [Q], k_pos [K] -> [Q, K] bool.

    A query sees itself and what came before it, with a window only its last `window` positions.
    """
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    query, key = q_pos[:, None], k_pos[None, :]
    visible = key <= query
    if window is not None:
        visible = visible & (query - key < window)
    return visible


def block_diagonal_mask(
    q_ids: Tensor, q_pos: Tensor, k_ids: Tensor, k_pos: Tensor, window: int | None = None
) -> Tensor:
    """Say which keys each query of a packed row may see: [N] and [K] -> [N, K] bool.

    A query sees keys of its own sequence, as `causal_mask` says; PAD sees nothing and is not seen.
    """
    same = (q_ids[:, None] == k_ids[None, :]) & (q_ids != PAD)[:, None]
    return same & causal_mask(q_pos, k_pos, window)


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float | None = None) -> Tensor:
    """Attend in float32: q [Q, H, D], k [K, G, D], v [K, G, Dv], visible [Q, K] -> [Q, H, Dv].

    Consecutive query heads share a key/value head. scale defaults to D ** -0.5. The result has q's
    dtype; a query that sees no key gives zeros. Keys that no query sees may be anything, also NaN.
    """
    q_len, n_heads, head_dim = q.shape
    n_kv_heads = k.shape[1]
    if n_heads % n_kv_heads != 0:
        raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key/value heads")
    if scale is None:
        scale = head_dim**-0.5
    v = v.float().masked_fill(~visible.any(dim=0)[:, None, None], 0.0)
    groups = q.float().reshape(q_len, n_kv_heads, n_heads // n_kv_heads, head_dim)
    scores = torch.einsum("qgrd,kgd->grqk", groups, k.float()) * scale
    probs = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)
    probs = probs.masked_fill(~visible, 0.0)
    return torch.einsum("grqk,kgd->qgrd", probs, v).flatten(1, 2).to(q.dtype)


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_q: Tensor,
    cu_k: Tensor,
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Attend in each sequence by itself: q [N, H, D], k [K, G, D], v [K, G, Dv] -> [N, H, Dv].

    Sequence i has the queries [cu_q[i], cu_q[i + 1]) and the keys [cu_k[i], cu_k[i + 1]); its
    queries are the last of its positions. Rows of q behind the last sequence give zeros.
    """
    if cu_q.shape != cu_k.shape:
        raise ValueError(f"{len(cu_q) - 1} sequences of queries, {len(cu_k) - 1} of keys")
    if cu_q[-1] > len(q) or cu_k[-1] > len(k):
        raise ValueError(f"{len(q)} queries and {len(k)} keys end before {cu_q[-1]} or {cu_k[-1]}")
    if (cu_q.diff() > cu_k.diff()).any():
        raise ValueError(f"more queries {cu_q.tolist()} than keys {cu_k.tolist()} in a sequence")
    out = q.new_zeros(len(q), q.shape[1], v.shape[2])
    q_bounds, k_bounds = cu_q.tolist(), cu_k.tolist()
    for i in range(len(q_bounds) - 1):
        rows = slice(q_bounds[i], q_bounds[i + 1])
        keys = slice(k_bounds[i], k_bounds[i + 1])
        k_pos = torch.arange(keys.stop - keys.start, device=q.device)
        q_pos = k_pos[len(k_pos) - (rows.stop - rows.start) :]
        visible = causal_mask(q_pos, k_pos, window)
        out[rows] = attend(q[rows], k[keys], v[keys], visible, scale)
    return out


# Steps.


def split_by_budget(
    lengths: Sequence[int], budget: int, *, max_seqs: int | None = None
) -> list[Step]:
    """Cut sequences into steps of at most `budget` tokens and `max_seqs` sequences, in order.

    Each step takes as much as it may.

    >>> split_by_budget([3, 4], 5)
    [[(0, 0, 3), (1, 0, 2)], [(1, 2, 4)]]
    """
    if budget < 1:
        raise ValueError(f"budget must be at least 1, got {budget}")
    if max_seqs is not None and max_seqs < 1:
        raise ValueError(f"max_seqs must be at least 1, got {max_seqs}")
    steps: list[Step] = []
    room = 0
    for i, length in enumerate(lengths):
        start = 0
        while start < length:
            if room == 0 or len(steps[-1]) == max_seqs:
                steps.append([])
                room = budget
            stop = min(length, start + room)
            steps[-1].append((i, start, stop))
            room -= stop - start
            start = stop
    return steps


def final_rows(step: Step, lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Return (row, sequence) for every sequence that a step brings to its end.

    The row is that of the sequence's last token in the packed row of the step.
    """
    rows: list[tuple[int, int]] = []
    n_rows = 0
    for i, start, stop in step:
        n_rows += stop - start
        if stop == lengths[i]:
            rows.append((n_rows - 1, i))
    return rows


class PackedKVCache:
    """The keys and values of B sequences, with room for a known number of tokens of each.

    Sequence i owns the slots [cu[i], cu[i + 1]), of which the first lengths[i] are filled.
    """

    def __init__(self, capacities: Sequence[int], *, like: Tensor) -> None:
        """Make room for capacities[i] rows as in like [N, G, D], of its dtype and on its device."""
        self.capacities = torch.tensor(capacities, dtype=torch.long, device=like.device)
        self.cu = cu_seqlens(self.capacities)
        self.lengths = torch.zeros_like(self.capacities)
        self.k = like.new_zeros(sum(capacities), *like.shape[1:])
        self.v = torch.zeros_like(self.k)

    def append(self, k: Tensor, v: Tensor, seqs: Tensor, cu: Tensor) -> None:
        """Store a step: k, v [N, G, D], rows [cu[j], cu[j + 1]) of which continue seqs[j].

        The sequences, seqs [n] int64, are different ones. Rows behind cu[n] are padding.
        """
        n_new = cu.diff()
        lengths = self.lengths[seqs] + n_new
        if (lengths > self.capacities[seqs]).any():
            room = self.capacities[seqs].tolist()
            raise ValueError(f"{lengths.tolist()} tokens of {seqs.tolist()} where {room} fit")
        starts = self.cu[seqs] + self.lengths[seqs]
        slots = starts.repeat_interleave(n_new) + ragged_arange(cu)
        self.k[slots] = k[: len(slots)].to(self.k.dtype)
        self.v[slots] = v[: len(slots)].to(self.v.dtype)
        self.lengths[seqs] = lengths

    def gather(self, seqs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pack all that some sequences have stored: seqs [n] -> k, v [K, G, D] and cu [n + 1]."""
        lengths = self.lengths[seqs]
        cu = cu_seqlens(lengths)
        slots = self.cu[seqs].repeat_interleave(lengths) + ragged_arange(cu)
        return self.k[slots], self.v[slots], cu

    def truncate(self, seqs: Tensor, lengths: Tensor) -> None:
        """Keep the first lengths[j] tokens of seqs[j], none if it must be computed anew."""
        if ((lengths < 0) | (lengths > self.lengths[seqs])).any():
            held = self.lengths[seqs].tolist()
            raise ValueError(f"cannot keep {lengths.tolist()} of {held} tokens")
        self.lengths[seqs] = lengths


def chunked_prefill(
    embed: Callable[[Tensor, Tensor], Tensor],
    qkv: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    sequences: Sequence[Tensor],
    budget: int,
    *,
    max_seqs: int | None = None,
    multiple_of: int = 1,
    window: int | None = None,
    scale: float | None = None,
) -> list[Tensor]:
    """Run a layer's attention over token ids, each [n] int64, in steps; return B of [n, H, D].

    embed(tokens [N], positions [N]) gives [N, M], and qkv of that q [N, H, D] and k, v [N, G, D].
    The result does not depend on how sequences are cut into steps, nor on rows of padding.
    """
    lengths = [len(sequence) for sequence in sequences]
    if sum(lengths) == 0:
        raise ValueError(f"{len(lengths)} sequences without a token")
    device = sequences[0].device
    cu = cu_seqlens(torch.tensor(lengths, device=device))
    out = cache = None
    for step in split_by_budget(lengths, budget, max_seqs=max_seqs):
        seqs = torch.tensor([i for i, _, _ in step], device=device)
        chunks = [sequences[i][start:stop] for i, start, stop in step]
        batch = pack(chunks, [start for _, start, _ in step], multiple_of=multiple_of)
        q, k, v = qkv(embed(batch.tokens, batch.positions))
        if out is None or cache is None:
            out = q.new_zeros(sum(lengths), *q.shape[1:])
            cache = PackedKVCache(lengths, like=k)
        cache.append(k, v, seqs, batch.cu)
        keys, values, cu_k = cache.gather(seqs)
        attended = varlen_attention(q, keys, values, batch.cu, cu_k, window=window, scale=scale)
        real = batch.seq_ids != PAD
        rows = cu[seqs[batch.seq_ids[real]]] + batch.positions[real]
        out[rows] = attended[real]
    assert out is not None
    return unpack(out, cu)
