"""Attention masks of an inference engine, and attention under them.

Which keys a query may see follows from positions: a batch of prompts is padded on either side, a
row may hold several documents, layers look back over everything, over a sliding window or over one
chunk, and the first tokens of a text may stay in sight as attention sinks or, as the prefix of a
prefix LM, see each other in both directions.

Shapes: B rows, H query heads, G key/value heads, Q queries, K key slots, D head dim, Dv value dim.
References: Mistral 7B (sliding window), arXiv:2310.06825; StreamingLLM (sinks), arXiv:2309.17453;
PaliGemma (prefix LM), arXiv:2407.07726; FlexAttention (tiles), arXiv:2412.05496.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PADDING = -1  # the position of a slot that holds no token

# What a tile of a mask asks of a kernel.
SKIP, PARTIAL, FULL = 0, 1, 2


# Slots and positions.


def padding_mask(lengths: Tensor, kv_len: int, *, side: str = "left") -> Tensor:
    """Say which slots hold tokens: lengths [B] -> [B, K] bool, K = kv_len.

    Padding stands on the named side of a row, "left" or "right".

    >>> padding_mask(torch.tensor([2, 3]), 3).long().tolist()
    [[0, 1, 1], [1, 1, 1]]
    """
    if side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', got {side!r}")
    if ((lengths < 0) | (lengths > kv_len)).any():
        raise ValueError(f"lengths {lengths.tolist()} do not fit into {kv_len} slots")
    slot = torch.arange(kv_len, device=lengths.device)[None, :]
    n_tokens = lengths[:, None]
    if side == "left":
        return slot >= kv_len - n_tokens
    return slot < n_tokens


def document_index(segment_ids: Tensor) -> Tensor:
    """Number the documents that are packed into each row: segment_ids [B, K] -> [B, K] int64.

    A document is a run of equal ids; an id that comes back later is another document.

    >>> document_index(torch.tensor([[5, 5, 9, 5]])).tolist()
    [[0, 0, 1, 2]]
    """
    is_new = segment_ids[:, 1:] != segment_ids[:, :-1]
    return F.pad(is_new.long().cumsum(dim=-1), (1, 0))


def position_ids(valid: Tensor, documents: Tensor | None = None) -> Tensor:
    """Return each token's place in its own text, PADDING elsewhere: valid [B, K] -> [B, K] int64.

    A text is a row, or with `documents` [B, K], as `document_index` numbers them, a document.
    Slots without a token take no place, wherever they stand.
    """
    if valid.dtype != torch.bool:
        raise ValueError(f"valid must be bool, got {valid.dtype}")
    places = valid.long().cumsum(dim=-1) - 1
    if documents is not None:
        # The slot where each slot's document begins, and the tokens of the row ahead of it.
        first = torch.searchsorted(documents, documents)
        ahead = valid.long().cumsum(dim=-1) - valid.long()
        places = places - ahead.gather(-1, first)
    return places.masked_fill(~valid, PADDING)


# Rules.


def causal_window_mask(
    q_pos: Tensor,
    k_pos: Tensor,
    *,
    window: int | None = None,
    chunk: int | None = None,
    n_sink: int = 0,
) -> Tensor:
    """Say which keys a decoder's queries may see: q_pos [B, Q], k_pos [B, K] -> [B, Q, K] bool.

    A query sees itself and what came before it: with a window only its last `window` positions,
    with chunks only those of its own chunk of `chunk` positions. The first `n_sink` positions stay
    in sight beyond either. PADDING sees nothing and is not seen.
    """
    for name, size in (("window", window), ("chunk", chunk)):
        if size is not None and size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    if n_sink < 0:
        raise ValueError(f"n_sink must not be negative, got {n_sink}")
    query, key = q_pos[:, :, None], k_pos[:, None, :]
    causal = key <= query
    near = torch.ones_like(causal)
    if window is not None:
        near = near & (query - key < window)
    if chunk is not None:
        near = near & (query // chunk == key // chunk)
    sink = key < n_sink
    return (key != PADDING) & causal & (near | sink)


def prefix_mask(q_pos: Tensor, k_pos: Tensor, prefix_len: Tensor) -> Tensor:
    """Say which pairs lie within the prefix: q_pos [B, Q], k_pos [B, K] -> [B, Q, K] bool.

    The prefix of a text of row b is its first prefix_len[b] tokens.
    """
    limit = prefix_len[:, None]
    q_inside = (q_pos != PADDING) & (q_pos < limit)
    k_inside = (k_pos != PADDING) & (k_pos < limit)
    return q_inside[:, :, None] & k_inside[:, None, :]


def segment_mask(q_seg: Tensor, k_seg: Tensor) -> Tensor:
    """Say which pairs belong together: q_seg [B, Q], k_seg [B, K] -> [B, Q, K] bool."""
    return q_seg[:, :, None] == k_seg[:, None, :]


# Whole masks.


def build_mask(
    valid: Tensor,
    q_len: int,
    *,
    window: int | None = None,
    chunk: int | None = None,
    n_sink: int = 0,
    segment_ids: Tensor | None = None,
    prefix_len: Tensor | None = None,
) -> Tensor:
    """Return the mask of a step whose queries are the last q_len of K slots: [B, 1, Q, K] bool.

    valid [B, K] says which slots hold tokens. segment_ids [B, K] pack documents into a row: they do
    not see each other, and positions, sinks, chunks and prefixes are those of each document. The
    first prefix_len[b] tokens of a text see each other whatever the other rules say.
    """
    kv_len = valid.shape[1]
    if not 1 <= q_len <= kv_len:
        raise ValueError(f"q_len must be in [1, {kv_len}], got {q_len}")
    if segment_ids is None:
        segment_ids = torch.zeros_like(valid)
    if segment_ids.shape != valid.shape:
        raise ValueError(f"segment_ids of {list(segment_ids.shape)} for {list(valid.shape)} slots")
    documents = document_index(segment_ids)
    k_pos = position_ids(valid, documents)
    q_pos = k_pos[:, kv_len - q_len :]
    mask = causal_window_mask(q_pos, k_pos, window=window, chunk=chunk, n_sink=n_sink)
    if prefix_len is not None:
        mask = mask | prefix_mask(q_pos, k_pos, prefix_len)
    mask = mask & segment_mask(documents[:, kv_len - q_len :], documents)
    return mask[:, None]


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """How far the attention of a layer looks back, as in `causal_window_mask`."""

    window: int | None = None
    chunk: int | None = None
    n_sink: int = 0


def layer_specs(n_layers: int, local: MaskSpec, *, global_every: int) -> list[MaskSpec]:
    """Return the spec of every layer of a model that mixes local and global attention.

    Of global_every layers in a row the last one is global, as in Gemma 3.
    """
    if global_every < 1:
        raise ValueError(f"global_every must be at least 1, got {global_every}")
    everything = MaskSpec()
    return [everything if (i + 1) % global_every == 0 else local for i in range(n_layers)]


class BatchMasks:
    """The masks of a batch that is prefilled, in one step or in several, and then decoded.

    A step appends slots to all rows; its queries are the slots that it has appended.
    """

    def __init__(self, valid: Tensor, *, prefix_len: Tensor | None = None) -> None:
        """Begin with the step of the prompts: valid [B, K] bool, prefix_len [B]."""
        self.valid = valid
        self.prefix_len = prefix_len
        self.q_len = valid.shape[1]
        self._masks: dict[MaskSpec, Tensor] = {}

    @property
    def lengths(self) -> Tensor:
        """Return how many tokens each row has: [B] int64."""
        return self.valid.sum(dim=-1)

    @property
    def positions(self) -> Tensor:
        """Return the positions of the step's tokens: [B, Q] int64."""
        return position_ids(self.valid)[:, -self.q_len :]

    def append(self, valid: Tensor) -> None:
        """Begin the next step: valid [B, n] bool says which rows bring a token to which slot."""
        if valid.ndim != 2 or len(valid) != len(self.valid) or valid.shape[1] == 0:
            raise ValueError(f"cannot append {list(valid.shape)} to {list(self.valid.shape)} slots")
        self.valid = torch.cat((self.valid, valid), dim=1)
        self.q_len = valid.shape[1]
        self._masks.clear()

    def select_rows(self, rows: Sequence[int]) -> None:
        """Make row i what row rows[i] was; rows may leave, move or (as beams do) repeat."""
        index = list(rows)
        self.valid = self.valid[index]
        if self.prefix_len is not None:
            self.prefix_len = self.prefix_len[index]
        self._masks.clear()

    def mask(self, spec: MaskSpec) -> Tensor:
        """Return the step's mask for the layers of a spec, which share it: [B, 1, Q, K] bool."""
        if spec not in self._masks:
            self._masks[spec] = build_mask(
                self.valid,
                self.q_len,
                window=spec.window,
                chunk=spec.chunk,
                n_sink=spec.n_sink,
                prefix_len=self.prefix_len,
            )
        return self._masks[spec]


# What kernels take.


def to_additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the bias for kernels that add one to their scores: a mask of any shape -> dtype.

    Hidden keys get the lowest finite number of the dtype: a row in which every score is -inf would
    turn into NaN.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"a bias must be of a floating point dtype, got {dtype}")
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(~mask, torch.finfo(dtype).min)


def tile_kinds(mask: Tensor, block_q: int, block_k: int) -> Tensor:
    """Say what a tiled kernel must do: [B, 1, Q, K] bool -> [B, Q tiles, K tiles] int64.

    Tiles that show nothing are SKIP; FULL ones need no mask at all; others are PARTIAL, also where
    they reach over the edge of the mask.
    """
    if block_q < 1 or block_k < 1:
        raise ValueError(f"tiles of {block_q} x {block_k} cover nothing")
    q_len, kv_len = mask.shape[-2:]
    padded = F.pad(mask[:, 0], (0, -kv_len % block_k, 0, -q_len % block_q))
    n_columns = padded.shape[2] // block_k
    tiles = padded.reshape(len(mask), -1, block_q, n_columns, block_k)
    some = tiles.any(dim=4).any(dim=2)
    every = tiles.all(dim=4).all(dim=2)
    return torch.where(every, FULL, torch.where(some, PARTIAL, SKIP))


# Attention.


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Return weights over the visible keys, in float32: scores, mask [..., Q, K] -> [..., Q, K].

    A query that sees no key gets weights of zero.
    """
    hidden = ~mask
    weights = scores.float().masked_fill(hidden, float("-inf")).softmax(dim=-1)
    return weights.masked_fill(hidden, 0.0)


def masked_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None
) -> Tensor:
    """Attend from q [B, H, Q, D] to k [B, G, K, D], v [B, G, K, Dv]: [B, H, Q, Dv] in q's dtype.

    mask [B, 1, Q, K] bool; scale defaults to D ** -0.5. Consecutive query heads share a key/value
    head. A query that sees no key gives zeros. What a slot holds that no query sees, be it NaN,
    does not matter.
    """
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if n_heads % n_kv_heads != 0:
        raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key/value heads")
    if scale is None:
        scale = q.shape[-1] ** -0.5
    n_shared = n_heads // n_kv_heads
    unseen = ~mask.any(dim=2)[:, :, :, None]  # [B, 1, K, 1]
    k = k.float().repeat_interleave(n_shared, dim=1)
    v = v.float().masked_fill(unseen, 0.0).repeat_interleave(n_shared, dim=1)
    scores = q.float() @ k.transpose(-1, -2) * scale
    weights = masked_softmax(scores, mask)
    return (weights @ v).to(q.dtype)
