"""The batch sampler against transformers, and its promises against rewrites and wrong files."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from inprocess import Subject, broken_promises, failure, load, promises_in, source_of
from tiers import leading
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

NAME = "batch_sampler"
SOURCE = source_of(NAME)
batch_sampler: Any = load(NAME, SOURCE)


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- third parties


def _logits(seed: int, rows: int = 4) -> Tensor:
    return 2.0 * torch.randn(rows, 50, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
def test_filters_agree_with_transformers(seed: int) -> None:
    """One batch with other settings in each row gives what theirs gives row by row."""
    theirs: list[tuple[dict[str, Any], list[Any]]] = [
        ({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)]),
        ({"top_k": 7}, [TopKLogitsWarper(7)]),
        ({"top_k": 500}, [TopKLogitsWarper(500)]),
        ({"top_p": 0.8}, [TopPLogitsWarper(0.8)]),
        ({"top_p": 1e-4}, [TopPLogitsWarper(1e-4)]),
        ({"min_p": 0.07}, [MinPLogitsWarper(0.07)]),
        (
            {"temperature": 1.7, "min_p": 0.02, "top_k": 12, "top_p": 0.75},
            [
                TemperatureLogitsWarper(1.7),
                MinPLogitsWarper(0.02),
                TopKLogitsWarper(12),
                TopPLogitsWarper(0.75),
            ],
        ),
    ]
    logits = _logits(seed, len(theirs))
    sampler = batch_sampler.BatchSampler(len(theirs), 50)
    for i, (settings, _) in enumerate(theirs):
        sampler.add(i, batch_sampler.SamplingParams(**settings), [])
    no_ids: Any = torch.empty(1, 0, dtype=torch.long)

    got = sampler.process(logits)

    for row, scores, (_, warpers) in zip(logits, got, theirs, strict=True):
        torch.testing.assert_close(scores, LogitsProcessorList(warpers)(no_ids, row[None])[0])


def test_tokens_that_tie_and_masses_that_are_reached_agree_with_transformers() -> None:
    no_ids: Any = torch.empty(4, 0, dtype=torch.long)
    ties = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0]] * 4)
    level = torch.zeros(4, 8)
    off = torch.full((4,), -1)

    for k in (1, 2, 4):
        got = batch_sampler.apply_top_k_top_p(ties, torch.full((4,), k), torch.ones(4))
        torch.testing.assert_close(got, TopKLogitsWarper(k)(no_ids, ties))
    for p in (0.125, 0.5, 0.75):
        got = batch_sampler.apply_top_k_top_p(level, off, torch.full((4,), p))
        want = TopPLogitsWarper(p)(no_ids, level)
        assert (got > -math.inf).sum(-1).tolist() == (want > -math.inf).sum(-1).tolist()


def test_greedy_answers_agree_with_those_of_transformers() -> None:
    """Requests that join a running batch one by one answer as `generate` does for each alone."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.4,
    )
    model: Any = LlamaForCausalLM(config)
    model.eval()
    prompts = {"a": [3, 9, 9, 1], "b": [7], "c": [20, 3, 3, 3, 11, 12], "d": [1, 2]}
    settings = {"repetition_penalty": 1.4, "min_new_tokens": 6, "logit_bias": {7: 2.0, 9: -4.0}}
    greedy = batch_sampler.SamplingParams(temperature=0.0, **settings)
    sampler = batch_sampler.BatchSampler(3, 50, eos_id=5)
    waiting, answers = list(prompts), {}

    while waiting or sampler.request_ids:
        if waiting and len(sampler.request_ids) < 3:
            request_id = waiting.pop(0)
            sampler.add(request_id, greedy, prompts[request_id])
        texts = [[*request.prompt, *request.output] for request in sampler.requests]
        with torch.no_grad():
            rows = [model(torch.tensor([text])).logits[0, -1] for text in texts]
        sampler.sample(torch.stack(rows))
        for request in list(sampler.requests):
            if len(request.output) == 10 or request.output[-1] == 5:
                answers[request.request_id] = sampler.remove(request.request_id).output

    for request_id, prompt in prompts.items():
        theirs: list[Any] = [
            SequenceBiasLogitsProcessor([[[7], 2.0], [[9], -4.0]]),
            MinNewTokensLengthLogitsProcessor(len(prompt), 6, 5),
            RepetitionPenaltyLogitsProcessor(1.4),
        ]
        ids = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            do_sample=False,
            max_new_tokens=10,
            eos_token_id=5,
            pad_token_id=0,
            logits_processor=LogitsProcessorList(theirs),
        )
        assert answers[request_id] == ids[0, len(prompt) :].tolist()


def test_reports_agree_with_torch() -> None:
    logits = _logits(7, 5)
    prompt = [3, 49, 0, 5, 5]

    out = batch_sampler.prompt_logprobs(logits, prompt, 6)

    targets = torch.tensor(prompt[1:])
    losses = F.cross_entropy(logits[:-1], targets, reduction="none")
    torch.testing.assert_close(out.logprobs, -losses)
    places = logits[:-1].argsort(dim=-1, descending=True)
    assert torch.equal(out.top_ids, places[:, :6])
    assert torch.equal(out.ranks, (places == targets[:, None]).nonzero()[:, 1] + 1)


# ----- rewrites


# Each is put behind the file, whose names it takes.

DESCENDING_AND_GUMBEL = """
def apply_min_p(logits, min_p):
    probs = logits.softmax(-1)
    floor = min_p[:, None] * probs.max(-1, keepdim=True).values
    return torch.where(probs >= floor, logits, -math.inf)


def apply_top_k_top_p(logits, k, p):
    values, order = torch.sort(logits, dim=-1, descending=True, stable=True)
    k = torch.where(k < 0, logits.shape[-1], k).clamp(max=logits.shape[-1])
    values[values < values.gather(-1, k[:, None] - 1)] = -math.inf
    probs = values.softmax(-1)
    values[(probs.cumsum(-1) - probs >= p[:, None]) & (p[:, None] != 1)] = -math.inf
    return values.gather(-1, order.argsort(-1))


def draw(probs, generators):
    if len(generators) != len(probs):
        raise ValueError(len(generators))
    noise = [torch.rand(probs.shape[-1], generator=g, device="cpu") for g in generators]
    gumbel = -(-torch.stack(noise).clamp_min(1e-30).log()).log()
    return (probs.log() + gumbel.to(probs.device)).max(dim=-1).indices


def sample(self, logits, request_ids=None, _sample=BatchSampler.sample):
    if not len(logits):
        return gather_logprobs(logits, torch.empty(0, dtype=torch.long, device=logits.device), 0)
    return _sample(self, logits, request_ids)


BatchSampler.sample = sample
"""

ROW_BY_ROW = """
def token_counts(tokens, vocab_size, device):
    if any(i not in range(vocab_size) for i in tokens):
        raise ValueError(tokens)
    counts = torch.zeros(vocab_size, dtype=torch.long, device=device)
    for i in tokens:
        counts[i] += 1
    return counts


def apply_penalties(logits, in_prompt, output_counts, *, repetition, presence, frequency):
    for b, row in enumerate(logits):
        seen = in_prompt[b] | (output_counts[b] != 0)
        row[seen & (row < 0)] *= repetition[b]
        row[seen & (row > 0)] /= repetition[b]
        row -= output_counts[b] * frequency[b]
        row[output_counts[b] > 0] -= presence[b]
    return logits


def apply_top_k_top_p(logits, k, p):
    for row, kk, pp in zip(logits, k.tolist(), p.tolist()):
        if 0 < kk < len(row):
            row[row < row.topk(kk).values[-1]] = -math.inf
        if pp < 1:
            values, ids = row.softmax(-1).topk(len(row))
            n = int((values.cumsum(-1) < pp).sum()) + 1
            row[ids[n:]] = -math.inf
    return logits


def invert_cdf(probs, u):
    ids = []
    for row, x in zip(probs.double().tolist(), u.double().tolist()):
        mass, total = 0.0, math.fsum(row)
        for i, q in enumerate(row):
            if q > 0:
                mass += q
                chosen = i
                if x * total < mass:
                    break
        ids.append(chosen)
    return torch.tensor(ids, dtype=torch.long, device=probs.device)


def gather_logprobs(logits, token_ids, n):
    logits = logits.to(torch.float64)
    logprobs = (logits - logits.logsumexp(-1, keepdim=True)).float()
    order = logprobs.argsort(dim=-1, descending=True, stable=True)
    higher = logprobs > logprobs.take_along_dim(token_ids[:, None], -1)
    chosen = logprobs.take_along_dim(token_ids[:, None], -1).flatten()
    ranks, top = higher.long().sum(-1) + 1, order[:, :n]
    return SamplerOutput(token_ids, chosen, ranks, top, logprobs.gather(-1, top))
"""

ROWS_CLOSE_UP = """
def remove(self, request_id):
    row = self._row(request_id)
    for state in (*self.settings.values(), self.in_prompt, self.output_counts):
        state[row:-1] = state[row + 1 :].clone()
    request = self.requests.pop(row)
    self.rows = {r.request_id: i for i, r in enumerate(self.requests)}
    return request


def fork(self, parent_id, child_id, *, seed=None):
    parent = self.requests[self._row(parent_id)]
    if child_id in self.rows:
        raise ValueError(child_id)
    self.add(child_id, replace(parent.params, seed=seed), parent.prompt)
    child = self.requests[-1]
    child.output += parent.output
    child.reports += parent.reports
    self.output_counts[len(self.requests) - 1] += self.output_counts[self._row(parent_id)]


def sample(self, logits, request_ids=None):
    ids = self.request_ids if request_ids is None else list(request_ids)
    scores = self.process(logits, ids)
    requests = [self.requests[self.rows[i]] for i in ids]
    token_ids = scores.argmax(-1)
    drawn = [b for b, r in enumerate(requests) if r.params.temperature >= 1e-5]
    if drawn:
        token_ids[drawn] = draw(
            scores[drawn].softmax(-1), [requests[b].generator for b in drawn]
        )
    out = gather_logprobs(logits, token_ids, max([r.params.n_logprobs for r in requests] or [0]))
    for b, request in enumerate(requests):
        token_id, n = int(token_ids[b]), request.params.n_logprobs
        self.output_counts[self.rows[request.request_id], token_id] += 1
        told = torch.cat([out.top_ids[b, :n], token_ids[b : b + 1]]).tolist()
        values = torch.cat([out.top_logprobs[b, :n], out.logprobs[b : b + 1]]).tolist()
        report = (token_id, values[-1], int(out.ranks[b]), dict(zip(told, values)))
        request.output.append(token_id)
        request.reports.append(TokenReport(*report))
    return out


BatchSampler.remove, BatchSampler.fork, BatchSampler.sample = remove, fork, sample
"""

NO_STATE_BUT_REQUESTS = """
class BatchSampler:
    def __init__(self, max_requests, vocab_size, *, eos_id=None, device=None):
        if eos_id is not None and eos_id not in range(vocab_size):
            raise ValueError(eos_id)
        self.max_requests, self.vocab_size, self.eos_id = max_requests, vocab_size, eos_id
        self.running = {}

    @property
    def request_ids(self):
        return list(self.running)[::-1]

    def add(self, request_id, params, prompt):
        self.resume(Request(request_id, params, tuple(prompt), _generator(params.seed)))

    def fork(self, parent_id, child_id, *, seed=None):
        parent = self._request(parent_id)
        params = replace(parent.params, seed=seed)
        past = [*parent.output], [*parent.reports]
        self.resume(Request(child_id, params, parent.prompt, _generator(seed), *past))

    def resume(self, request):
        if request.request_id in self.running or len(self.running) == self.max_requests:
            raise ValueError(request)
        ids = [*request.prompt, *request.output, *request.params.logit_bias]
        if ids and not 0 <= min(ids) <= max(ids) < self.vocab_size:
            raise ValueError(ids)
        if request.params.n_logprobs > self.vocab_size:
            raise ValueError(request)
        self.running[request.request_id] = request

    def remove(self, request_id):
        request = self._request(request_id)
        return self.running.pop(request_id)

    def _request(self, request_id):
        if request_id not in self.running:
            raise ValueError(request_id)
        return self.running[request_id]

    def _requests(self, logits, request_ids):
        ids = self.request_ids if request_ids is None else request_ids
        if len(set(ids)) < len(ids) or logits.shape != (len(ids), self.vocab_size):
            raise ValueError(ids)
        return [self._request(i) for i in ids]

    def process(self, logits, request_ids=None):
        requests = self._requests(logits, request_ids)
        scores = torch.empty_like(logits, dtype=torch.float32)
        for b, request in enumerate(requests):
            scores[b] = self._scores(logits[b].double(), request)
        return scores

    def _scores(self, row, request):
        params = request.params
        for i, bias in params.logit_bias.items():
            row[i] += bias
        if self.eos_id is not None and params.min_new_tokens > len(request.output):
            row[self.eos_id] = -math.inf
        for i in {*request.prompt, *request.output}:
            factor = params.repetition_penalty
            row[i] = row[i] / factor if row[i] > 0 else row[i] * factor
        for i in set(request.output):
            row[i] -= params.presence_penalty + params.frequency_penalty * request.output.count(i)
        if params.temperature >= 1e-5:
            row = row / params.temperature
        if not math.isfinite(row.max()):
            raise ValueError(row)
        probs = row.softmax(-1)
        row[probs < params.min_p * probs.max()] = -math.inf
        k = torch.tensor([params.top_k], device=row.device)
        p = torch.tensor([params.top_p], dtype=torch.float64, device=row.device)
        return apply_top_k_top_p(row[None], k, p)[0]

    def sample(self, logits, request_ids=None):
        requests = self._requests(logits, request_ids)
        scores = self.process(logits, request_ids)
        ids = torch.empty(len(requests), dtype=torch.long, device=logits.device)
        for b, request in enumerate(requests):
            if request.params.temperature < 1e-5:
                ids[b] = scores[b].argmax()
            else:
                ids[b] = draw(scores[b : b + 1].softmax(-1), [request.generator])[0]
        n = max((request.params.n_logprobs for request in requests), default=0)
        out = gather_logprobs(logits, ids, n)
        for request, i, q, rank, tops, values in zip(requests, *(x.tolist() for x in out)):
            top = {i: q}
            for token_id, logprob in list(zip(tops, values))[: request.params.n_logprobs]:
                top[token_id] = logprob
            request.output.append(i)
            request.reports.append(TokenReport(i, q, rank, top))
        return out
"""


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(DESCENDING_AND_GUMBEL, id="descending sort, Gumbel noise"),
        pytest.param(ROW_BY_ROW, id="row by row, in place"),
        pytest.param(ROWS_CLOSE_UP, id="rows close up, greedy rows are not drawn"),
        pytest.param(NO_STATE_BUT_REQUESTS, id="no tensors between steps, other order"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(new: str) -> None:
    assert broken_promises(NAME, f"{SOURCE}\n\n{new}", seed=1) == {}


# ----- wrong files


HIDDEN = promises_in(load(f"{NAME}_hidden", source_of(NAME, "test_hidden.py")))


def _breaks(promise: str, source: str) -> bool:
    return failure(HIDDEN[promise], Subject(load(NAME, source)), seed=1) is not None


REPORTS = "test_reports_show_the_models_own_view"
RANKS = "test_rank_one_is_the_most_likely_token"


@pytest.mark.parametrize(
    ("name", "wrong", "promise"),
    [
        ("token_counts", "result * 0", "test_every_token_of_the_vocabulary_is_counted"),
        ("token_counts", "result.int()", "test_every_token_of_the_vocabulary_is_counted"),
        ("apply_penalties", "args[0]", "test_repetition_penalty_discourages_every_token_seen"),
        ("apply_penalties", "args[0]", "test_presence_and_frequency_count_generated_tokens_only"),
        ("apply_penalties", "result * 1.001", "test_all_settings_of_a_request_act_together"),
        ("apply_min_p", "args[0]", "test_min_p_is_relative_to_the_rows_likeliest_token"),
        ("apply_min_p", "result.double()", "test_min_p_is_relative_to_the_rows_likeliest_token"),
        ("apply_top_k_top_p", "args[0]", "test_the_nucleus_reaches_p_and_no_further"),
        ("apply_top_k_top_p", "args[0] * math.nan", "test_tokens_that_tie_with_the_kth_stay"),
        ("apply_top_k_top_p", "result * 1.001", "test_filters_that_are_off_keep_every_token"),
        ("invert_cdf", "args[0].argmax(-1)", "test_tokens_follow_the_distribution"),
        ("draw", "args[0].argmax(-1)", "test_rows_are_drawn_from_their_own_generators"),
        ("draw", "result.int()", "test_rows_are_drawn_from_their_own_generators"),
        ("gather_logprobs", "result._replace(ranks=result.ranks * 0 + 1)", RANKS),
        ("gather_logprobs", "result._replace(logprobs=result.logprobs * 1.001)", REPORTS),
        (
            "prompt_logprobs",
            "gather_logprobs(args[0][1:], result.token_ids, args[2])",
            "test_a_prompts_tokens_are_judged_by_what_came_before",
        ),
        ("BatchSampler.process", "args[1]", "test_all_settings_of_a_request_act_together"),
        ("BatchSampler.process", "result.double()", "test_all_settings_of_a_request_act_together"),
        (
            "BatchSampler.sample",
            "result._replace(token_ids=result.token_ids * 0)",
            "test_greedy_requests_take_the_best_token",
        ),
        (
            "BatchSampler.remove",
            "replace(result, output=result.output[::-1])",
            "test_state_follows_its_request_through_traffic",
        ),
    ],
)
def test_a_degenerate_function_breaks_a_promise(name: str, wrong: str, promise: str) -> None:
    wrapped = (
        f"_right = {name}\n\n\ndef _wrong(*args, **kwargs):\n"
        f"    args = [x.clone() if isinstance(x, Tensor) else x for x in args]\n"
        f"    result = _right(*args, **kwargs)\n    return {wrong}\n\n\n{name} = _wrong\n"
    )

    assert _breaks(promise, f"{SOURCE}\n\n{wrapped}")


@pytest.mark.parametrize(
    ("old", "new", "promise"),
    [
        pytest.param(
            "        self.output_counts[row] = output_counts\n",
            "",
            "test_a_new_request_finds_no_trace_of_earlier_ones",
            id="a row keeps the counts of its last owner",
        ),
        pytest.param(
            "            state[row] = state[last]\n",
            "            state[row] = state[row]\n",
            "test_settings_stay_with_their_request_when_others_leave",
            id="the last row's state stays behind",
        ),
        pytest.param(
            "            output=list(parent.output),\n",
            "",
            "test_a_fork_shares_the_past_and_nothing_else",
            id="a fork writes into its parent",
        ),
        pytest.param(
            "            generator=_generator(seed),\n",
            "",
            "test_a_fork_shares_the_past_and_nothing_else",
            id="a fork draws from its parent's stream",
        ),
        pytest.param(
            "top_ids[b][:n]",
            "top_ids[b][:n_top]",
            "test_every_request_is_told_as_many_alternatives_as_it_asked_for",
            id="everyone is told as much as the most demanding",
        ),
        pytest.param(
            "logits.masked_fill(logits < bar,",
            "logits.masked_fill_(logits < bar,",
            "test_the_callers_logits_stay_untouched",
            id="min-p writes into the logits",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(old: str, new: str, promise: str) -> None:
    assert SOURCE.count(old) == 1

    assert _breaks(promise, SOURCE.replace(old, new))
