"""Attention over a KV cache that lies scattered over pages.

Pages of a fixed size hold the keys and values of all sequences; a block table names, in order, the
pages of one sequence. A step takes a flat batch: the new tokens of all sequences one behind the
other, prompts, chunks of prompts and single decoded tokens alike, without padding between them.

Shapes: L layers, N rows of a flat batch, B sequences, H query heads, G key/value heads, Q and K
lengths, D head dim.
Reference: PagedAttention, Kwon et al., arXiv:2309.06180.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SKIP = -1  # in a slot mapping: a row of padding; in a block table: no page


def cdiv(a: int, b: int) -> int:
    """Return how many pieces of size b hold a things."""
    return -(-a // b)


class PagedKVStore:
    """The keys and values of all layers, in pages that all sequences share.

    Slot s of a layer is place s % page_size of page s // page_size.
    """

    def __init__(
        self,
        n_pages: int,
        page_size: int,
        n_kv_heads: int,
        head_dim: int,
        *,
        n_layers: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> None:
        if n_pages < 1 or page_size < 1:
            raise ValueError(f"{n_pages} pages of {page_size} tokens hold nothing")
        self.n_pages = n_pages
        self.page_size = page_size
        shape = (n_layers, n_pages, page_size, n_kv_heads, head_dim)
        self.k = torch.zeros(shape, dtype=dtype, device=device)
        self.v = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def bytes_per_page(self) -> int:
        """Return the memory of one page, keys and values of every layer together."""
        return (self.k.nbytes + self.v.nbytes) // self.n_pages

    def write(self, k: Tensor, v: Tensor, slots: Tensor, *, layer: int = 0) -> None:
        """Store the keys and values of new tokens: k, v [N, G, D] in any dtype, slots [N] int64.

        Rows whose slot is SKIP are padding.
        """
        if not len(k) == len(v) == len(slots):
            raise ValueError(f"{len(k)} keys, {len(v)} values, {len(slots)} slots")
        n_slots = self.n_pages * self.page_size
        if ((slots < SKIP) | (slots >= n_slots)).any():
            raise ValueError(f"slots must be SKIP or below {n_slots}, got {slots.tolist()}")
        real = slots != SKIP
        # Views of the pool, in which pages are no longer visible: [n_slots, G, D].
        flat_k = self.k[layer].flatten(0, 1)
        flat_v = self.v[layer].flatten(0, 1)
        flat_k.index_copy_(0, slots[real], k[real].to(flat_k.dtype))
        flat_v.index_copy_(0, slots[real], v[real].to(flat_v.dtype))

    def copy_pages(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Duplicate whole pages, as copy-on-write asks, for every (src, dst)."""
        for src, dst in pairs:
            self.k[:, dst] = self.k[:, src]
            self.v[:, dst] = self.v[:, src]

    def export_pages(self, pages: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the content of pages, to be kept elsewhere: k, v [L, n, page_size, G, D]."""
        index = torch.tensor(pages, dtype=torch.long, device=self.k.device)
        return self.k.index_select(1, index), self.v.index_select(1, index)

    def import_pages(self, pages: Sequence[int], k: Tensor, v: Tensor) -> None:
        """Put exported content into pages of this store; k, v [L, n, page_size, G, D]."""
        if not len(pages) == k.shape[1] == v.shape[1]:
            raise ValueError(f"{len(pages)} pages for content of {k.shape[1]} and {v.shape[1]}")
        index = torch.tensor(pages, dtype=torch.long, device=self.k.device)
        self.k.index_copy_(1, index, k.to(self.k))
        self.v.index_copy_(1, index, v.to(self.v))


# What a step is made of.


@dataclass(frozen=True, slots=True)
class Batch:
    """The new tokens of B sequences, as N rows: sequence i owns rows [cu_q[i], cu_q[i + 1]).

    Rows behind cu_q[B] are padding.
    """

    slots: Tensor  # [N] int64, where keys and values go; SKIP for padding
    positions: Tensor  # [N] int64, place of each token in its own sequence; 0 for padding
    cu_q: Tensor  # [B + 1] int64
    context_lens: Tensor  # [B] int64, tokens of each sequence, the new ones among them
    block_tables: Tensor  # [B, longest] int64, short rows filled up with SKIP
    is_decode: bool  # whether row i is the one new token of sequence i

    @property
    def n_seqs(self) -> int:
        """Return B."""
        return len(self.context_lens)

    @property
    def n_rows(self) -> int:
        """Return N."""
        return len(self.slots)


def slot_mapping(block_table: Sequence[int], start: int, stop: int, page_size: int) -> list[int]:
    """Return the slots of the tokens at positions [start, stop) of one sequence.

    >>> slot_mapping([7, 2], 3, 6, page_size=4)
    [31, 8, 9]
    """
    if not 0 <= start <= stop <= len(block_table) * page_size:
        raise ValueError(
            f"[{start}, {stop}) is not within {len(block_table)} pages of {page_size} tokens"
        )
    return [block_table[i // page_size] * page_size + i % page_size for i in range(start, stop)]


def build_batch(
    block_tables: Sequence[Sequence[int]],
    n_cached: Sequence[int],
    n_new: Sequence[int],
    page_size: int,
    *,
    pad_to: int | None = None,
    device: torch.device | str | None = None,
) -> Batch:
    """Lay out a step in which sequence i, with n_cached[i] tokens stored, gets n_new[i] more.

    A sequence may have no new token in this step. `pad_to` rows are what a captured graph expects.
    """
    if not len(block_tables) == len(n_cached) == len(n_new):
        raise ValueError(f"{len(block_tables)} tables, {len(n_cached)} and {len(n_new)} lengths")
    slots: list[int] = []
    positions: list[int] = []
    cu_q = [0]
    for block_table, cached, new in zip(block_tables, n_cached, n_new, strict=True):
        slots += slot_mapping(block_table, cached, cached + new, page_size)
        positions += range(cached, cached + new)
        cu_q.append(len(slots))
    if pad_to is not None:
        if pad_to < len(slots):
            raise ValueError(f"pad_to {pad_to} is less than the {len(slots)} rows of the batch")
        n_padding = pad_to - len(slots)
        slots += [SKIP] * n_padding
        positions += [0] * n_padding
    context_lens = [cached + new for cached, new in zip(n_cached, n_new, strict=True)]
    longest = max((len(block_table) for block_table in block_tables), default=0)
    tables = [[*table, *[SKIP] * (longest - len(table))] for table in block_tables]

    def tensor(values: Sequence[int] | Sequence[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.long, device=device)

    return Batch(
        slots=tensor(slots),
        positions=tensor(positions),
        cu_q=tensor(cu_q),
        context_lens=tensor(context_lens),
        block_tables=tensor(tables).reshape(len(tables), longest),
        is_decode=all(new == 1 for new in n_new),
    )


def last_rows(batch: Batch) -> Tensor:
    """Return the row from which each sequence samples its next token, or SKIP: [B] int64."""
    starts, ends = batch.cu_q[:-1], batch.cu_q[1:]
    return torch.where(ends > starts, ends - 1, SKIP)


# Attention.


def visible_keys(q_pos: Tensor, k_pos: Tensor, window: int | None = None) -> Tensor:
    """Say which keys each query may see: q_pos [Q], k_pos [K] -> [Q, K] bool.

    A query sees itself and what came before it, with a window only its last `window` positions.
    """
    distance = q_pos[:, None] - k_pos[None, :]
    visible = distance >= 0
    if window is not None:
        visible = visible & (distance < window)
    return visible


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, scale: float) -> Tensor:
    """Attend in float32: q [B, Q, H, D], k, v [B, K, G, D], visible [B, Q, K] -> [B, Q, H, D].

    Consecutive query heads share a key/value head. A query that sees no key gives zeros. Keys that
    no query sees may be anything, also NaN.
    """
    n_heads, n_kv_heads = q.shape[2], k.shape[2]
    if n_heads % n_kv_heads != 0:
        raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key/value heads")
    used = visible.any(dim=1)  # [B, K], keys that some query sees
    v = v.masked_fill(~used[:, :, None, None], 0.0)
    k = k.float().repeat_interleave(n_heads // n_kv_heads, dim=2)
    v = v.float().repeat_interleave(n_heads // n_kv_heads, dim=2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k) * scale
    hidden = ~visible[:, None]
    probs = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    probs = probs.masked_fill(hidden, 0.0)
    return torch.einsum("bhqk,bkhd->bqhd", probs, v).to(q.dtype)


def gather_kv(
    store: PagedKVStore, block_table: Tensor, length: int, *, layer: int = 0
) -> tuple[Tensor, Tensor]:
    """Collect one sequence in order of position: block_table [n] int64 -> k, v [length, G, D]."""
    pages = block_table[: cdiv(length, store.page_size)]
    k = store.k[layer, pages].flatten(0, 1)
    v = store.v[layer, pages].flatten(0, 1)
    return k[:length], v[:length]


def paged_attention(
    q: Tensor,
    store: PagedKVStore,
    batch: Batch,
    *,
    layer: int = 0,
    scale: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Attend from any batch, sequence by sequence: q [N, H, D] -> [N, H, D], padding gives zeros.

    The keys and values of the new tokens must have been written. scale defaults to D ** -0.5.
    """
    scale = _check(q, batch, scale, window)
    out = torch.zeros_like(q)
    cu_q = batch.cu_q.tolist()
    for i, length in enumerate(batch.context_lens.tolist()):
        rows = slice(cu_q[i], cu_q[i + 1])
        k, v = gather_kv(store, batch.block_tables[i], length, layer=layer)
        k_pos = torch.arange(length, device=q.device)
        visible = visible_keys(batch.positions[rows], k_pos, window)
        out[rows] = attend(q[None, rows], k[None], v[None], visible[None], scale)[0]
    return out


def decode_attention(
    q: Tensor,
    store: PagedKVStore,
    batch: Batch,
    *,
    layer: int = 0,
    scale: float | None = None,
    window: int | None = None,
) -> Tensor:
    """Attend from one new token per sequence, all at once: q [N, H, D] -> [N, H, D].

    Computes what `paged_attention` does, without a loop over the sequences.
    """
    scale = _check(q, batch, scale, window)
    if not batch.is_decode:
        raise ValueError(f"{batch.n_seqs} sequences do not have one new token each")
    n_padding = batch.n_rows - batch.n_seqs
    # Rows of padding are sequences without a token.
    q_pos = F.pad(batch.context_lens, (0, n_padding)) - 1
    tables = F.pad(batch.block_tables, (0, 0, 0, n_padding), value=SKIP)
    # No page is read as page 0, whose content then belongs to someone else.
    pages = tables.clamp(min=0)
    k = store.k[layer, pages].flatten(1, 2)
    v = store.v[layer, pages].flatten(1, 2)
    k_pos = torch.arange(k.shape[1], device=q.device)
    visible = visible_keys(q_pos, k_pos, window)
    return attend(q[:, None], k, v, visible[:, None], scale).squeeze(1)


def _check(q: Tensor, batch: Batch, scale: float | None, window: int | None) -> float:
    """Refuse what does not fit together, and return the scale of the scores."""
    if len(q) != batch.n_rows:
        raise ValueError(f"{len(q)} queries for the {batch.n_rows} rows of the batch")
    if window is not None and window < 1:
        raise ValueError(f"window must be at least 1, got {window}")
    return q.shape[-1] ** -0.5 if scale is None else scale


class PagedAttention:
    """The attention of one layer, which shares its store with the other layers."""

    def __init__(
        self,
        store: PagedKVStore,
        layer: int,
        *,
        scale: float | None = None,
        window: int | None = None,
    ) -> None:
        self.store = store
        self.layer = layer
        self.scale = scale
        self.window = window

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, batch: Batch) -> Tensor:
        """Store the new tokens, then attend: q [N, H, D], k, v [N, G, D] -> [N, H, D]."""
        self.store.write(k, v, batch.slots, layer=self.layer)
        attention = decode_attention if batch.is_decode else paged_attention
        return attention(
            q, self.store, batch, layer=self.layer, scale=self.scale, window=self.window
        )
