"""Sample the next tokens of a running batch, whose requests come, fork and leave between steps.

A request owns a row of state while it runs: its settings, the tokens it has seen, its random stream
and a report on every token it was given. A step may be about all requests or about some of them.

Shapes: R rows of state, B requests in a step, T tokens of a prompt, V tokens in the vocabulary.
References: iteration-level scheduling, Yu et al., Orca, OSDI 2022; nucleus sampling, Holtzman et
al., arXiv:1904.09751; min-p, Nguyen et al., arXiv:2407.01082.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

GREEDY_BELOW = 1e-5  # temperatures under which the division by them would overflow
PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
SETTINGS = ("temperature", "top_k", "top_p", "min_p", *PENALTIES)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """What one request asks for; the defaults leave the model's distribution as it is."""

    temperature: float = 1.0  # 0 is greedy
    top_k: int = -1  # -1 for all tokens
    top_p: float = 1.0
    min_p: float = 0.0  # relative to the most likely token
    repetition_penalty: float = 1.0  # on tokens of prompt and output
    presence_penalty: float = 0.0  # on tokens of the output, once
    frequency_penalty: float = 0.0  # on tokens of the output, per occurrence
    logit_bias: Mapping[int, float] = field(default_factory=dict)  # -inf bans a token
    min_new_tokens: int = 0  # no EOS in an output shorter than this
    n_logprobs: int = 0  # how many of the most likely tokens to report
    seed: int | None = None  # of the request's own stream; None for an unpredictable one

    def __post_init__(self) -> None:
        for name, in_range in {
            "temperature": 0 <= self.temperature < math.inf,
            "top_k": self.top_k == -1 or self.top_k >= 1,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": 0 < self.repetition_penalty < math.inf,
            "logit_bias": all(bias < math.inf for bias in self.logit_bias.values()),
            "n_logprobs": self.n_logprobs >= 0,
        }.items():
            if not in_range:
                raise ValueError(f"{name} is out of range: {getattr(self, name)}")


class SamplerOutput(NamedTuple):
    """Chosen tokens, and the model's own view of them from its unprocessed logits."""

    token_ids: Tensor  # [B] int64
    logprobs: Tensor  # [B] float32
    ranks: Tensor  # [B] int64, 1 + the number of tokens that are more likely
    top_ids: Tensor  # [B, n] int64, most likely first
    top_logprobs: Tensor  # [B, n] float32


class TokenReport(NamedTuple):
    """What a request is told about one token of its output."""

    token_id: int
    logprob: float
    rank: int
    top: dict[int, float]  # log-probabilities of the n_logprobs likeliest tokens and of this one


@dataclass(slots=True)
class Request:
    """A request and what became of it; whoever holds it can hand it to another sampler."""

    request_id: Hashable
    params: SamplingParams
    prompt: list[int]
    generator: torch.Generator
    output: list[int] = field(default_factory=list)
    reports: list[TokenReport] = field(default_factory=list)  # one per token of the output


def token_counts(tokens: Sequence[int], vocab_size: int, device: torch.device) -> Tensor:
    """Count the occurrences of every token of the vocabulary: [V] int64."""
    for token_id in tokens:
        if not 0 <= token_id < vocab_size:
            raise ValueError(f"token id {token_id} is outside the vocabulary of {vocab_size}")
    ids = torch.tensor(tokens, dtype=torch.long, device=device)
    return torch.bincount(ids, minlength=vocab_size)


# Rows of logits, [B, V] float32; the settings have one entry per row, [B]. Removed tokens are -inf.


def apply_penalties(
    logits: Tensor,
    in_prompt: Tensor,
    output_counts: Tensor,
    *,
    repetition: Tensor,
    presence: Tensor,
    frequency: Tensor,
) -> Tensor:
    """Make tokens that occurred less likely: in_prompt [B, V] bool, output_counts [B, V] int.

    The repetition penalty is a factor against tokens of either text and discourages when above 1;
    the others are subtracted, for tokens of the output, per token or per occurrence.
    """
    in_output = output_counts > 0
    factor = torch.where(in_prompt | in_output, repetition[:, None], 1.0)
    logits = torch.where(logits < 0, logits * factor, logits / factor)
    return logits - (frequency[:, None] * output_counts + presence[:, None] * in_output)


def apply_min_p(logits: Tensor, min_p: Tensor) -> Tensor:
    """Remove the tokens with less than min_p times the probability of their row's likeliest."""
    bar = logits.amax(dim=-1, keepdim=True) + min_p.log()[:, None]
    return logits.masked_fill(logits < bar, float("-inf"))


def apply_top_k_top_p(logits: Tensor, k: Tensor, p: Tensor) -> Tensor:
    """Remove what is outside the row's k likeliest tokens, then what is outside its nucleus.

    The nucleus is the smallest set of likeliest tokens whose share of what top-k left reaches p.
    Tokens that tie with the k-th stay. k = -1 and p = 1 keep a row whole.
    """
    vocab_size = logits.shape[-1]
    sorted_logits, order = logits.sort(dim=-1)
    n_kept = torch.where(k == -1, vocab_size, k).clamp(max=vocab_size)
    kth = sorted_logits.gather(-1, vocab_size - n_kept[:, None])
    sorted_logits = sorted_logits.masked_fill(sorted_logits < kth, float("-inf"))
    mass = sorted_logits.softmax(dim=-1).cumsum(dim=-1)
    outside = (mass <= 1 - p[:, None]) & (p[:, None] < 1)
    outside[:, -1] = False
    sorted_logits = sorted_logits.masked_fill(outside, float("-inf"))
    return torch.empty_like(logits).scatter_(-1, order, sorted_logits)


def invert_cdf(probs: Tensor, u: Tensor) -> Tensor:
    """Return the token whose stretch of the unit interval holds u: probs [B, V], u [B] -> [B].

    The tokens of a row lie end to end by id from 0 on, each half-open and as long as its
    probability; 0 <= u < 1.
    """
    cdf = probs.double().cumsum(dim=-1)
    # A row's sum is 1 only up to rounding.
    target = u.double()[:, None] * cdf[:, -1:]
    return torch.searchsorted(cdf, target, right=True).squeeze(-1)


def draw(probs: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw a token per row, each from its own CPU generator: probs [B, V] -> [B] int64.

    The random numbers are made on the host, so that a seed means the same on every device.
    """
    u = torch.empty(len(probs), dtype=torch.float64, device="cpu")
    for place, generator in zip(u, generators, strict=True):
        place.uniform_(generator=generator)
    return invert_cdf(probs, u.to(probs.device))


def gather_logprobs(logits: Tensor, token_ids: Tensor, n: int) -> SamplerOutput:
    """Report on tokens chosen from logits [B, V] of any dtype: token_ids [B], n top tokens."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    chosen = logprobs.gather(-1, token_ids[:, None])
    ranks = 1 + (logprobs > chosen).sum(dim=-1)
    top_logprobs, top_ids = logprobs.topk(n, dim=-1)
    return SamplerOutput(token_ids, chosen.squeeze(-1), ranks, top_ids, top_logprobs)


def prompt_logprobs(logits: Tensor, prompt: Sequence[int], n: int) -> SamplerOutput:
    """Report on a prompt's own tokens but the first, which nothing predicts: T - 1 rows.

    Row t of logits [T, V] is the model's output at token t of the prompt.
    """
    if len(logits) != len(prompt):
        raise ValueError(f"{len(logits)} rows of logits for {len(prompt)} tokens")
    targets = torch.tensor(prompt[1:], dtype=torch.long, device=logits.device)
    return gather_logprobs(logits[:-1], targets, n)


class BatchSampler:
    """The state of up to R running requests, and the step that gives each its next token.

    A request enters by `add` or, with a past, by `resume`; `fork` continues its text a second time;
    `remove` hands it back.
    """

    def __init__(
        self,
        max_requests: int,
        vocab_size: int,
        *,
        eos_id: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if eos_id is not None and not 0 <= eos_id < vocab_size:
            raise ValueError(f"eos_id {eos_id} is outside the vocabulary of {vocab_size}")
        self.max_requests = max_requests
        self.vocab_size = vocab_size
        self.eos_id = eos_id
        self.requests: list[Request] = []  # by row
        self.rows: dict[Hashable, int] = {}
        self.settings = {name: torch.zeros(max_requests, device=device) for name in SETTINGS}
        shape = (max_requests, vocab_size)
        self.in_prompt = torch.zeros(shape, dtype=torch.bool, device=device)
        self.output_counts = torch.zeros(shape, dtype=torch.long, device=device)

    @property
    def request_ids(self) -> list[Hashable]:
        """Return the running requests in the order of their rows."""
        return [request.request_id for request in self.requests]

    # Coming and going.

    def add(self, request_id: Hashable, params: SamplingParams, prompt: Sequence[int]) -> None:
        """Admit a new request, with a random stream of its own."""
        self.resume(Request(request_id, params, list(prompt), _generator(params.seed)))

    def resume(self, request: Request) -> None:
        """Admit a request that may have been running before; it goes on where it stopped."""
        if request.request_id in self.rows:
            raise ValueError(f"request {request.request_id!r} is already running")
        if len(self.requests) == self.max_requests:
            raise ValueError(f"no row for {request.request_id!r} beside {self.request_ids}")
        params, device = request.params, self.in_prompt.device
        if params.n_logprobs > self.vocab_size:
            raise ValueError(f"n_logprobs {params.n_logprobs} of {self.vocab_size} tokens")
        token_counts([*params.logit_bias], self.vocab_size, device)
        in_prompt = token_counts(request.prompt, self.vocab_size, device) > 0
        output_counts = token_counts(request.output, self.vocab_size, device)

        row = len(self.requests)
        for name, column in self.settings.items():
            column[row] = getattr(params, name)
        self.in_prompt[row] = in_prompt
        self.output_counts[row] = output_counts
        self.requests.append(request)
        self.rows[request.request_id] = row

    def fork(self, parent_id: Hashable, child_id: Hashable, *, seed: int | None = None) -> None:
        """Admit a request with the parent's text and settings, but with a stream of its own."""
        parent = self.requests[self._row(parent_id)]
        child = replace(
            parent,
            request_id=child_id,
            params=replace(parent.params, seed=seed),
            generator=_generator(seed),
            output=list(parent.output),
            reports=list(parent.reports),
        )
        self.resume(child)

    def remove(self, request_id: Hashable) -> Request:
        """Let a request go and return it; the request in the last row takes over its row."""
        row = self._row(request_id)
        last = len(self.requests) - 1
        for state in (*self.settings.values(), self.in_prompt, self.output_counts):
            state[row] = state[last]
        request = self.requests[row]
        self.requests[row] = self.requests[last]
        self.rows[self.requests[row].request_id] = row
        del self.requests[last]
        del self.rows[request_id]
        return request

    # A step.

    def process(self, logits: Tensor, request_ids: Sequence[Hashable] | None = None) -> Tensor:
        """Return the scores [B, V] float32 to draw from; impossible tokens are -inf.

        Row b of the model's logits [B, V] belongs to request_ids[b], by default to that of self.
        """
        rows = self._rows(request_ids)
        if logits.shape != (len(rows), self.vocab_size):
            raise ValueError(f"logits {list(logits.shape)} for {len(rows)} x {self.vocab_size}")
        index = torch.tensor(rows, dtype=torch.long, device=logits.device)
        settings = {name: column[index] for name, column in self.settings.items()}
        scores = logits.float().clone()
        for b, row in enumerate(rows):
            request = self.requests[row]
            for token_id, bias in request.params.logit_bias.items():
                scores[b, token_id] += bias
            if self.eos_id is not None and len(request.output) < request.params.min_new_tokens:
                scores[b, self.eos_id] = float("-inf")
        repetition, presence, frequency = (settings[name] for name in PENALTIES)
        scores = apply_penalties(
            scores,
            self.in_prompt[index],
            self.output_counts[index],
            repetition=repetition,
            presence=presence,
            frequency=frequency,
        )
        temperature = settings["temperature"]
        scores = scores / torch.where(temperature < GREEDY_BELOW, 1.0, temperature)[:, None]
        if not scores.amax(dim=-1).isfinite().all():
            raise ValueError(f"one of {request_ids or self.request_ids} has no finite best score")
        scores = apply_min_p(scores, settings["min_p"])
        return apply_top_k_top_p(scores, settings["top_k"].long(), settings["top_p"])

    def sample(
        self, logits: Tensor, request_ids: Sequence[Hashable] | None = None
    ) -> SamplerOutput:
        """Give each request of the step its next token; other requests are left as they are.

        Logits and request_ids are those of `process`. The result has as many top tokens as the most
        demanding request asks for.
        """
        scores = self.process(logits, request_ids)
        rows = self._rows(request_ids)
        requests = [self.requests[row] for row in rows]
        index = torch.tensor(rows, dtype=torch.long, device=logits.device)
        drawn = draw(scores.softmax(dim=-1), [request.generator for request in requests])
        greedy = self.settings["temperature"][index] < GREEDY_BELOW
        token_ids = torch.where(greedy, scores.argmax(dim=-1), drawn)
        n_top = max((request.params.n_logprobs for request in requests), default=0)
        out = gather_logprobs(logits, token_ids, n_top)
        self.output_counts[index, token_ids] += 1
        ids, logprobs, ranks, top_ids, top_logprobs = (column.tolist() for column in out)
        for b, request in enumerate(requests):
            n = request.params.n_logprobs
            top = dict(zip(top_ids[b][:n], top_logprobs[b][:n], strict=True))
            top[ids[b]] = logprobs[b]
            request.output.append(ids[b])
            request.reports.append(TokenReport(ids[b], logprobs[b], ranks[b], top))
        return out

    def _row(self, request_id: Hashable) -> int:
        if request_id not in self.rows:
            raise ValueError(f"no request {request_id!r} is running")
        return self.rows[request_id]

    def _rows(self, request_ids: Sequence[Hashable] | None) -> list[int]:
        if request_ids is None:
            return list(range(len(self.requests)))
        rows = [self._row(request_id) for request_id in request_ids]
        if len(set(rows)) != len(rows):
            raise ValueError(f"a request occurs twice in {request_ids}")
        return rows


def _generator(seed: int | None) -> torch.Generator:
    own_seed = secrets.randbits(63) if seed is None else seed
    return torch.Generator(device="cpu").manual_seed(own_seed)
