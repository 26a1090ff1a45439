"""A pre-norm decoder block with fused projections, and a decoder that scores texts with it.

Grouped-query attention over normed queries and keys (Qwen3, arXiv 2505.09388), SwiGLU (arXiv
2002.05202) and RMSNorm (arXiv 1910.07467). The residual stream travels beside the hidden states
and meets them inside the norms, as in serving engines. Nothing is cached: right-padded texts go in,
logits or log-probabilities come out.

Shapes: B rows, S columns, M model dim, F feed-forward dim, H query heads, G key/value heads,
R = H / G, D head dim, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotary = tuple[Tensor, Tensor]  # cos and sin [S, D / 2], float32


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of the model, and in which of the usual ways it differs from Llama."""

    vocab_size: int
    dim: int
    hidden_dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    rope_base: float = 10000.0
    norm_eps: float = 1e-6
    zero_centered_norms: bool = False  # checkpoints store the gains of all norms less 1 (Gemma)
    qk_norm: bool = True  # queries and keys are normed, head by head (Qwen3)
    attention_cap: float | None = None  # attention scores stay within +-cap (Gemma 2)
    logit_cap: float | None = None  # and so do logits
    scale_embeddings: bool = False  # embeddings enter the stream sqrt(M) times as large (Gemma)
    tie_embeddings: bool = True  # the embedding matrix serves as the output head, too

    def __post_init__(self) -> None:
        if min(self.vocab_size, self.dim, self.hidden_dim, self.n_layers) < 1:
            raise ValueError(f"no decoder has these sizes: {self}")
        if min(self.n_heads, self.n_kv_heads) < 1 or self.n_heads % self.n_kv_heads:
            raise ValueError(f"{self.n_heads} query heads cannot share {self.n_kv_heads} kv heads")
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim must be even and positive, got {self.head_dim}")


def softcap(x: Tensor, cap: float | None) -> Tensor:
    """Squash x smoothly into (-cap, cap); small values hardly change. None leaves x as it is."""
    if cap is None:
        return x
    if cap <= 0:
        raise ValueError(f"cap must be positive, got {cap}")
    return cap * torch.tanh(x / cap)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, with statistics in float32.

    A zero-centered norm stores how much its gain differs from 1.
    """

    def __init__(self, dim: int, eps: float = 1e-6, *, zero_centered: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.zero_centered = zero_centered
        self.weight = nn.Parameter(torch.zeros(dim) if zero_centered else torch.ones(dim))

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Norm x [..., M]; with a residual [..., M], norm their sum and return that sum besides.

        The normed values have x's dtype, the sum has the residual's. Neither input is changed.
        """
        stream = x.float()
        if residual is not None:
            stream = stream + residual
        inv_rms = torch.rsqrt(stream.pow(2).mean(dim=-1, keepdim=True) + self.eps)
        gain = 1.0 + self.weight.float() if self.zero_centered else self.weight
        normed = (stream * inv_rms * gain).to(x.dtype)
        return normed if residual is None else (normed, stream.to(residual.dtype))


def _norm(config: DecoderConfig, dim: int) -> RMSNorm:
    return RMSNorm(dim, config.norm_eps, zero_centered=config.zero_centered_norms)


def rotary_tables(positions: Tensor, head_dim: int, base: float) -> Rotary:
    """Return the tables for the positions [S]."""
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device=positions.device)
    inv_freq = 1.0 / base ** (exponents / head_dim)
    angles = torch.outer(positions.float(), inv_freq)
    return angles.cos(), angles.sin()


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn x [B, heads, S, D] by the tables [S, D / 2] in float32; return x's dtype.

    Dimensions i and i + D / 2 form a pair, as in the checkpoints of Llama's descendants.
    """
    x1, x2 = x.float().chunk(2, dim=-1)
    turned = torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)
    return turned.to(x.dtype)


def real_columns(lengths: Tensor, n_columns: int) -> Tensor:
    """Say which columns of right-padded rows hold a token: lengths [B] -> [B, S] bool."""
    column = torch.arange(n_columns, device=lengths.device)
    return column < lengths[:, None]


def visible_keys(lengths: Tensor, n_columns: int) -> Tensor:
    """Say which keys each query attends to: lengths [B] -> [B, S queries, S keys] bool.

    A token sees itself and the tokens before it, and nothing sees padding.
    """
    column = torch.arange(n_columns, device=lengths.device)
    causal = column[None, :] <= column[:, None]
    return causal & real_columns(lengths, n_columns)[:, None]


def repeat_kv(x: Tensor, n_repeats: int) -> Tensor:
    """Line key/value heads up with their query heads: [B, G, S, D] -> [B, H, S, D].

    Consecutive query heads share a key/value head.
    """
    batch, n_kv_heads, n_columns, head_dim = x.shape
    x = x[:, :, None].expand(batch, n_kv_heads, n_repeats, n_columns, head_dim)
    return x.reshape(batch, n_kv_heads * n_repeats, n_columns, head_dim)


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor, cap: float | None = None) -> Tensor:
    """Attend from q [B, H, S, D] to k, v [B, G, K, D] where visible [B, S, K]: [B, H, S, D].

    Scores and weights are float32, the result has q's dtype. Every query must see some key.
    """
    n_heads, n_kv_heads, head_dim = q.shape[1], k.shape[1], q.shape[-1]
    if n_heads % n_kv_heads:
        raise ValueError(f"{n_heads} query heads cannot share {n_kv_heads} key/value heads")
    k = repeat_kv(k.float(), n_heads // n_kv_heads)
    v = repeat_kv(v.float(), n_heads // n_kv_heads)
    scores = q.float() @ k.transpose(-1, -2) * head_dim**-0.5
    scores = softcap(scores, cap).masked_fill(~visible[:, None], float("-inf"))
    return (scores.softmax(dim=-1) @ v).to(q.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention with one matrix for queries, keys and values.

    Its rows are those of H query heads, then of G key heads, then of G value heads.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.cap = config.attention_cap
        self.head_counts = [config.n_heads, config.n_kv_heads, config.n_kv_heads]
        self.wqkv = nn.Linear(config.dim, sum(self.head_counts) * config.head_dim, bias=False)
        self.wo = nn.Linear(config.n_heads * config.head_dim, config.dim, bias=False)
        self.q_norm = _norm(config, config.head_dim) if config.qk_norm else nn.Identity()
        self.k_norm = _norm(config, config.head_dim) if config.qk_norm else nn.Identity()

    def forward(self, x: Tensor, rotary: Rotary, visible: Tensor) -> Tensor:
        """Map x [B, S, M] to [B, S, M]; visible is [B, S, S]."""
        batch, n_columns, _ = x.shape
        heads = self.wqkv(x).view(batch, n_columns, -1, self.head_dim).transpose(1, 2)
        q, k, v = heads.split(self.head_counts, dim=1)
        q = apply_rotary(self.q_norm(q), *rotary)
        k = apply_rotary(self.k_norm(k), *rotary)
        out = attend(q, k, v, visible, self.cap)
        merged: Tensor = self.wo(out.transpose(1, 2).reshape(batch, n_columns, -1))
        return merged


class GatedMLP(nn.Module):
    """SwiGLU with one matrix for both branches: its first F rows are the gate, the rest is up."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(dim, 2 * hidden_dim, bias=False)
        self.down = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map x [..., M] to [..., M]."""
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


class DecoderBlock(nn.Module):
    """Attention and feed-forward, each on a normed copy of the stream.

    The stream itself is never normed: it goes from block to block as a residual beside the output
    of the last branch, which is still to be added to it.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.attention_norm = _norm(config, config.dim)
        self.attention = Attention(config)
        self.mlp_norm = _norm(config, config.dim)
        self.mlp = GatedMLP(config.dim, config.hidden_dim)

    def forward(
        self, hidden: Tensor, residual: Tensor | None, rotary: Rotary, visible: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map hidden and residual [B, S, M] to the next pair; the first block has no residual."""
        if residual is None:
            residual = hidden
            hidden = self.attention_norm(hidden)
        else:
            hidden, residual = self.attention_norm(hidden, residual)
        hidden = self.attention(hidden, rotary, visible)
        hidden, residual = self.mlp_norm(hidden, residual)
        return self.mlp(hidden), residual


# The decoder.


def last_hidden(hidden: Tensor, lengths: Tensor) -> Tensor:
    """Pick the last token of each right-padded row: hidden [B, S, M], lengths [B] -> [B, M]."""
    _check_lengths(lengths, hidden)
    row = torch.arange(len(hidden), device=hidden.device)
    return hidden[row, lengths - 1]


def _check_lengths(lengths: Tensor, rows: Tensor) -> None:
    """Refuse lengths that cannot be those of rows [B, S, ...]."""
    batch, n_columns = rows.shape[:2]
    if len(lengths) != batch or bool(((lengths < 1) | (lengths > n_columns)).any()):
        raise ValueError(f"{batch} rows of {n_columns} columns cannot have {lengths.tolist()}")


class Decoder(nn.Module):
    """Token ids in, logits or log-probabilities out, without a cache.

    Texts are right padded and start at position 0; what stands at padding, be it no token at all,
    has no influence.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.dim)
        self.blocks = nn.ModuleList(DecoderBlock(config) for _ in range(config.n_layers))
        self.norm = _norm(config, config.dim)
        self.head = nn.Linear(config.dim, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.head.weight = self.embedding.weight

    def hidden_states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Run all blocks and the last norm: tokens [B, S], lengths [B] -> [B, S, M]."""
        _check_lengths(lengths, tokens)
        n_columns = tokens.shape[1]
        positions = torch.arange(n_columns, device=tokens.device)
        rotary = rotary_tables(positions, self.config.head_dim, self.config.rope_base)
        visible = visible_keys(lengths, n_columns)
        hidden: Tensor = self.embedding(_without_padding(tokens, lengths))
        if self.config.scale_embeddings:
            hidden = hidden * self.config.dim**0.5
        residual: Tensor | None = None
        for block in self.blocks:
            hidden, residual = block(hidden, residual, rotary, visible)
        hidden, _ = self.norm(hidden, residual)
        return hidden

    def logits(self, hidden: Tensor) -> Tensor:
        """Project hidden states [..., M] onto the vocabulary: [..., V] float32."""
        return softcap(self.head(hidden).float(), self.config.logit_cap)

    @torch.no_grad()
    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits [B, V] float32 after each text of tokens [B, S].

        Without lengths [B] there is no padding.
        """
        if lengths is None:
            lengths = torch.full((len(tokens),), tokens.shape[1], device=tokens.device)
        return self.logits(last_hidden(self.hidden_states(tokens, lengths), lengths))

    @torch.no_grad()
    def token_logprobs(self, tokens: Tensor, lengths: Tensor, *, chunk_size: int = 256) -> Tensor:
        """Return how likely each token was, given those before it: [B, S] float32.

        Zero for the first token of a row, which nothing predicts, and at padding. Logits are made
        for `chunk_size` columns at a time, since those of a long text would fill the memory.
        """
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
        hidden = self.hidden_states(tokens, lengths)
        tokens = _without_padding(tokens, lengths)
        sources = torch.split(hidden[:, :-1], chunk_size, dim=1)
        targets = torch.split(tokens[:, 1:, None], chunk_size, dim=1)
        chunks = [
            self.logits(source).log_softmax(dim=-1).gather(-1, target).squeeze(-1)
            for source, target in zip(sources, targets, strict=True)
        ]
        logprobs = F.pad(torch.cat(chunks, dim=1), (1, 0))
        return logprobs.masked_fill(~real_columns(lengths, tokens.shape[1]), 0.0)

    def score(self, tokens: Tensor, lengths: Tensor, n_prompt: Tensor) -> Tensor:
        """Return the log-probability of each row's continuation: [B] float32.

        The first n_prompt [B] tokens of a row are given, those behind them are scored.
        """
        if n_prompt.shape != lengths.shape or bool(((n_prompt < 1) | (n_prompt > lengths)).any()):
            raise ValueError(f"no prompts of {n_prompt.tolist()} in {lengths.tolist()} tokens")
        given = real_columns(n_prompt, tokens.shape[1])
        return self.token_logprobs(tokens, lengths).masked_fill(given, 0.0).sum(dim=1)


def _without_padding(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Put token 0 at padding, where anything may stand."""
    return tokens.masked_fill(~real_columns(lengths, tokens.shape[1]), 0)


# Weights from elsewhere.

FUSED = {
    "attention.wqkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.wo": ("self_attn.o_proj",),
    "attention.q_norm": ("self_attn.q_norm",),
    "attention.k_norm": ("self_attn.k_norm",),
    "attention_norm": ("input_layernorm",),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down": ("mlp.down_proj",),
    "mlp_norm": ("post_attention_layernorm",),
}


def from_checkpoint(weights: Mapping[str, Tensor], config: DecoderConfig) -> dict[str, Tensor]:
    """Translate a checkpoint of Llama, Mistral or Qwen3 to what `Decoder.load_state_dict` takes."""
    head = "model.embed_tokens" if config.tie_embeddings else "lm_head"
    sources = {"embedding": ["model.embed_tokens"], "norm": ["model.norm"], "head": [head]}
    for layer in range(config.n_layers):
        for ours, theirs in FUSED.items():
            if config.qk_norm or ours not in ("attention.q_norm", "attention.k_norm"):
                sources[f"blocks.{layer}.{ours}"] = [f"model.layers.{layer}.{x}" for x in theirs]
    missing = [x for names in sources.values() for x in names if f"{x}.weight" not in weights]
    if missing:
        raise ValueError(f"the checkpoint lacks {missing}")
    return {
        f"{ours}.weight": torch.cat([weights[f"{name}.weight"] for name in theirs])
        for ours, theirs in sources.items()
    }
