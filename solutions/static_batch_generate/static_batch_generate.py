"""Static batching: generate for many prompts of unequal lengths, one padded batch at a time.

Prompts are padded on the left, so that all rows of a batch write their next token into the same
column; a request that is finished leaves the batch at once, the others go on without it.

Shapes: B rows in the batch, S new columns of a call, T columns so far, V tokens in the vocabulary.
References: Pope et al., Efficiently Scaling Transformer Inference, arXiv:2211.05102 (prefill and
decode); Agrawal et al., arXiv:2308.16369 (prefill in chunks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

Past = tuple[Tensor, ...]
"""The model's caches: tensors whose first dimension is the row; they cover all earlier columns."""

ForwardFn = Callable[[Tensor, Tensor, Tensor, Past], tuple[Tensor, Past]]
"""The model: ids [B, S], attention_mask [B, T] bool, positions [B, S] and the past of T - S columns
(empty at first) -> logits [B, S, V] and the past of T columns. Real tokens are True in the mask; a
position counts the real tokens before it in its row."""


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """What all requests of a generator share."""

    pad_id: int  # any id of the vocabulary, also one that prompts use
    eos_ids: tuple[int, ...] = ()  # tokens that end an answer
    batch_size: int = 8  # most rows at a time
    max_padded_tokens: int | None = None  # most columns times rows of a prefill; None for any
    prefill_chunk: int | None = None  # most columns of a prompt per call; None for all

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.max_padded_tokens is not None and self.max_padded_tokens < 1:
            raise ValueError(f"max_padded_tokens must be at least 1, got {self.max_padded_tokens}")
        if self.prefill_chunk is not None and self.prefill_chunk < 1:
            raise ValueError(f"prefill_chunk must be at least 1, got {self.prefill_chunk}")


@dataclass(frozen=True, slots=True, eq=False)
class GenerationRequest:
    """One prompt and what its answer shall be like."""

    prompt: Tensor  # [n] int64
    max_new_tokens: int
    temperature: float = 0.0  # divisor of the logits; 0 is greedy
    seed: int = 0  # of the request's own random stream
    stop: tuple[tuple[int, ...], ...] = ()  # token sequences that end the answer

    def __post_init__(self) -> None:
        if self.prompt.dim() != 1 or self.prompt.numel() == 0 or self.prompt.dtype != torch.long:
            raise ValueError(f"prompt must be [n] int64 with tokens, got {self.prompt}")
        if self.max_new_tokens < 0:
            raise ValueError(f"max_new_tokens must be >= 0, got {self.max_new_tokens}")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature must be finite and >= 0, got {self.temperature}")
        if () in self.stop:
            raise ValueError(f"a stop sequence must not be empty, got {self.stop}")


class GenerationResult(NamedTuple):
    """An answer. Log-probabilities are the model's own, whatever the temperature."""

    tokens: list[int]  # with the EOS or the stop sequence that ended it
    logprobs: list[float]  # one per token
    prompt_logprobs: list[float]  # of the prompt's tokens but the first; empty if not asked for
    finish_reason: str  # "eos", "stop" or "length"; the first of these that applies


@dataclass(slots=True)
class Row:
    """A request in the batch and what has been generated for it."""

    index: int  # its place among the caller's requests
    request: GenerationRequest
    generator: torch.Generator
    prompt_logprobs: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def finish_reason(self, eos_ids: Sequence[int]) -> str | None:
        """Return why the answer is complete, None if it is not."""
        if self.tokens and self.tokens[-1] in eos_ids:
            return "eos"
        if any(self.tokens[-len(stop) :] == list(stop) for stop in self.request.stop):
            return "stop"
        if len(self.tokens) >= self.request.max_new_tokens:
            return "length"
        return None


@dataclass(slots=True)
class Batch:
    """The rows in flight: entry b of every field belongs to the same request."""

    rows: list[Row]
    newest: Tensor  # [B] int64, the last token of each row
    positions: Tensor  # [B] int64, where it stands
    mask: Tensor  # [B, T] bool
    temperature: Tensor  # [B] float32
    logits: Tensor  # [B, V], of what follows
    past: Past

    def select(self, keep: list[int]) -> None:
        """Go on with these rows only, in this order."""
        index = torch.tensor(keep, dtype=torch.long, device=self.mask.device)
        self.rows = [self.rows[b] for b in keep]
        self.newest = self.newest[index]
        self.positions = self.positions[index]
        self.mask = self.mask[index]
        self.temperature = self.temperature[index]
        self.logits = self.logits[index]
        self.past = tuple(cache.index_select(0, index) for cache in self.past)


def make_batches(
    lengths: Sequence[int], batch_size: int, max_padded_tokens: int | None = None
) -> list[list[int]]:
    """Group prompts by their lengths, longest first, and return the indices of each batch.

    A batch is as large as batch_size and, once padded, max_padded_tokens allow; a prompt that is
    too long for the latter gets a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        if batches:
            rows = len(batches[-1]) + 1
            padded = rows * lengths[batches[-1][0]]
            if rows <= batch_size and (max_padded_tokens is None or padded <= max_padded_tokens):
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches


def left_pad(prompts: Sequence[Tensor], pad_id: int) -> tuple[Tensor, Tensor]:
    """Align prompts [n_b] at their ends -> ids [B, S] and mask [B, S] bool, True at real tokens."""
    longest = max(len(prompt) for prompt in prompts)
    ids = prompts[0].new_full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for b, prompt in enumerate(prompts):
        ids[b, longest - len(prompt) :] = prompt
        mask[b, longest - len(prompt) :] = True
    return ids, mask


def positions_from_mask(mask: Tensor) -> Tensor:
    """Number the real tokens of each row from 0: mask [B, T] -> [B, T] int64.

    Padding gets position 0, which is as good as any.
    """
    return (mask.long().cumsum(dim=-1) - 1).clamp(min=0)


def score_prompt(logits: Tensor, ids: Tensor, mask: Tensor) -> list[list[float]]:
    """Score each row's real tokens but the first, given those before: logits [B, S, V] -> B lists.

    ids and mask [B, S] are left-padded; logits[:, s] predict what follows column s.
    """
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    scores = logprobs[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    return [row[real].tolist() for row, real in zip(scores, mask[:, :-1], strict=True)]


def sample(
    logits: Tensor, temperature: Tensor, generators: Sequence[torch.Generator]
) -> tuple[Tensor, Tensor]:
    """Choose a token per row, greedily where temperature is 0: logits [B, V], temperature [B].

    Returns the tokens [B] and their log-probabilities [B] float32 at temperature 1. Each row draws
    from its own CPU generator, so that a seed means the same on every device and in every batch.
    """
    logits = logits.float()
    greedy = temperature == 0
    scale = torch.where(greedy, 1.0, temperature)
    probs = torch.softmax(logits / scale[:, None], dim=-1)
    noise = torch.empty(probs.shape, dtype=torch.float32, device="cpu")
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    drawn = (probs / noise.to(probs.device)).argmax(dim=-1)
    tokens = torch.where(greedy, logits.argmax(dim=-1), drawn)
    logprobs = torch.log_softmax(logits, dim=-1).gather(-1, tokens[:, None]).squeeze(-1)
    return tokens, logprobs


class StaticBatchGenerator:
    """Answers lists of requests with one model."""

    def __init__(self, forward_fn: ForwardFn, config: GenerationConfig) -> None:
        self.forward_fn = forward_fn
        self.config = config

    @torch.no_grad()
    def generate(
        self, requests: Sequence[GenerationRequest], prompt_logprobs: bool = False
    ) -> list[GenerationResult]:
        """Return the answers in the order of the requests.

        An answer depends on its request alone, not on the others or on how they are batched.
        """
        done: dict[int, GenerationResult] = {}
        lengths = [len(request.prompt) for request in requests]
        config = self.config
        for indices in make_batches(lengths, config.batch_size, config.max_padded_tokens):
            rows = [self._admit(index, requests[index]) for index in indices]
            batch = self._prefill(rows, prompt_logprobs)
            done.update(self._retire(batch))
            while batch.rows:
                self._append(batch)
                done.update(self._retire(batch))
                if batch.rows:
                    self._decode(batch)
        return [done[index] for index in sorted(done)]

    def _admit(self, index: int, request: GenerationRequest) -> Row:
        return Row(index, request, torch.Generator(device="cpu").manual_seed(request.seed))

    def _prefill(self, rows: list[Row], prompt_logprobs: bool) -> Batch:
        """Read the prompts of a new batch."""
        ids, mask = left_pad([row.request.prompt for row in rows], self.config.pad_id)
        positions = positions_from_mask(mask)
        width = ids.shape[1]
        chunk = self.config.prefill_chunk or width
        past: Past = ()
        pieces: list[Tensor] = []
        for start in range(0, width, chunk):
            stop = min(start + chunk, width)
            logits, past = self.forward_fn(
                ids[:, start:stop], mask[:, :stop], positions[:, start:stop], past
            )
            pieces.append(logits)
        logits = torch.cat(pieces, dim=1)
        if prompt_logprobs:
            for row, scores in zip(rows, score_prompt(logits, ids, mask), strict=True):
                row.prompt_logprobs = scores
        temperature = torch.tensor(
            [row.request.temperature for row in rows], dtype=torch.float32, device=logits.device
        )
        return Batch(
            rows=rows,
            newest=ids[:, -1],
            positions=positions[:, -1],
            mask=mask,
            temperature=temperature,
            logits=logits[:, -1],
            past=past,
        )

    def _append(self, batch: Batch) -> None:
        """Choose the next token of every row."""
        generators = [row.generator for row in batch.rows]
        tokens, logprobs = sample(batch.logits, batch.temperature, generators)
        batch.newest = tokens
        for row, token, logprob in zip(batch.rows, tokens.tolist(), logprobs.tolist(), strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)

    def _retire(self, batch: Batch) -> dict[int, GenerationResult]:
        """Take the complete answers out of the batch and return them by index."""
        finished: dict[int, GenerationResult] = {}
        keep: list[int] = []
        for b, row in enumerate(batch.rows):
            reason = row.finish_reason(self.config.eos_ids)
            if reason is None:
                keep.append(b)
            else:
                finished[row.index] = GenerationResult(
                    row.tokens, row.logprobs, row.prompt_logprobs, reason
                )
        if finished:
            batch.select(keep)
        return finished

    def _decode(self, batch: Batch) -> None:
        """Feed the newest token of every row."""
        batch.mask = torch.cat([batch.mask, torch.ones_like(batch.mask[:, :1])], dim=1)
        batch.positions = batch.positions + 1
        logits, batch.past = self.forward_fn(
            batch.newest[:, None], batch.mask, batch.positions[:, None], batch.past
        )
        batch.logits = logits[:, -1]
