"""A decoder with sliding-window attention over a rolling key/value cache.

Every layer attends to the most recent tokens (Mistral 7B, arXiv 2310.06825) and to a few sinks at
the start of the sequence (StreamingLLM, arXiv 2309.17453): a cache of fixed size serves any length.
Positions count from 0 in every row and enter through RoPE (arXiv 2104.09864).

Shapes: B rows, S new tokens per row (right padded), K keys, L layers, H query heads,
G key/value heads, D head dim, M model dim, C cache slots, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMPTY = -1  # the position of no token: of an unused slot, of a padding column
Rope = tuple[Tensor, Tensor]  # cos and sin [B, S, D], float32


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of the model; `head_dim` is chosen independently of `dim // n_heads`."""

    vocab_size: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    window: int  # keys that a token attends to at most, itself included, sinks not counted
    n_sink: int = 0  # tokens at the start of a sequence that stay in sight of all that follow
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        sizes = (self.vocab_size, self.dim, self.hidden_dim, self.n_layers, self.window)
        if min(sizes) < 1 or self.n_sink < 0:
            raise ValueError(f"no decoder has these sizes: {self}")
        if min(self.n_heads, self.n_kv_heads) < 1 or self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} query heads cannot share {self.n_kv_heads} kv heads")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim must be even and positive, got {self.head_dim}")


def rope_tables(positions: Tensor, head_dim: int, base: float) -> Rope:
    """Return the tables for the positions [B, S].

    Dimension i and dimension i + D/2 form a pair and share one angle, as in Llama checkpoints.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    inv_freq = 1.0 / base ** (exponents / head_dim)
    angles = positions[:, :, None].float() * inv_freq
    angles = torch.cat((angles, angles), dim=-1)
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate x [B, H, S, D] by the tables [B, S, D] in float32; return x's dtype."""
    cos, sin = cos[:, None], sin[:, None]
    x1, x2 = x.float().chunk(2, dim=-1)
    turned = torch.cat((-x2, x1), dim=-1)
    return (x.float() * cos + turned * sin).to(x.dtype)


def visible(q_pos: Tensor, k_pos: Tensor, *, window: int, n_sink: int = 0) -> Tensor:
    """Say which keys each query may attend to, from positions alone: bool [B, S, K].

    q_pos [B, S] and k_pos [B, K] come in any order; EMPTY sees nothing and is seen by nobody.
    With window=2 and n_sink=1, the query at position 4 attends to positions 0, 3 and 4.
    """
    query, key = q_pos[:, :, None], k_pos[:, None, :]
    causal = key <= query
    recent = key > query - window
    sink = key < n_sink
    return (key != EMPTY) & causal & (recent | sink)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """Attend from q [B, H, S, D] to k, v [B, G, K, D] where allowed [B, S, K]: [B, H, S, D].

    Consecutive query heads share a key/value head. All is computed in float32 and returned in
    q's dtype. A query with nothing to attend to yields zeros. What a key holds that no query may
    attend to, be it NaN, does not matter.
    """
    n_heads, n_kv_heads = q.shape[1], k.shape[1]
    if n_heads % n_kv_heads:
        raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key/value heads")
    groups = n_heads // n_kv_heads
    k = k.float().repeat_interleave(groups, dim=1)
    v = v.float().repeat_interleave(groups, dim=1)
    v = v.masked_fill(~allowed.any(dim=1)[:, None, :, None], 0.0)
    scale: float = q.shape[-1] ** -0.5
    scores = q.float() @ k.transpose(-1, -2) * scale
    blocked = ~allowed[:, None]
    probs = scores.masked_fill(blocked, float("-inf")).softmax(dim=-1)
    probs = probs.masked_fill(blocked, 0.0)
    return (probs @ v).to(q.dtype)


@dataclass(frozen=True, slots=True)
class StepPlan:
    """What one step adds to the cache; the same for every layer."""

    positions: Tensor  # [B, S] of the new tokens; EMPTY at padding
    allowed: Tensor  # [B, S, C + S] cached and new keys that each new token attends to
    lengths: Tensor  # [B] tokens that each row has seen when the step is done
    rows: Tensor  # [N] of the new tokens worth storing,
    columns: Tensor  # [N] where they stand in the step,
    slots: Tensor  # [N] and the slots they take


class RollingKVCache:
    """Keys and values of the sinks and of the last `window` tokens, for each row and layer.

    Slots [0, n_sink) belong to the sinks, the `window` slots after them form a ring. A step is:
    `plan`, then for each layer `extend` and `store`, then `commit`. Example with n_sink=1 and
    window=3, after the tokens a b c d e f g: slots a | g e f, positions 0 | 6 4 5.
    """

    def __init__(self, config: DecoderConfig, batch: int, *, like: Tensor) -> None:
        """Make an empty cache of that many rows, in the dtype and on the device of `like`."""
        self.window = config.window
        self.n_sink = config.n_sink
        self.capacity = config.n_sink + config.window
        heads = (config.n_layers, batch, config.n_kv_heads)
        self.k = like.new_zeros(*heads, self.capacity, config.head_dim)
        self.v = torch.zeros_like(self.k)
        self.positions = torch.full((batch, self.capacity), EMPTY, device=like.device)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=like.device)

    def slot_of(self, positions: Tensor) -> Tensor:
        """Return the slot that holds the token at each position, while it is held at all."""
        ring = self.n_sink + positions % self.window
        return torch.where(positions < self.n_sink, positions, ring)

    def plan(self, q_len: int, n_new: Tensor | None = None) -> StepPlan:
        """Prepare a step of q_len columns; row b brings n_new[b] tokens (default: all columns)."""
        if n_new is None:
            n_new = torch.full_like(self.lengths, q_len)
        if len(n_new) != len(self.lengths) or bool(((n_new < 0) | (n_new > q_len)).any()):
            raise ValueError(f"n_new {n_new.tolist()} for {len(self.lengths)} rows of {q_len}")
        column = torch.arange(q_len, device=self.lengths.device)[None, :]
        positions = self.lengths[:, None] + column
        positions = positions.masked_fill(column >= n_new[:, None], EMPTY)
        lengths = self.lengths + n_new
        recent = positions >= lengths[:, None] - self.window
        lasting = (positions != EMPTY) & (recent | (positions < self.n_sink))
        rows, columns = lasting.nonzero(as_tuple=True)
        slots = self.slot_of(positions[rows, columns])
        k_pos = torch.cat((self.positions, positions), dim=1)
        allowed = visible(positions, k_pos, window=self.window, n_sink=self.n_sink)
        return StepPlan(positions, allowed, lengths, rows, columns, slots)

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Join what a layer has stored and its new k, v [B, G, S, D]: [B, G, C + S, D] each."""
        old_k, old_v = self.k[layer].to(k.dtype), self.v[layer].to(v.dtype)
        return torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2)

    def store(self, layer: int, k: Tensor, v: Tensor, plan: StepPlan) -> None:
        """Store a layer's new k, v [B, G, S, D]; the tokens that they displace are lost."""
        self.k[layer][plan.rows, :, plan.slots] = k[plan.rows, :, plan.columns].to(self.k.dtype)
        self.v[layer][plan.rows, :, plan.slots] = v[plan.rows, :, plan.columns].to(self.v.dtype)

    def commit(self, plan: StepPlan) -> None:
        """End the step: only now do its tokens count as seen."""
        self.positions[plan.rows, plan.slots] = plan.positions[plan.rows, plan.columns]
        self.lengths = plan.lengths

    def snapshot(self, layer: int, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions [N], keys and values [G, N, D] that a row holds, oldest first."""
        held = (self.positions[row] != EMPTY).nonzero().flatten()
        order = held[self.positions[row, held].argsort()]
        k, v = self.k[layer, row], self.v[layer, row]
        return self.positions[row, order], k[:, order], v[:, order]

    def rollback(self, n_tokens: Tensor) -> None:
        """Forget the last n_tokens[b] tokens of each row, as when drafted tokens are rejected."""
        if bool(((n_tokens < 0) | (n_tokens > self.lengths)).any()):
            raise ValueError(f"cannot drop {n_tokens.tolist()} of {self.lengths.tolist()} tokens")
        evicted = self.lengths > self.capacity
        if bool((evicted & (n_tokens > 0)).any()):
            raise ValueError(f"rows of {self.lengths.tolist()} tokens have lost older ones")
        self.lengths = self.lengths - n_tokens
        dropped = self.positions >= self.lengths[:, None]
        self.positions = self.positions.masked_fill(dropped, EMPTY)

    def reset_rows(self, rows: Sequence[int]) -> None:
        """Empty some rows for new requests; the other rows go on."""
        index = torch.tensor(rows, dtype=torch.long, device=self.lengths.device)
        self.positions[index] = EMPTY
        self.lengths[index] = 0

    def select_rows(self, rows: Sequence[int]) -> None:
        """Make row i what row rows[i] was; rows may leave, move or (as beams do) repeat."""
        index = torch.tensor(rows, dtype=torch.long, device=self.lengths.device)
        self.k, self.v = self.k[:, index], self.v[:, index]
        self.positions = self.positions[index]
        self.lengths = self.lengths[index]


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, in float32; returns the input's dtype."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        inv_rms = torch.rsqrt(x.float().pow(2).mean(dim=-1, keepdim=True) + self.eps)
        return (x.float() * inv_rms * self.weight.float()).to(x.dtype)


class WindowAttention(nn.Module):
    """Grouped-query attention of one layer over its part of the cache."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.wq = nn.Linear(config.dim, config.n_heads * config.head_dim, bias=False)
        self.wk = nn.Linear(config.dim, config.n_kv_heads * config.head_dim, bias=False)
        self.wv = nn.Linear(config.dim, config.n_kv_heads * config.head_dim, bias=False)
        self.wo = nn.Linear(config.n_heads * config.head_dim, config.dim, bias=False)

    def forward(self, x: Tensor, rope: Rope, cache: RollingKVCache, plan: StepPlan) -> Tensor:
        """Map x [B, S, M] to [B, S, M] and store its keys and values; padding yields zeros."""
        batch, q_len, _ = x.shape
        q = self.wq(x).view(batch, q_len, -1, self.head_dim).transpose(1, 2)
        k = self.wk(x).view(batch, q_len, -1, self.head_dim).transpose(1, 2)
        v = self.wv(x).view(batch, q_len, -1, self.head_dim).transpose(1, 2)
        q, k = apply_rope(q, *rope), apply_rope(k, *rope)
        cache.store(self.layer, k, v, plan)
        keys, values = cache.extend(self.layer, k, v)
        heads = grouped_attention(q, keys, values, plan.allowed)
        out: Tensor = self.wo(heads.transpose(1, 2).reshape(batch, q_len, -1))
        return out


class DecoderLayer(nn.Module):
    """Attention and a SwiGLU feed-forward, each normed before and added to the residual."""

    def __init__(self, config: DecoderConfig, layer: int) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.attention = WindowAttention(config, layer)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.w_gate = nn.Linear(config.dim, config.hidden_dim, bias=False)
        self.w_up = nn.Linear(config.dim, config.hidden_dim, bias=False)
        self.w_down = nn.Linear(config.hidden_dim, config.dim, bias=False)

    def forward(self, x: Tensor, rope: Rope, cache: RollingKVCache, plan: StepPlan) -> Tensor:
        """Map x [B, S, M] to [B, S, M]."""
        x = x + self.attention(self.attention_norm(x), rope, cache, plan)
        h = self.ffn_norm(x)
        ffn: Tensor = self.w_down(F.silu(self.w_gate(h)) * self.w_up(h))
        return x + ffn


class SlidingWindowDecoder(nn.Module):
    """Token ids in, logits out; all memory of earlier tokens is in the cache."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.layers = nn.ModuleList(DecoderLayer(config, i) for i in range(config.n_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.lm_head = nn.Linear(config.dim, config.vocab_size, bias=False)

    def new_cache(self, batch: int) -> RollingKVCache:
        """Return an empty cache in the dtype and on the device of the weights."""
        return RollingKVCache(self.config, batch, like=self.embedding.weight)

    @torch.no_grad()
    def forward(self, tokens: Tensor, cache: RollingKVCache, n_new: Tensor | None = None) -> Tensor:
        """Feed tokens [B, S], the first n_new[b] of row b (default all); return logits [B, S, V].

        What stands at padding is ignored, on the way in as on the way out.
        """
        if len(tokens) != len(cache.lengths):
            raise ValueError(f"{len(tokens)} rows of tokens for {len(cache.lengths)} cache rows")
        plan = cache.plan(tokens.shape[1], n_new)
        rope = rope_tables(plan.positions, self.config.head_dim, self.config.rope_base)
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x, rope, cache, plan)
        cache.commit(plan)
        logits: Tensor = self.lm_head(self.norm(x))
        return logits

    def prefill(
        self, tokens: Tensor, lengths: Tensor, cache: RollingKVCache, *, chunk_size: int
    ) -> Tensor:
        """Feed right-padded prompts [B, T] of lengths [B]; return the logits [B, V] after each."""
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        row = torch.arange(len(tokens), device=tokens.device)
        last = self.lm_head.weight.new_zeros(len(tokens), self.config.vocab_size)
        for start in range(0, tokens.shape[1], chunk_size):
            chunk = tokens[:, start : start + chunk_size]
            n_new = (lengths - start).clamp(min=0, max=chunk.shape[1])
            logits = self(chunk, cache, n_new)
            last = torch.where((n_new > 0)[:, None], logits[row, n_new - 1], last)
        return last

    def decode(self, tokens: Tensor, cache: RollingKVCache, active: Tensor) -> Tensor:
        """Feed one token [B] to each row that is active [B]; return logits [B, V]."""
        logits: Tensor = self(tokens[:, None], cache, active.long())
        return logits[:, 0]


def generate(
    model: SlidingWindowDecoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    eos_id: int | None = None,
    chunk_size: int = 256,
) -> list[list[int]]:
    """Continue each prompt greedily; an answer ends with eos_id or after max_new_tokens."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must not be negative, got {max_new_tokens}")
    for prompt in prompts:
        if not prompt or not 0 <= min(prompt) <= max(prompt) < model.config.vocab_size:
            raise ValueError(f"not a prompt over {model.config.vocab_size} tokens: {prompt}")
    device = model.embedding.weight.device
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    tokens = lengths.new_zeros(len(prompts), max(map(len, prompts), default=0))
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = torch.tensor(prompt, device=device)
    cache = model.new_cache(len(prompts))
    next_tokens = model.prefill(tokens, lengths, cache, chunk_size=chunk_size).argmax(dim=-1)
    active = torch.ones_like(lengths, dtype=torch.bool)
    answers: list[list[int]] = [[] for _ in prompts]
    for step in range(max_new_tokens):
        if step > 0:
            next_tokens = model.decode(next_tokens, cache, active).argmax(dim=-1)
        for row in active.nonzero().flatten().tolist():
            answers[row].append(int(next_tokens[row]))
        if eos_id is not None:
            active = active & (next_tokens != eos_id)
        if not bool(active.any()):
            break
    return answers
