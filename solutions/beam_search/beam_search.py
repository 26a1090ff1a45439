"""Beam search: the best continuations of a batch of prompts, by length-normalised score.

Every step extends the running beams of each prompt by one token and keeps the best of them; a
hypothesis that ends with EOS leaves the race and waits among the finished ones of its prompt.

Shapes: B prompts, K beams per prompt, N = B * K rows in which the beams of one prompt are
neighbours, V tokens in the vocabulary, T tokens so far.
References: Sutskever et al., arXiv:1409.3215 (the search); Wu et al., arXiv:1609.08144 (length
normalisation); Paulus et al., arXiv:1705.04304 (blocking of repeated n-grams).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

ModelState = tuple[Tensor, ...]
"""What the model caches between calls: tensors of any shape whose first dimension is the row."""

StepFn = Callable[[Tensor, ModelState], tuple[Tensor, ModelState]]
"""The model: new token ids [rows, T] and the state behind them -> logits [rows, V] of the last
position and the new state. An empty state starts a batch."""


@dataclass(frozen=True, slots=True)
class BeamConfig:
    """How wide, how long and for what the search looks."""

    num_beams: int = 4
    max_new_tokens: int = 16  # EOS included
    eos_id: int = 0
    pad_id: int = 0  # fills up short sequences, and rows that have no hypothesis left
    length_penalty: float = 1.0  # exponent of the length in a score; above 0 favours long answers
    early_stopping: bool = False  # be content with the first num_beams finished hypotheses
    min_new_tokens: int = 0  # EOS is impossible in an output shorter than this
    no_repeat_ngram_size: int = 0  # no n-gram of this size occurs twice, prompt included; 0 for any
    num_return: int = 1  # hypotheses to return per prompt

    def __post_init__(self) -> None:
        if self.num_beams < 1:
            raise ValueError(f"num_beams must be at least 1, got {self.num_beams}")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")
        if self.min_new_tokens < 0:
            raise ValueError(f"min_new_tokens must be at least 0, got {self.min_new_tokens}")
        if self.no_repeat_ngram_size < 0:
            raise ValueError(f"no_repeat_ngram_size must be >= 0, got {self.no_repeat_ngram_size}")
        if not 1 <= self.num_return <= self.num_beams:
            raise ValueError(f"num_return must be in [1, {self.num_beams}], got {self.num_return}")


class Hypothesis(NamedTuple):
    """A finished continuation: its normalised score and its generated tokens, EOS included."""

    score: float
    tokens: list[int]


class Candidates(NamedTuple):
    """Possible extensions of each prompt's beams by one token, best first."""

    scores: Tensor  # [B, n], the sum of log-probabilities with the new token
    beams: Tensor  # [B, n], which of the prompt's K beams is extended
    tokens: Tensor  # [B, n], the new token


class BeamOutput(NamedTuple):
    """The best hypotheses of each prompt, best first; R is num_return, L the longest of them.

    Where a prompt has fewer than R hypotheses, the remaining ones have length 0 and score -inf.
    """

    sequences: Tensor  # [B, R, L] int64, generated tokens, filled up with pad_id
    lengths: Tensor  # [B, R] int64
    scores: Tensor  # [B, R] float32


class Hypotheses:
    """The finished hypotheses of one prompt: the best num_beams, best first."""

    def __init__(self, config: BeamConfig) -> None:
        self.config = config
        self.items: list[Hypothesis] = []

    def score(self, sum_logprob: float, length: int) -> float:
        """Normalise a sum of log-probabilities by the number of generated tokens."""
        divisor: float = length**self.config.length_penalty
        return sum_logprob / divisor

    def add(self, tokens: list[int], sum_logprob: float) -> None:
        """Enter a continuation if it is among the best; a worse one makes room."""
        self.items.append(Hypothesis(self.score(sum_logprob, len(tokens)), tokens))
        self.items.sort(key=lambda item: item.score, reverse=True)
        del self.items[self.config.num_beams :]

    def worst(self) -> float:
        """Return the score that a continuation has to beat once the list is full."""
        return self.items[-1].score

    def is_done(self, best_running: float, length: int) -> bool:
        """Tell whether no running beam can still enter the list.

        best_running is the greatest sum among beams of `length` tokens, -inf if none runs.
        """
        if best_running == -math.inf:
            return True
        if len(self.items) < self.config.num_beams:
            return False
        if self.config.early_stopping:
            return True
        # At best every token to come is certain; then the score depends on the final length alone.
        final = self.config.max_new_tokens
        if self.config.length_penalty < 0:
            final = min(length + 1, final)
        return self.worst() >= self.score(best_running, final)


def expand_rows(state: ModelState, num_beams: int) -> ModelState:
    """Give every beam its copy of its prompt's state: tensors [B, ...] -> [N, ...]."""
    return tuple(tensor.repeat_interleave(num_beams, dim=0) for tensor in state)


def reorder_rows(state: ModelState, rows: Tensor) -> ModelState:
    """Give row i of the state to come what row rows[i] holds: tensors [N, ...], rows [N]."""
    return tuple(tensor.index_select(0, rows) for tensor in state)


def banned_next_tokens(tokens: list[int], n: int) -> list[int]:
    """Return the tokens that would complete an n-gram which the sequence already has.

    With n = 2 and the tokens 5 7 9 5 the answer is [7].
    """
    prefix = tokens[len(tokens) - n + 1 :]
    starts = range(len(tokens) - n + 1)
    return [tokens[i + n - 1] for i in starts if tokens[i : i + n - 1] == prefix]


def forbid_tokens(logprobs: Tensor, tokens: Tensor, n_generated: int, config: BeamConfig) -> Tensor:
    """Make impossible what the configuration rules out after tokens [N, T]: logprobs [N, V].

    What stays possible keeps the model's own log-probability, so that scores of different beams
    remain comparable. n_generated of the T tokens are output.
    """
    logprobs = logprobs.clone()
    if n_generated < config.min_new_tokens:
        logprobs[:, config.eos_id] = -math.inf
    if config.no_repeat_ngram_size > 0:
        for row, history in enumerate(tokens.tolist()):
            banned = banned_next_tokens(history, config.no_repeat_ngram_size)
            logprobs[row, banned] = -math.inf
    return logprobs


def select_candidates(logprobs: Tensor, beam_scores: Tensor, n: int) -> Candidates:
    """Choose each prompt's n best extensions: logprobs [B, K, V], beam_scores [B, K].

    All beams of a prompt compete with each other. Fewer come back where K * V < n.
    """
    vocab_size = logprobs.shape[-1]
    totals = (beam_scores[:, :, None] + logprobs).flatten(1)
    scores, flat = totals.topk(min(n, totals.shape[1]), dim=-1)
    return Candidates(scores, flat // vocab_size, flat % vocab_size)


class BeamSearch:
    """One search for a batch of prompts [B, T]: prefill, step until done, finish."""

    def __init__(self, step_fn: StepFn, prompt: Tensor, config: BeamConfig) -> None:
        if prompt.dim() != 2 or 0 in prompt.shape:
            raise ValueError(f"prompt must be [B, T] with tokens, got {tuple(prompt.shape)}")
        self.step_fn = step_fn
        self.prompt = prompt
        self.config = config
        batch_size, num_beams = prompt.shape[0], config.num_beams
        self.tokens = prompt.repeat_interleave(num_beams, dim=0)  # [N, T], prompts included
        self.beam_scores = torch.full(
            (batch_size, num_beams), -math.inf, dtype=torch.float32, device=prompt.device
        )
        self.beam_scores[:, 0] = 0.0
        self.finished = [Hypotheses(config) for _ in range(batch_size)]
        self.done = [False] * batch_size
        self.state: ModelState = ()

    @property
    def n_generated(self) -> int:
        """Return how many tokens each row has beyond its prompt."""
        return self.tokens.shape[1] - self.prompt.shape[1]

    @torch.no_grad()
    def run(self) -> BeamOutput:
        """Search to the end."""
        self.prefill()
        while not all(self.done) and self.n_generated < self.config.max_new_tokens:
            self.step()
        return self.finish()

    def prefill(self) -> None:
        """Read each prompt once and take the first token of its beams."""
        logits, state = self.step_fn(self.prompt, ())
        if logits.dim() != 2 or not 0 <= self.config.eos_id < logits.shape[1]:
            raise ValueError(
                f"eos_id {self.config.eos_id} needs logits [rows, V], got {tuple(logits.shape)}"
            )
        logits, *state_rows = expand_rows((logits, *state), self.config.num_beams)
        self.state = tuple(state_rows)
        self._extend(logits)

    def step(self) -> None:
        """Feed the newest token of every row and take the next one."""
        logits, self.state = self.step_fn(self.tokens[:, -1:], self.state)
        self._extend(logits)

    def finish(self) -> BeamOutput:
        """Return the best hypotheses; beams cut off by the length limit compete without EOS."""
        scores = self.beam_scores.flatten().tolist()
        for row, sum_logprob in enumerate(scores):
            prompt_index = row // self.config.num_beams
            if sum_logprob > -math.inf and not self.done[prompt_index]:
                self.finished[prompt_index].add(self._output(row), sum_logprob)
        best = [hypotheses.items[: self.config.num_return] for hypotheses in self.finished]
        return self._pack(best)

    def _extend(self, logits: Tensor) -> None:
        """Take the next token of every beam from logits [N, V] and regroup the rows."""
        batch_size, num_beams = self.beam_scores.shape
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        logprobs = forbid_tokens(logprobs, self.tokens, self.n_generated, self.config)
        logprobs = logprobs.view(batch_size, num_beams, -1)
        candidates = select_candidates(logprobs, self.beam_scores, 2 * num_beams)
        next_scores = torch.full_like(self.beam_scores, -math.inf)
        next_beams = torch.zeros_like(next_scores, dtype=torch.long)
        next_tokens = torch.full_like(next_beams, self.config.pad_id)
        for b in range(batch_size):
            if not self.done[b]:
                for slot, (score, beam, token) in enumerate(self._survivors(candidates, b)):
                    next_scores[b, slot] = score
                    next_beams[b, slot] = beam
                    next_tokens[b, slot] = token
        first_rows = torch.arange(batch_size, device=logits.device)[:, None] * num_beams
        rows = (first_rows + next_beams).flatten()
        self.beam_scores = next_scores
        self.tokens = torch.cat([self.tokens[rows], next_tokens.view(-1, 1)], dim=1)
        self.state = reorder_rows(self.state, rows)
        best_running = next_scores.amax(dim=-1).tolist()
        for b, hypotheses in enumerate(self.finished):
            self.done[b] = hypotheses.is_done(best_running[b], self.n_generated)

    def _survivors(self, candidates: Candidates, b: int) -> list[tuple[float, int, int]]:
        """Retire prompt b's candidates that end with EOS and return the K best of the others.

        An EOS counts only where it would also have been one of the K beams.
        """
        num_beams = self.config.num_beams
        survivors: list[tuple[float, int, int]] = []
        scores, beams, tokens = (column[b].tolist() for column in candidates)
        for rank, (score, beam, token) in enumerate(zip(scores, beams, tokens, strict=True)):
            if score == -math.inf:
                break
            if token != self.config.eos_id:
                survivors.append((score, beam, token))
            elif rank < num_beams:
                output = self._output(b * num_beams + beam)
                self.finished[b].add([*output, token], score)
        return survivors[:num_beams]

    def _output(self, row: int) -> list[int]:
        generated: list[int] = self.tokens[row, self.prompt.shape[1] :].tolist()
        return generated

    def _pack(self, best: list[list[Hypothesis]]) -> BeamOutput:
        """Lay the hypotheses of all prompts out as tensors."""
        shape = (len(best), self.config.num_return)
        longest = max((len(item.tokens) for items in best for item in items), default=0)
        device = self.prompt.device
        sequences = torch.full(
            (*shape, longest), self.config.pad_id, dtype=torch.long, device=device
        )
        lengths = torch.zeros(shape, dtype=torch.long, device=device)
        scores = torch.full(shape, -math.inf, dtype=torch.float32, device=device)
        for b, items in enumerate(best):
            for rank, item in enumerate(items):
                length = len(item.tokens)
                sequences[b, rank, :length] = torch.tensor(item.tokens, device=device)
                lengths[b, rank] = length
                scores[b, rank] = item.score
        return BeamOutput(sequences, lengths, scores)


def beam_search(step_fn: StepFn, prompt: Tensor, config: BeamConfig) -> BeamOutput:
    """Return the best continuations of prompts [B, T] of one length.

    Raises ValueError for a prompt without tokens and for an eos_id outside the vocabulary.
    """
    return BeamSearch(step_fn, prompt, config).run()
