"""The token sampler agrees with other people's code, and its promises judge it fairly."""

from __future__ import annotations

import ast
import math
import random
from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

SOURCE = source_of("token_sampler")
sampler: Any = load("token_sampler", SOURCE)

NO_IDS: Any = torch.empty(4, 0, dtype=torch.long)


def _logits(seed: int) -> Tensor:
    return 2.0 * torch.randn(4, 50, generator=torch.Generator().manual_seed(seed))


def _processed(logits: Tensor, **settings: Any) -> Tensor:
    params = [sampler.SamplingParams(**settings)] * len(logits)
    nothing: list[list[int]] = [[] for _ in params]
    scores: Tensor = sampler.BatchSampler(params, logits.shape[-1]).process(
        logits, nothing, nothing
    )
    return scores


# ----- third parties


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        pytest.param({"temperature": 0.7}, [TemperatureLogitsWarper(0.7)], id="temperature"),
        pytest.param({"top_k": 7}, [TopKLogitsWarper(7)], id="top-k"),
        pytest.param({"top_k": 500}, [TopKLogitsWarper(500)], id="top-k beyond V"),
        pytest.param({"top_p": 0.8}, [TopPLogitsWarper(0.8)], id="top-p"),
        pytest.param({"top_p": 1e-4}, [TopPLogitsWarper(1e-4)], id="tiny top-p"),
        pytest.param({"min_p": 0.07}, [MinPLogitsWarper(0.07)], id="min-p"),
        pytest.param(
            {"temperature": 1.7, "min_p": 0.02, "top_k": 12, "top_p": 0.75},
            [
                TemperatureLogitsWarper(1.7),
                MinPLogitsWarper(0.02),
                TopKLogitsWarper(12),
                TopPLogitsWarper(0.75),
            ],
            id="all",
        ),
    ],
)
def test_filters_agree_with_transformers(
    settings: dict[str, Any], theirs: list[Any], seed: int
) -> None:
    logits = _logits(seed)

    want = LogitsProcessorList(theirs)(NO_IDS, logits)

    torch.testing.assert_close(_processed(logits, **settings), want)


def test_a_nucleus_that_reaches_p_exactly_ends_there_in_transformers_too() -> None:
    """Theirs sums from the other end and compares with 1 - p: equal while the sums are exact."""
    logits = torch.zeros(4, 8)

    for top_p in (0.125, 0.5, 0.75):
        theirs = TopPLogitsWarper(top_p)(NO_IDS, logits)
        ours = _processed(logits, top_p=top_p)
        assert (ours > -math.inf).sum(-1).tolist() == (theirs > -math.inf).sum(-1).tolist()


def test_tokens_that_tie_with_the_kth_stay_in_transformers_too() -> None:
    """A batch follows them; for one request our contract differs: exactly k tokens stay."""
    logits = torch.tensor([[3.0, 2.0, 2.0, 2.0, 1.0]] * 4)

    torch.testing.assert_close(_processed(logits, top_k=2), TopKLogitsWarper(2)(NO_IDS, logits))
    alone = sampler.filtered_distribution(logits[0].tolist(), top_k=2)
    assert sum(q > 0 for q in alone) == 2


def test_one_request_agrees_with_transformers() -> None:
    logits = _logits(5)
    theirs = [TemperatureLogitsWarper(0.6), TopKLogitsWarper(9), TopPLogitsWarper(0.85)]

    want = torch.softmax(LogitsProcessorList(theirs)(NO_IDS, logits), dim=-1)

    for row, probs in zip(logits.tolist(), want, strict=True):
        got = sampler.filtered_distribution(row, temperature=0.6, top_k=9, top_p=0.85)
        torch.testing.assert_close(torch.tensor(got), probs)


def test_rules_on_the_history_agree_with_transformers() -> None:
    logits = _logits(6)
    rng = random.Random(6)
    prompts = [[rng.randrange(50) for _ in range(6)] for _ in range(4)]
    outputs = [[rng.randrange(50) for _ in range(3)] for _ in range(4)]
    ids: Any = torch.tensor([a + b for a, b in zip(prompts, outputs, strict=True)])
    settings = {"repetition_penalty": 1.4, "logit_bias": {7: 2.0, 9: -4.0}, "min_new_tokens": 4}
    theirs: list[Any] = [
        SequenceBiasLogitsProcessor([[[7], 2.0], [[9], -4.0]]),
        MinNewTokensLengthLogitsProcessor(6, 4, 11),
        RepetitionPenaltyLogitsProcessor(1.4),
    ]
    batch = sampler.BatchSampler([sampler.SamplingParams(**settings)] * 4, 50, eos_id=11)

    want = LogitsProcessorList(theirs)(ids, logits.clone())

    torch.testing.assert_close(batch.process(logits, prompts, outputs), want)


def test_counts_and_logprobs_agree_with_torch() -> None:
    logits = _logits(7)
    rows = [[3, 3, 49], [], [0], [5, 6, 5, 5]]
    counts = sampler.token_counts(rows, 50, torch.device("cpu"))
    chosen = torch.tensor([3, 49, 0, 5])

    out = sampler.gather_logprobs(logits, chosen, 6)

    for row, got in zip(rows, counts, strict=True):
        assert torch.equal(got, torch.bincount(torch.tensor(row, dtype=torch.long), minlength=50))
    want = -F.cross_entropy(logits, chosen, reduction="none")
    torch.testing.assert_close(out.logprobs, want)
    places = logits.argsort(dim=-1, descending=True)
    assert out.ranks.tolist() == [
        row.tolist().index(i) + 1 for row, i in zip(places, chosen.tolist(), strict=True)
    ]
    assert torch.equal(out.top_ids, places[:, :6])


# ----- the promises


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises("token_sampler", seed=seed) == {}


def _rewritten(new: str) -> str:
    """Replace functions (and methods of a class) of the correct file by their namesakes."""
    lines, new_lines = SOURCE.splitlines(), new.splitlines()
    old, replacements = _spans(SOURCE), _spans(new)
    for name in sorted(replacements, key=lambda name: old[name], reverse=True):
        lines[slice(*old[name])] = new_lines[slice(*replacements[name])]
    return "\n".join(lines) + "\n"


def _spans(source: str) -> dict[str, tuple[int, int]]:
    """Return the lines of every function and method, from its first to behind its last."""
    body = ast.parse(source).body
    owned = [("", body), *((f"{c.name}.", c.body) for c in body if isinstance(c, ast.ClassDef))]
    return {
        owner + node.name: (node.lineno - 1, node.end_lineno or 0)
        for owner, nodes in owned
        for node in nodes
        if isinstance(node, ast.FunctionDef)
    }


ASCENDING = """
def apply_min_p(logits, min_p):
    gap = logits - logits.max(dim=-1, keepdim=True).values
    return torch.where(gap < min_p.log()[:, None], -math.inf, logits)

def apply_top_k_top_p(logits, k, p):
    rising, order = logits.sort(dim=-1, stable=True)
    size = logits.shape[-1]
    k = torch.where(k == -1, size, k.clamp(max=size))
    rising[rising < rising.gather(-1, size - k[:, None])] = -math.inf
    out = (rising.softmax(-1).cumsum(-1) <= 1 - p[:, None]) & (p[:, None] != 1)
    out[:, -1] = False
    rising[out] = -math.inf
    return rising.gather(-1, order.argsort(-1))
"""

ROW_BY_ROW = """
def token_counts(rows, vocab_size, device):
    if any(not 0 <= i < vocab_size for row in rows for i in row):
        raise ValueError(rows)
    counts = torch.zeros(len(rows), vocab_size, dtype=torch.long, device=device)
    for row, ids in zip(counts, rows):
        for i in ids:
            row[i] += 1
    return counts

def apply_penalties(logits, prompts, outputs, *, repetition, presence, frequency):
    token_counts([*prompts, *outputs], logits.shape[1], logits.device)
    for b, row in enumerate(logits):
        for i in set(prompts[b]).union(outputs[b]):
            if row[i] < 0:
                row[i] *= repetition[b]
            else:
                row[i] /= repetition[b]
        for i in outputs[b]:
            row[i] -= frequency[b]
        for i in set(outputs[b]):
            row[i] -= presence[b]
    return logits

def apply_top_k_top_p(logits, k, p):
    for row, kk, pp in zip(logits, k.tolist(), p.tolist()):
        if 0 < kk < len(row):
            row[row < row.topk(kk).values[-1]] = -math.inf
        if pp < 1:
            values, ids = row.softmax(-1).topk(len(row))
            n = int(torch.searchsorted(values.cumsum(-1), torch.tensor(pp, device="cpu"))) + 1
            row[ids[n:]] = -math.inf
    return logits

def gather_logprobs(logits, token_ids, n):
    logits = logits.to(torch.float32)
    logprobs = logits - logits.logsumexp(-1, keepdim=True)
    order = logprobs.argsort(dim=-1, descending=True)
    ranks = order.argsort(dim=-1).gather(-1, token_ids[:, None])[:, 0] + 1
    chosen = torch.stack([row[i] for row, i in zip(logprobs, token_ids)])
    return SamplerOutput(
        token_ids, chosen, ranks, order[:, :n], logprobs.gather(-1, order[:, :n])
    )
"""

ONE_UNIFORM = """
def draw(probs, generators):
    double = {"device": "cpu", "dtype": torch.float64}
    u = torch.stack([torch.rand(1, generator=g, **double) for g in generators])
    cdf = probs.double().cumsum(-1)
    u = u.to(probs.device) * cdf[:, -1:]
    return torch.searchsorted(cdf, u, right=True)[:, 0]

def keep_top_k(probs, k):
    least = sorted(probs)[-k] if k < len(probs) else 0.0
    above = [q if q > least else 0.0 for q in probs]
    room = k - sum(q > 0 for q in above)
    for i in reversed(range(len(probs))):
        if probs[i] == least and room > 0:
            above[i], room = least, room - 1
    return renormalize(above)

def keep_top_p(probs, p):
    import itertools
    ranked = sorted(enumerate(probs), key=lambda pair: (-pair[1], -pair[0]))
    sums = itertools.accumulate(q for _, q in ranked)
    size = next((n for n, mass in enumerate(sums, 1) if mass >= p), len(probs))
    kept = dict(ranked[:size])
    return renormalize([kept.get(i, 0.0) for i in range(len(probs))])

def invert_cdf(probs, u):
    import bisect, itertools
    cdf = list(itertools.accumulate(probs))
    last = max(i for i, q in enumerate(probs) if q > 0)
    return min(bisect.bisect_right(cdf, u), last)
"""

GUMBEL = """
def draw(probs, generators):
    uniform = [torch.rand(probs.shape[-1], generator=g, device="cpu") for g in generators]
    gumbel = -(-torch.stack(uniform).clamp_min_(1e-30).log()).log()
    return (probs.log() + gumbel.to(probs.device)).max(dim=-1).indices

def softmax(logits, temperature=1.0):
    scores = torch.tensor(logits, dtype=torch.float64, device="cpu")
    return ((scores - scores.max()) / temperature).softmax(-1).tolist()

def sample_token(logits, temperature=1.0, top_k=None, top_p=None, seed=None):
    probs = filtered_distribution(logits, temperature, top_k, top_p)
    return random.Random(seed).choices(range(len(probs)), weights=probs)[0], probs

class BatchSampler:
    def remove(self, index):
        if index not in range(len(self.params)):
            raise ValueError(index)
        keep = [i for i in range(len(self.params)) if i != index]
        self.params = [self.params[i] for i in keep]
        self.generators = [self.generators[i] for i in keep]

    def sample(self, logits, prompts, outputs, n_logprobs=0):
        if n_logprobs not in range(self.vocab_size + 1):
            raise ValueError(n_logprobs)
        scores = self.process(logits, prompts, outputs)
        ids = scores.log_softmax(-1).argmax(-1)
        rows = [b for b, params in enumerate(self.params) if params.temperature > 0]
        if rows:
            ids[rows] = draw(scores[rows].softmax(-1), [self.generators[b] for b in rows])
        return gather_logprobs(logits, ids, n_logprobs)
"""


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "new",
    [
        pytest.param(ASCENDING, id="ascending sort, logarithms"),
        pytest.param(ROW_BY_ROW, id="row by row, in place, other ties"),
        pytest.param(ONE_UNIFORM, id="one uniform number per token"),
        pytest.param(GUMBEL, id="Gumbel noise, greedy rows skipped"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(new: str, seed: int) -> None:
    assert broken_promises("token_sampler", _rewritten(new), seed=seed) == {}


AS_DOUBLE = "result.double()"
AS_INT32 = "result.int()"
ZEROS = "torch.zeros_like(result)"
NAN = "result * math.nan"
SCALED = "result * 1.001"
ECHO = "args[0]"
NO_PROBS = "[0.0 for _ in result]"
NAN_PROBS = "[math.nan for _ in result]"
SCALED_PROBS = "[1.001 * q for q in result]"
DEGENERATE = [
    *(("token_counts", wrong) for wrong in (ZEROS, AS_INT32, "result + 1")),
    *(("apply_penalties", wrong) for wrong in (ZEROS, ECHO, NAN, SCALED, AS_DOUBLE)),
    *(("apply_min_p", wrong) for wrong in (ZEROS, ECHO, NAN, SCALED, AS_DOUBLE)),
    *(("apply_top_k_top_p", wrong) for wrong in (ZEROS, ECHO, NAN, SCALED, AS_DOUBLE)),
    *(("draw", wrong) for wrong in (ZEROS, "args[0].argmax(-1)", AS_INT32)),
    *(
        ("gather_logprobs", f"result._replace({field}=result.{field} * {factor})")
        for field in ("logprobs", "top_logprobs")
        for factor in ("0", "1.001")
    ),
    *(
        ("gather_logprobs", f"result._replace({field}=result.{field} * 0)")
        for field in ("ranks", "top_ids")
    ),
    ("BatchSampler.process", "args[1]"),
    ("BatchSampler.process", AS_DOUBLE),
    ("BatchSampler.sample", "result._replace(token_ids=result.token_ids * 0)"),
    ("BatchSampler.add", "0"),
    ("BatchSampler.remove", "args[0].add(SamplingParams())"),
    *(("softmax", wrong) for wrong in ("list(args[0])", NAN_PROBS, SCALED_PROBS)),
    *(("keep_top_k", wrong) for wrong in (NO_PROBS, "list(args[0])", SCALED_PROBS)),
    *(("keep_top_p", wrong) for wrong in (NO_PROBS, "list(args[0])", SCALED_PROBS)),
    ("filtered_distribution", "list(args[0])"),
    ("invert_cdf", "0"),
    ("invert_cdf", "args[0].index(max(args[0]))"),
    ("sample_token", "(result[1].index(max(result[1])), result[1])"),
    ("sample_token", "(result[0], [0.0 for _ in result[1]])"),
    ("TokenSampler.__call__", "(result[0], result[1] * 1.001)"),
]


@pytest.mark.parametrize(("name", "wrong"), DEGENERATE)
def test_a_degenerate_function_breaks_a_promise(name: str, wrong: str) -> None:
    wrapped = (
        f"_right = {name}\n\n\ndef _wrong(*args, **kwargs):\n"
        f"    result = _right(*args, **kwargs)\n    return {wrong}\n\n\n{name} = _wrong\n"
    )

    assert breaks("token_sampler", f"{SOURCE}\n\n{wrapped}", seed=1)


@pytest.mark.parametrize(
    ("old", "new", "promise"),
    [
        pytest.param(
            "filtered_distribution(logits, self.temperature, self.top_k, self.top_p)",
            "filtered_distribution(logits, self.temperature, self.top_k)",
            "test_a_token_sampler_scores_with_the_distribution_it_drew_from",
            id="top-p of a token sampler is ignored",
        ),
        pytest.param(
            "filtered_distribution(logits, self.temperature, self.top_k, self.top_p)",
            "filtered_distribution(logits, self.temperature, None, self.top_p)",
            "test_a_token_sampler_scores_with_the_distribution_it_drew_from",
            id="top-k of a token sampler is ignored",
        ),
        pytest.param(
            "logits.masked_fill(probs < bar,",
            "logits.masked_fill_(probs < bar,",
            "test_the_callers_logits_and_histories_stay_untouched",
            id="min-p writes into the logits",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(old: str, new: str, promise: str) -> None:
    assert SOURCE.count(old) == 1

    assert breaks("token_sampler", SOURCE.replace(old, new), promise, seed=1)
