"""Speculative decoding: a cheap drafter guesses ahead, the target model checks all guesses at once.

Whatever the drafter proposes, the output is distributed as if the target had been sampled alone;
a good drafter only makes it arrive in fewer calls of the target.

Shapes: B rows, S draft slots per row, V tokens in the vocabulary.
References: Leviathan et al., arXiv:2211.17192; Chen et al., arXiv:2302.01318 (acceptance and
residual); Yang et al., arXiv:2304.04487 (drafts copied from the text itself).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

PLACEHOLDER = -1
"""Stands in a slot that holds no token."""

ForwardFn = Callable[[list[int], int], Tensor]
"""A model with a KV cache: n tokens and the position of the first -> logits [n, V] of what follows
each of them. The tokens before that position stay cached; what was cached from there on is
overwritten."""


@dataclass(frozen=True, slots=True)
class SpeculativeConfig:
    """How far to guess ahead, and how the output is sampled."""

    num_draft_tokens: int = 4  # most tokens to guess per call of the target
    temperature: float = 1.0  # divisor of the logits; 0 is greedy
    top_k: int = -1  # how many of the likeliest tokens to choose among; -1 for all
    seed: int = 0  # of the one random stream that serves draft, acceptance and target

    def __post_init__(self) -> None:
        if self.num_draft_tokens < 1:
            raise ValueError(f"num_draft_tokens must be at least 1, got {self.num_draft_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be finite and >= 0, got {self.temperature}")
        if self.top_k != -1 and self.top_k < 1:
            raise ValueError(f"top_k must be -1 or at least 1, got {self.top_k}")


class Draft(NamedTuple):
    """The guesses of one round, in order, and the distributions they were drawn from."""

    tokens: list[int]
    probs: Tensor | None  # [len(tokens), V] float32; None for guesses made without a model


class Verified(NamedTuple):
    """What a round yields: accepted guesses, then one token of the target's own."""

    tokens: Tensor  # [B, S + 1] int64, filled up with PLACEHOLDER
    n_accepted: Tensor  # [B] int64, from 0 to S


@dataclass(slots=True)
class SpecStats:
    """Counts over the rounds of a decoder; one round is one call of the target."""

    target_calls: int = 0
    proposed: int = 0
    accepted: int = 0
    accepted_at: list[int] = field(default_factory=list)  # how often the i-th guess was accepted

    def record(self, n_proposed: int, n_accepted: int) -> None:
        """Count one round."""
        self.target_calls += 1
        self.proposed += n_proposed
        self.accepted += n_accepted
        missing = n_accepted - len(self.accepted_at)
        self.accepted_at.extend([0] * missing)
        for i in range(n_accepted):
            self.accepted_at[i] += 1

    @property
    def acceptance_rate(self) -> float:
        """Return the share of guesses that were accepted, 0 before the first guess."""
        return self.accepted / self.proposed if self.proposed else 0.0


def expected_tokens(acceptance_rate: float, k: int) -> float:
    """Return the mean number of tokens per round with k guesses, each accepted independently."""
    return sum(acceptance_rate**i for i in range(k + 1))


def best_draft_length(acceptance_rate: float, draft_cost: float, longest: int) -> int:
    """Return the k in [0, longest] that yields the most tokens per unit of time, the least of ties.

    draft_cost is the time of one draft call in units of one target call. 0 means: do not draft.
    """
    if not 0 <= acceptance_rate <= 1:
        raise ValueError(f"acceptance_rate must be in [0, 1], got {acceptance_rate}")
    if draft_cost < 0:
        raise ValueError(f"draft_cost must be >= 0, got {draft_cost}")
    speeds = [
        expected_tokens(acceptance_rate, k) / (1 + k * draft_cost) for k in range(longest + 1)
    ]
    return speeds.index(max(speeds))


def to_probs(logits: Tensor, temperature: float, top_k: int = -1) -> Tensor:
    """Turn logits [..., V] of any dtype into the probabilities to sample from, float32.

    Temperature 0 puts all probability on a most likely token. Tokens that tie with the k-th stay.
    """
    logits = logits.float()
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    if 0 < top_k < logits.shape[-1]:
        kth_logit = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth_logit, float("-inf"))
    return torch.softmax(logits / temperature, dim=-1)


def draw(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one token from each distribution: probs [..., V] -> [...] int64.

    The random numbers are made on the host, so that a seed means the same on every device.
    """
    noise = torch.empty(probs.shape, dtype=torch.float32, device="cpu")
    noise.exponential_(generator=generator)
    return (probs / noise.to(probs.device)).argmax(dim=-1)


def residual(target: Tensor, draft: Tensor) -> Tensor:
    """Return where the target has more mass than the draft, normalised: [..., V] -> [..., V].

    Where the two agree there is no such mass, and the target itself comes back.
    """
    excess = (target - draft).clamp(min=0.0)
    total = excess.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, excess / total, target)


def verify(
    draft_tokens: Tensor,
    draft_probs: Tensor,
    target_probs: Tensor,
    n_draft: Tensor,
    generator: torch.Generator,
) -> Verified:
    """Accept a prefix of each row's guesses and add one token, so that all follow the target.

    draft_tokens [B, S], drawn from draft_probs [B, S, V]; row b uses its first n_draft[b] slots and
    the others may hold anything. target_probs [B, S + 1, V]: entry s is the target's distribution
    of slot s given the guesses before it.
    """
    batch_size, n_slots = draft_tokens.shape
    expected = (batch_size, n_slots + 1, draft_probs.shape[-1])
    if target_probs.shape != expected:
        raise ValueError(f"target_probs must be {expected}, got {tuple(target_probs.shape)}")
    device = target_probs.device
    used = torch.arange(n_slots, device=device) < n_draft[:, None]
    ids = draft_tokens.masked_fill(~used, 0)
    p = target_probs[:, :-1].gather(-1, ids[..., None]).squeeze(-1)
    q = draft_probs.gather(-1, ids[..., None]).squeeze(-1)
    u = torch.rand(batch_size, n_slots, generator=generator, device="cpu").to(device)
    accepted = (u < p / q) & used
    n_accepted = accepted.long().cumprod(dim=-1).sum(dim=-1)

    rows = torch.arange(batch_size, device=device)
    next_target = target_probs[rows, n_accepted]
    next_draft = F.pad(draft_probs, (0, 0, 0, 1))[rows, n_accepted]
    rejected = n_accepted < n_draft
    next_probs = torch.where(rejected[:, None], residual(next_target, next_draft), next_target)

    tokens = F.pad(draft_tokens, (0, 1))
    tokens[rows, n_accepted] = draw(next_probs, generator)
    beyond = torch.arange(n_slots + 1, device=device) > n_accepted[:, None]
    return Verified(tokens.masked_fill(beyond, PLACEHOLDER), n_accepted)


class CachedModel:
    """A model and the number of tokens in its KV cache."""

    def __init__(self, forward_fn: ForwardFn) -> None:
        self.forward_fn = forward_fn
        self.length = 0

    def forward(self, tokens: list[int]) -> Tensor:
        """Append tokens to the cache and return the logits [len(tokens), V] behind each."""
        logits = self.forward_fn(tokens, self.length)
        if logits.dim() != 2 or logits.shape[0] != len(tokens):
            raise ValueError(f"{len(tokens)} tokens, but logits of shape {tuple(logits.shape)}")
        self.length += len(tokens)
        return logits

    def unread(self, tokens: list[int]) -> list[int]:
        """Return what a text has beyond the cache, at least its last token."""
        return tokens[min(self.length, len(tokens) - 1) :]

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens; a shorter cache stays as it is."""
        self.length = min(self.length, length)


class NGramDrafter:
    """Guesses that the text will go on as it did after the same n tokens before."""

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        self.n = n

    def propose(self, tokens: list[int], k: int) -> Draft:
        """Copy up to k tokens from behind the latest earlier occurrence of the last n tokens.

        With n = 2 and the tokens 1 2 3 1 2 4 1 2 the guesses start with 4.
        """
        suffix = tokens[-self.n :]
        for end in range(len(tokens) - 1, self.n - 1, -1):
            if tokens[end - self.n : end] == suffix:
                return Draft(tokens[end : end + k], None)
        return Draft([], None)


class SpeculativeDecoder:
    """Generates from the target model with the help of a draft model or of n-grams."""

    def __init__(
        self, target: CachedModel, drafter: CachedModel | NGramDrafter, config: SpeculativeConfig
    ) -> None:
        self.target = target
        self.drafter = drafter
        self.config = config
        self.generator = torch.Generator(device="cpu").manual_seed(config.seed)
        self.stats = SpecStats()

    @torch.no_grad()
    def generate(
        self, prompt: Sequence[int], max_new_tokens: int, eos_id: int | None = None
    ) -> list[int]:
        """Continue a prompt by max_new_tokens tokens, or up to and including the first EOS.

        Calls draw from one random stream, one after the other.
        """
        if not prompt:
            raise ValueError("prompt must not be empty")
        if max_new_tokens < 0:
            raise ValueError(f"max_new_tokens must be >= 0, got {max_new_tokens}")
        self._roll_back(0)
        tokens = list(prompt)
        limit = len(prompt) + max_new_tokens
        while len(tokens) < limit:
            new = self._round(tokens, limit - len(tokens))
            if eos_id in new:
                tokens += new[: new.index(eos_id) + 1]
                break
            tokens += new
        return tokens[len(prompt) :]

    def _round(self, tokens: list[int], budget: int) -> list[int]:
        """Return from 1 to `budget` new tokens behind `tokens`, from one call of the target."""
        draft = self._propose(tokens, min(self.config.num_draft_tokens, budget - 1))
        pending = self.target.unread(tokens)
        logits = self.target.forward(pending + draft.tokens)
        target_probs = self._probs(logits[len(pending) - 1 :])
        draft_tokens = torch.tensor(draft.tokens, dtype=torch.long, device=logits.device)
        draft_probs = draft.probs
        if draft_probs is None:
            draft_probs = F.one_hot(draft_tokens, target_probs.shape[-1]).float()
        n_draft = torch.tensor([len(draft.tokens)], device=logits.device)
        verified = verify(
            draft_tokens[None], draft_probs[None], target_probs[None], n_draft, self.generator
        )
        n_accepted = int(verified.n_accepted)
        self.stats.record(len(draft.tokens), n_accepted)
        self._roll_back(len(tokens) + n_accepted)
        new: list[int] = verified.tokens[0, : n_accepted + 1].tolist()
        return new

    def _propose(self, tokens: list[int], k: int) -> Draft:
        """Guess up to k tokens; a draft model first reads what it has not seen yet."""
        if isinstance(self.drafter, NGramDrafter):
            return self.drafter.propose(tokens, k)
        guesses: list[int] = []
        steps: list[Tensor] = []
        pending = self.drafter.unread(tokens)
        for _ in range(k):
            probs = self._probs(self.drafter.forward(pending)[-1])
            pending = [int(draw(probs, self.generator))]
            guesses += pending
            steps.append(probs)
        return Draft(guesses, torch.stack(steps) if steps else None)

    def _probs(self, logits: Tensor) -> Tensor:
        return to_probs(logits, self.config.temperature, self.config.top_k)

    def _roll_back(self, length: int) -> None:
        """Forget the guesses that did not become part of the text."""
        self.target.truncate(length)
        if isinstance(self.drafter, CachedModel):
            self.drafter.truncate(length)
