"""Turn the logits of a language model into the next token of every running request.

`BatchSampler` serves a batch in which every request brings its own `SamplingParams` and its own
random stream; `sample_token` and `TokenSampler` serve one request in plain Python floats.

Shapes: B requests, V tokens in the vocabulary.
References: nucleus sampling, Holtzman et al., arXiv:1904.09751; the repetition penalty of CTRL,
Keskar et al., arXiv:1909.05858; min-p, Nguyen et al., arXiv:2407.01082.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

_TokenRows = Sequence[Sequence[int]]  # B token lists of any lengths


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What one request asks for; the defaults leave the model's distribution as it is."""

    temperature: float = 1.0  # divisor of the penalised logits, before any filter; 0 is greedy
    top_k: int = -1  # how many of the most likely tokens to choose among; -1 for all
    top_p: float = 1.0  # mass of the nucleus among what other filters left; 1.0 for all
    min_p: float = 0.0  # least probability, as a share of the favourite's; 0.0 for none
    repetition_penalty: float = 1.0  # factor against tokens of prompt and output; 1.0 for none
    presence_penalty: float = 0.0  # cost of a token that occurs in the output
    frequency_penalty: float = 0.0  # cost of each of its occurrences in the output
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # added first; -inf is a ban
    min_new_tokens: int = 0  # EOS is impossible in an output shorter than this
    seed: int | None = None  # of the request's own random stream; None for an unpredictable one

    def __post_init__(self) -> None:
        _check_request(self.temperature, self.top_p)
        if self.top_k != -1 and self.top_k < 1:
            raise ValueError(f"top_k must be -1 or at least 1, got {self.top_k}")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p must be in [0, 1], got {self.min_p}")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty must be > 0, got {self.repetition_penalty}")


class SamplerOutput(NamedTuple):
    """The chosen tokens and the model's own view of them, from its unprocessed logits."""

    token_ids: Tensor  # [B] int64
    logprobs: Tensor  # [B] float32
    ranks: Tensor  # [B] int64, 1 for the most likely token
    top_ids: Tensor  # [B, n] int64, most likely first
    top_logprobs: Tensor  # [B, n] float32


def token_counts(rows: _TokenRows, vocab_size: int, device: torch.device) -> Tensor:
    """Count the occurrences of each token in each row: B token lists -> [B, V] int64."""
    for row in rows:
        for token_id in row:
            if not 0 <= token_id < vocab_size:
                raise ValueError(f"token id {token_id} is outside the vocabulary of {vocab_size}")
    longest = max((len(row) for row in rows), default=0)
    # Short rows are filled up, so that the histories form one rectangle: ids [B, longest].
    padded = [[*row, *[vocab_size] * (longest - len(row))] for row in rows]
    ids = torch.tensor(padded, dtype=torch.long, device=device).reshape(len(rows), longest)
    counts = torch.zeros(len(rows), vocab_size + 1, dtype=torch.long, device=device)
    counts.scatter_add_(1, ids, torch.ones_like(ids))
    return counts[:, :vocab_size]


def apply_penalties(
    logits: Tensor,
    prompts: _TokenRows,
    outputs: _TokenRows,
    *,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> Tensor:
    """Make tokens that already occurred less likely: logits [B, V], penalties [B] -> [B, V].

    CTRL's repetition penalty discourages when above 1; the other two are subtracted from logits.
    """
    vocab_size = logits.shape[-1]
    prompt_counts = token_counts(prompts, vocab_size, logits.device)
    output_counts = token_counts(outputs, vocab_size, logits.device)
    seen = (prompt_counts > 0) | (output_counts > 0)
    penalty = torch.where(seen, repetition[:, None], 1.0)
    logits = torch.where(logits > 0, logits / penalty, logits * penalty)
    logits = logits - frequency[:, None] * output_counts
    return logits - presence[:, None] * (output_counts > 0)


def apply_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Remove tokens that are unlikely beside the favourite: logits [B, V], min_p [B] -> [B, V].

    A removed token's logit is -inf. The bar moves with the model's confidence in its favourite.
    """
    probs = torch.softmax(logits, dim=-1)
    bar = min_p[:, None] * probs.amax(dim=-1, keepdim=True)
    return logits.masked_fill(probs < bar, float("-inf"))


def apply_top_k_top_p(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """Remove what lies outside each row's top k and nucleus: logits [B, V], k, p [B] -> [B, V].

    A removed token's logit is -inf. Tokens that tie with the k-th all stay, since a threshold on
    the logits cannot tell them apart. The nucleus is the smallest set of most likely tokens whose
    mass reaches p. k = -1 and p = 1 keep a row whole.
    """
    vocab_size = logits.shape[-1]
    sorted_logits, order = torch.sort(logits, dim=-1, descending=True)
    k = torch.where(k < 0, vocab_size, k).clamp(max=vocab_size)
    kth_logit = sorted_logits.gather(-1, k[:, None] - 1)
    sorted_logits = sorted_logits.masked_fill(sorted_logits < kth_logit, float("-inf"))
    sorted_probs = torch.softmax(sorted_logits, dim=-1)
    mass = sorted_probs.cumsum(dim=-1)
    # Rounding may bring the mass to 1 early; a row without a nucleus must not lose its tail.
    outside = (mass - sorted_probs >= p[:, None]) & (p[:, None] < 1)
    sorted_logits = sorted_logits.masked_fill(outside, float("-inf"))
    return torch.empty_like(logits).scatter(-1, order, sorted_logits)


def draw(probs: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one token per row from its own stream: probs [B, V], B CPU generators -> [B] int64.

    Token i comes with probability probs[i]. The random numbers are made on the host, so that a
    seed means the same on every device.
    """
    noise = torch.empty(probs.shape, dtype=torch.float32, device="cpu")
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    return (probs / noise.to(probs.device)).argmax(dim=-1)


def gather_logprobs(logits: Tensor, token_ids: Tensor, n: int) -> SamplerOutput:
    """Report on tokens chosen from logits [B, V] of any dtype: token_ids [B], n top tokens."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    chosen = logprobs.gather(-1, token_ids[:, None])
    ranks = (logprobs > chosen).sum(dim=-1) + 1
    top = logprobs.topk(n, dim=-1)
    return SamplerOutput(token_ids, chosen.squeeze(-1), ranks, top.indices, top.values)


class BatchSampler:
    """Samples for a changing set of requests; row b of every argument belongs to request b."""

    def __init__(
        self, params: Sequence[SamplingParams], vocab_size: int, eos_id: int | None = None
    ) -> None:
        if eos_id is not None and not 0 <= eos_id < vocab_size:
            raise ValueError(f"eos_id {eos_id} is outside the vocabulary of {vocab_size}")
        self.vocab_size = vocab_size
        self.eos_id = eos_id
        self.params: list[SamplingParams] = []
        self.generators: list[torch.Generator] = []
        for request in params:
            self.add(request)

    def add(self, params: SamplingParams) -> int:
        """Admit a request with a stream of its own and return its row, the last one."""
        for token_id in params.logit_bias:
            if not 0 <= token_id < self.vocab_size:
                raise ValueError(f"logit_bias names token {token_id} of {self.vocab_size}")
        generator = torch.Generator(device="cpu")
        if params.seed is None:
            generator.seed()
        else:
            generator.manual_seed(params.seed)
        self.params.append(params)
        self.generators.append(generator)
        return len(self.params) - 1

    def remove(self, index: int) -> None:
        """Let the request in row `index` go; the rows behind it close up."""
        if not 0 <= index < len(self.params):
            raise ValueError(f"no request in row {index} of {len(self.params)}")
        del self.params[index]
        del self.generators[-1]

    def process(self, logits: Tensor, prompts: _TokenRows, outputs: _TokenRows) -> Tensor:
        """Return the logits [B, V] float32 to draw from; impossible tokens are -inf.

        logits [B, V] come from the model and stay untouched; prompts and outputs are the B token
        lists so far.
        """
        shape = (len(self.params), self.vocab_size)
        if logits.shape != shape:
            raise ValueError(f"logits must have shape {shape}, got {tuple(logits.shape)}")
        if not len(prompts) == len(outputs) == shape[0]:
            raise ValueError(f"{shape[0]} rows, {len(prompts)} prompts, {len(outputs)} outputs")
        device = logits.device
        scores = logits.float().clone()
        for row, params in enumerate(self.params):
            for token_id, bias in params.logit_bias.items():
                scores[row, token_id] += bias
            if self.eos_id is not None and len(outputs[row]) < params.min_new_tokens:
                scores[row, self.eos_id] = float("-inf")
        scores = apply_penalties(
            scores,
            prompts,
            outputs,
            repetition=self._column("repetition_penalty", device),
            presence=self._column("presence_penalty", device),
            frequency=self._column("frequency_penalty", device),
        )
        temperature = self._column("temperature", device)
        scores = scores / torch.where(temperature == 0, 1.0, temperature)[:, None]
        scores = apply_min_p(scores, self._column("min_p", device))
        top_k, top_p = self._column("top_k", device).long(), self._column("top_p", device)
        return apply_top_k_top_p(scores, top_k, top_p)

    def sample(
        self, logits: Tensor, prompts: _TokenRows, outputs: _TokenRows, n_logprobs: int = 0
    ) -> SamplerOutput:
        """Choose the next token of every request and report the n_logprobs likeliest ones."""
        if not 0 <= n_logprobs <= self.vocab_size:
            raise ValueError(f"n_logprobs must be in [0, {self.vocab_size}], got {n_logprobs}")
        scores = self.process(logits, prompts, outputs)
        drawn = draw(torch.softmax(scores, dim=-1), self.generators)
        greedy = self._column("temperature", logits.device) == 0
        token_ids = torch.where(greedy, scores.argmax(dim=-1), drawn)
        return gather_logprobs(logits, token_ids, n_logprobs)

    def _column(self, name: str, device: torch.device) -> Tensor:
        values = [getattr(params, name) for params in self.params]
        return torch.tensor(values, dtype=torch.float32, device=device)


def softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Return the probabilities of V logits at a temperature above 0."""
    peak = max(logits)
    return renormalize([math.exp((logit - peak) / temperature) for logit in logits])


def renormalize(weights: Sequence[float]) -> list[float]:
    """Scale non-negative weights to sum to 1."""
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def keep_top_k(probs: Sequence[float], k: int) -> list[float]:
    """Share the probability among the k most likely tokens, or all if there are fewer."""
    kept = [0.0] * len(probs)
    for token_id in _by_probability(probs)[:k]:
        kept[token_id] = probs[token_id]
    return renormalize(kept)


def keep_top_p(probs: Sequence[float], p: float) -> list[float]:
    """Share the probability among the smallest set of most likely tokens whose mass reaches p."""
    kept = [0.0] * len(probs)
    mass = 0.0
    for token_id in _by_probability(probs):
        if mass >= p:
            break
        kept[token_id] = probs[token_id]
        mass += probs[token_id]
    return renormalize(kept)


def invert_cdf(probs: Sequence[float], u: float) -> int:
    """Return the token whose half-open stretch of the unit interval holds u, for u in [0, 1).

    Tokens lie end to end by id, each as long as its probability; a gap that rounding leaves before
    1 belongs to the last possible token.
    """
    mass = 0.0
    last = -1
    for token_id, prob in enumerate(probs):
        if prob <= 0.0:
            continue
        mass += prob
        last = token_id
        if u < mass:
            break
    return last


def filtered_distribution(
    logits: Sequence[float],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> list[float]:
    """Return the probabilities of V tokens that are left by temperature, top-k and top-p.

    None switches a filter off; temperature 0 puts all probability on a most likely token.
    """
    _check_request(temperature, 1.0 if top_p is None else top_p)
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    if not logits or not -math.inf < max(logits) < math.inf or any(map(math.isnan, logits)):
        raise ValueError(f"logits need a finite maximum and no NaN, got {list(logits)}")
    if temperature == 0:
        best = max(range(len(logits)), key=lambda token_id: logits[token_id])
        return [1.0 if token_id == best else 0.0 for token_id in range(len(logits))]
    probs = softmax(logits, temperature)
    if top_k is not None:
        probs = keep_top_k(probs, top_k)
    if top_p is not None:
        probs = keep_top_p(probs, top_p)
    return probs


def sample_token(
    logits: Sequence[float],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> tuple[int, list[float]]:
    """Draw one token and return it with the distribution it was drawn from."""
    probs = filtered_distribution(logits, temperature, top_k, top_p)
    return invert_cdf(probs, random.Random(seed).random()), probs


@dataclass(slots=True)
class TokenSampler:
    """Draws the tokens of one request, call after call, from one random stream."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    rng: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def __call__(self, logits: Sequence[float]) -> tuple[int, float]:
        """Return a token and its log-probability in the distribution it was drawn from."""
        probs = filtered_distribution(logits, self.temperature, self.top_k, self.top_p)
        token_id = invert_cdf(probs, self.rng.random())
        return token_id, math.log(probs[token_id])


def _by_probability(probs: Sequence[float]) -> list[int]:
    return sorted(range(len(probs)), key=lambda token_id: probs[token_id], reverse=True)


def _check_request(temperature: float, top_p: float) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature must be finite and >= 0, got {temperature}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1], got {top_p}")
