"""What the batch sampler promises: `subject` is the file under test, `seed` differs between runs.

The oracles are plain Python in double precision. A text is taught to a request by logits that leave
it no choice. Frequencies are those of fixed seeds.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

INF = math.inf
NAN = math.nan
CERTAIN = 1e4  # a logit beside which no other token has any probability


def _gauss(rng: random.Random, n: int, scale: float = 2.0) -> list[float]:
    return [rng.gauss(0.0, scale) for _ in range(n)]


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def _logprobs(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.double(), dim=-1).float()


def _refused(function: Any, *args: object, **kwargs: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message's words are free)
        function(*args, **kwargs)


def _sampler(
    subject: Any, requests: Mapping[Any, Mapping[str, Any]], vocab_size: int, **how: Any
) -> Any:
    """Return a sampler in which every request runs with its settings and the prompt [1]."""
    sampler = subject.BatchSampler(12, vocab_size, **how)
    made: dict[str, Any] = {}
    for request_id, own in requests.items():
        if repr(own) not in made:
            made[repr(own)] = subject.SamplingParams(**own)
        sampler.add(request_id, made[repr(own)], [1])
    return sampler


def _step(sampler: Any, logits: Mapping[Any, Any]) -> dict[Any, int]:
    """Give the requests that are named their next token."""
    ids = list(logits)
    rows = torch.stack([torch.as_tensor(logits[i]) for i in ids])
    return dict(zip(ids, sampler.sample(rows, ids).token_ids.tolist(), strict=True))


def _teach(sampler: Any, request_id: Hashable, tokens: Sequence[int]) -> None:
    """Make a request say these tokens."""
    for token in tokens:
        forced = torch.full((sampler.vocab_size,), -CERTAIN)
        forced[token] = CERTAIN
        assert _step(sampler, {request_id: forced}) == {request_id: token}


def _told(request: Any) -> list[Any]:
    """Return the reports of a request as plain values."""
    return [tuple(report) for report in request.reports]


# ----- an oracle of one row


def _penalised(
    logits: Sequence[float],
    own: Mapping[str, Any],
    prompt: Sequence[int],
    output: Sequence[int],
    eos_id: int | None = None,
) -> list[float]:
    """Return the scores after bias, ban and penalties."""
    scores = list(logits)
    for token, bias in own.get("logit_bias", {}).items():
        scores[token] += bias
    if eos_id is not None and len(output) < own.get("min_new_tokens", 0):
        scores[eos_id] = -INF
    factor = own.get("repetition_penalty", 1.0)
    for token in {*prompt, *output}:
        scores[token] *= factor if scores[token] < 0 else 1 / factor
    for token, n in Counter(output).items():
        scores[token] -= own.get("presence_penalty", 0.0)
        scores[token] -= n * own.get("frequency_penalty", 0.0)
    return scores


def _probs(scores: Sequence[float], temperature: float = 1.0) -> list[float]:
    peak = max(scores)
    weights = [math.exp((score - peak) / temperature) for score in scores]
    return [weight / math.fsum(weights) for weight in weights]


def _filtered(scores: Sequence[float], own: Mapping[str, Any]) -> tuple[set[int], float]:
    """Return the tokens that stay, and how far the nearest decision is from tipping."""
    probs = _probs(scores, own.get("temperature", 1.0))
    falling = sorted((i for i, q in enumerate(probs) if q > 0), key=lambda i: -probs[i])
    floor = own.get("min_p", 0.0) * probs[falling[0]]
    margin = min(abs(probs[i] - floor) / floor for i in falling) if floor else 1.0
    falling = [i for i in falling if probs[i] >= floor]
    k = own.get("top_k", -1)
    if 0 < k < len(falling):
        margin = min(margin, scores[falling[k - 1]] - scores[falling[k]])
        falling = falling[:k]
    p = own.get("top_p", 1.0)
    if p < 1:
        total = math.fsum(probs[i] for i in falling)
        sums = [mass / total for mass in itertools.accumulate(probs[i] for i in falling)]
        margin = min(margin, *(abs(mass - p) for mass in sums))
        falling = falling[: 1 + sum(mass < p for mass in sums[:-1])]
    return set(falling), margin


def _kept(scores: Tensor) -> list[set[int]]:
    return [{i for i, x in enumerate(row) if x > -INF} for row in scores.tolist()]


# ----- filters and penalties of a row


@pytest.mark.symptom("One user's top_k or top_p changes the answers of another.")
def test_every_row_is_cut_by_its_own_top_k_and_top_p(subject: Any, seed: int) -> None:
    """Each row keeps its k likeliest tokens, then the nucleus of what is left, in its place."""
    ks = [-1, 3, 1, 5, 9, 50, -1, 2, 4, 4, 8]
    ps = [1.0, 1.0, 0.4, 0.6, 0.7, 1.0, 0.8, 0.75, 0.65, 1.0, 0.95]
    rng = random.Random(seed)
    logits, want = [], []
    for k, p in zip(ks, ps, strict=True):
        margin = 0.0
        while margin < 1e-3:
            row = _gauss(rng, 8, rng.uniform(0.5, 2.0))
            kept, margin = _filtered(row, {"top_k": k, "top_p": p})
        logits.append(row)
        want.append([x if i in kept else -INF for i, x in enumerate(row)])

    got = subject.apply_top_k_top_p(torch.tensor(logits), torch.tensor(ks), torch.tensor(ps))

    _close(got, torch.tensor(want))


@pytest.mark.symptom("top_p lets one word too many or too few through.")
def test_the_nucleus_reaches_p_and_no_further(subject: Any) -> None:
    """To reach p exactly is enough, the token that crosses p stays, and one always survives."""
    sizes = {
        0.25: 2,
        0.26: 3,
        0.5: 4,
        0.51: 5,
        0.75: 6,
        0.875: 7,
        0.876: 8,
        1e-6: 1,
        1e-12: 1,
        0.125: 1,
    }
    p = torch.tensor(list(sizes))
    k = torch.full((len(sizes),), -1)

    got = subject.apply_top_k_top_p(torch.ones(len(sizes), 8), k, p)
    assert [len(kept) for kept in _kept(got)] == list(sizes.values())
    steep = torch.tensor([[-60.0, -30.0, 0.0, -90.0]]).expand(len(sizes), 4).clone()
    assert _kept(subject.apply_top_k_top_p(steep, k, p)) == [{2}] * len(sizes)
    halves = torch.tensor([[0.0, 0.0, -9.0, 0.0, 0.0]])
    got = subject.apply_top_k_top_p(halves, torch.tensor([4]), torch.tensor([0.5]))
    (kept,) = _kept(got)
    assert len(kept) == 2
    assert 2 not in kept


@pytest.mark.symptom("A request without filters never says rare words.")
def test_filters_that_are_off_keep_every_token(subject: Any) -> None:
    """k = -1, p = 1 and min-p 0 leave a row as it is, however unlikely its tokens."""
    row = [0.5, -1.0, -150.0, 2.0, 0.0, -150.0, 1.5]
    logits = torch.tensor([row, [40.0, *row[1:]], row])
    p = torch.tensor([1.0, 1.0, 0.3])

    for k in ([-1, -1, -1], [-1, 7, 1], [7, 99, -1]):
        got = subject.apply_top_k_top_p(logits, torch.tensor(k), p)
        _close(got[:2], logits[:2])
        assert _kept(got[2:]) == [{3}]
    _close(subject.apply_min_p(logits, torch.zeros(3)), logits)


@pytest.mark.symptom("With equally likely words top_k drops some of them, or keeps unlikely ones.")
def test_tokens_that_tie_with_the_kth_stay(subject: Any) -> None:
    """The k-th token and all that tie with it survive, less likely ones do not."""
    logits = torch.tensor([[2.0, 0.0, 3.0, -INF, 2.0, 1.0, 2.0]] * 6)
    least = torch.tensor([3.0, 2.0, 2.0, 2.0, 1.0, 0.0])[:, None]

    got = subject.apply_top_k_top_p(logits, torch.tensor([1, 2, 3, 4, 5, 6]), torch.ones(6))

    _close(got, logits.masked_fill(logits < least, -INF))


@pytest.mark.symptom("min_p cuts too much or too little, or differently from batch to batch.")
def test_min_p_is_relative_to_the_rows_likeliest_token(subject: Any, seed: int) -> None:
    """A token stays if it has at least min-p times the probability of its row's likeliest."""
    rng = random.Random(seed)
    shares = [0.9, 0.5, 0.3, 0.1, 0.01, 0.001, 0.2]
    logits, want = [], []
    for share in shares:
        gaps = [0.0, 0.05, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0]
        peak = rng.choice((-4.0, -1.0, 2.0, 5.0))
        row = [peak - gap for gap in rng.sample(gaps, 8)]
        logits.append(row)
        want.append([x if math.exp(x - peak) >= share else -INF for x in row])

    _close(subject.apply_min_p(torch.tensor(logits), torch.tensor(shares)), torch.tensor(want))
    tied = subject.apply_min_p(torch.tensor([[1.0, 0.9, 1.0]]), torch.ones(1))
    assert _kept(tied) == [{0, 2}]


@pytest.mark.symptom("With a repetition penalty some words are repeated more, not less.")
def test_repetition_penalty_discourages_every_token_seen(subject: Any, seed: int) -> None:
    """Tokens of prompt and output get less likely, each once, whatever the sign of their logit."""
    logits = torch.tensor([[3.0, -2.0, 1.0, -1.0, 0.5, -4.0]] * 4) + 0.1 * _randn(seed, 4, 6)
    prompts = [[0, 1], [2], [], [0, 1, 4]]
    outputs = [[3, 3, 1], [], [4, 5, 5, 5], [0]]
    factors = [1.5, 2.0, 0.5, 1.0]
    in_prompt = torch.tensor([[i in row for i in range(6)] for row in prompts])
    counts = torch.tensor([[row.count(i) for i in range(6)] for row in outputs])
    nothing = torch.zeros(4)

    got = subject.apply_penalties(
        logits,
        in_prompt,
        counts,
        repetition=torch.tensor(factors),
        presence=nothing,
        frequency=nothing,
    )

    want = [
        _penalised(row, {"repetition_penalty": factor}, prompt, output)
        for row, factor, prompt, output in zip(
            logits.tolist(), factors, prompts, outputs, strict=True
        )
    ]
    _close(got, torch.tensor(want))


@pytest.mark.symptom("Presence and frequency penalties push words of the question away.")
def test_presence_and_frequency_count_generated_tokens_only(subject: Any, seed: int) -> None:
    """Presence costs once, frequency per occurrence, in the output; the prompt costs nothing."""
    logits = _randn(seed, 3, 6)
    outputs = [[1, 2, 2, 2], [2, 4, 4], [3, 3]]
    presence, frequency = [0.25, 2.0, 0.0], [0.5, -0.75, 0.0]
    in_prompt = torch.tensor([[True, True, False, False, True, True]] * 3)
    counts = torch.tensor([[row.count(i) for i in range(6)] for row in outputs])

    got = subject.apply_penalties(
        logits,
        in_prompt,
        counts,
        repetition=torch.ones(3),
        presence=torch.tensor(presence),
        frequency=torch.tensor(frequency),
    )

    want = logits.tolist()
    for row, once, each, output in zip(want, presence, frequency, outputs, strict=True):
        for token, n in Counter(output).items():
            row[token] -= once + each * n
    _close(got, torch.tensor(want))


@pytest.mark.symptom("Words of the highest id are never penalised, or the first one always is.")
def test_every_token_of_the_vocabulary_is_counted(subject: Any, seed: int) -> None:
    """A text's counts cover the whole vocabulary, first and last token included."""
    rng = random.Random(seed)
    device = torch.device("cpu")

    for text in ([], [0], [6], [6, 0, 6], [rng.randrange(7) for _ in range(20)]):
        got = subject.token_counts(text, 7, device)
        torch.testing.assert_close(got, torch.tensor([text.count(i) for i in range(7)]))
    for wrong in ([7], [0, -1], [3, 70]):
        _refused(subject.token_counts, wrong, 7, device)


# ----- the scores of a step


SETTINGS: list[dict[str, Any]] = [
    {"logit_bias": {1: 3.0, 4: -1.5}, "repetition_penalty": 1.8, "temperature": 0.7},
    {"min_p": 0.08, "top_k": 5, "top_p": 0.8, "temperature": 1.6},
    {"frequency_penalty": 0.4, "presence_penalty": 0.9, "top_k": 4, "min_new_tokens": 5},
    {"repetition_penalty": 1.3, "frequency_penalty": 0.7, "presence_penalty": -0.5},
    {"top_p": 0.6, "temperature": 2.2, "logit_bias": {0: 2.5}},
    {"presence_penalty": 0.8, "frequency_penalty": 0.3, "temperature": 0.4},
    {"min_p": 0.3, "temperature": 1.4, "min_new_tokens": 4, "top_p": 0.5},
    {"min_p": 0.15, "top_p": 0.75, "temperature": 2.5, "top_k": 6},
    {},
]


@pytest.mark.symptom("Requests that combine several settings get other words than documented.")
def test_all_settings_of_a_request_act_together(subject: Any, seed: int) -> None:
    """Bias, EOS ban, penalties, temperature, min-p, top-k and top-p act in this order."""
    rng = random.Random(seed)
    ids = [*range(len(SETTINGS))]
    sampler = subject.BatchSampler(12, 8, eos_id=2)
    texts = []
    for i, own in enumerate(SETTINGS):
        prompt = [rng.randrange(8) for _ in range(3)]
        output = [rng.choice([0, 1, 3, 4, 5, 6, 7]) for _ in range(4)]
        sampler.add(i, subject.SamplingParams(**own), prompt)
        texts.append((prompt, output))
    for tokens in zip(*(output for _, output in texts), strict=True):
        forced = torch.full((len(SETTINGS), 8), -CERTAIN)
        forced[ids, list(tokens)] = CERTAIN
        assert sampler.sample(forced, ids).token_ids.tolist() == list(tokens)

    for _ in range(6):
        logits, want, kept = [], [], []
        for own, (prompt, output) in zip(SETTINGS, texts, strict=True):
            margin = 0.0
            while margin < 1e-3:
                row = [*_gauss(rng, 2), 2.5, *_gauss(rng, 5)]
                scores = _penalised(row, own, prompt, output, eos_id=2)
                stay, margin = _filtered(scores, own)
            probs = _probs(scores, own.get("temperature", 1.0))
            logits.append(row)
            kept.append(stay)
            want.append([math.log(q) if i in stay else -INF for i, q in enumerate(probs)])
        got = sampler.process(torch.tensor(logits), ids)
        assert got.shape == (len(SETTINGS), 8)
        assert got.dtype == torch.float32
        assert _kept(got) == kept
        torch.testing.assert_close(
            _logprobs(got), _logprobs(torch.tensor(want)), rtol=1e-5, atol=1e-5
        )


@pytest.mark.symptom("With min_p set, top_p keeps more words than it should.")
def test_top_p_is_measured_on_what_the_other_filters_left(subject: Any) -> None:
    """The nucleus is a share of the tokens that min-p and top-k left, after temperature."""
    wide = torch.tensor([0.4, 0.3, *[0.03] * 10]).log()
    requests: dict[str, dict[str, Any]] = {
        "min-p": {"min_p": 0.5, "top_p": 0.56},
        "top-k": {"top_k": 2, "top_p": 0.56},
        "alone": {"top_p": 0.56},
        "warm": {"min_p": 0.25, "temperature": 2.0},
        "cold": {"min_p": 0.25, "temperature": 0.5},
    }

    sampler = _sampler(subject, requests, 12)
    got = sampler.process(wide.expand(5, 12).clone(), list(requests))

    assert _kept(got) == [{0}, {0}, {0, 1}, set(range(12)), {0, 1}]


@pytest.mark.symptom("Answers end before the minimum length, or cannot end once it is reached.")
def test_eos_is_impossible_until_min_new_tokens(subject: Any) -> None:
    """EOS cannot come before min_new_tokens were generated; the prompt does not count."""
    least = {"a": 3, "b": 1, "c": 0, "d": 2}
    for eos_id, temperature in [(0, 0.0), (3, 1.0)]:
        sampler = subject.BatchSampler(4, 4, eos_id=eos_id)
        for name, n in least.items():
            own = {"temperature": temperature, "min_new_tokens": n, "seed": 1}
            sampler.add(name, subject.SamplingParams(**own), [1] * 9)
        row = torch.tensor([0.3, -0.6, 1.1, -0.2])
        row[eos_id] = CERTAIN
        steps = [_step(sampler, dict.fromkeys(least, row)) for _ in range(4)]
        for name, n in least.items():
            assert [tokens[name] == eos_id for tokens in steps] == [i >= n for i in range(4)]
    free = _sampler(subject, {"a": {"min_new_tokens": 5}}, 4)
    assert _kept(free.process(torch.zeros(1, 4))) == [{0, 1, 2, 3}]


@pytest.mark.symptom("Requests that ask for nothing special do not get the model's own words.")
def test_default_settings_leave_the_model_as_it_is(subject: Any, seed: int) -> None:
    """Without settings scores follow the model's logits, whatever was said, and no more is told."""
    logits = _randn(seed, 1, 5)
    sampler = subject.BatchSampler(1, 5, eos_id=2)
    sampler.add("a", subject.SamplingParams(), [0, 1])

    _close(_logprobs(sampler.process(logits)), _logprobs(logits))
    _teach(sampler, "a", [3, 3, 1])
    _close(_logprobs(sampler.process(logits)), _logprobs(logits))
    assert sampler.sample(logits).top_ids.shape == (1, 0)


@pytest.mark.symptom("A logit bias has an effect on other requests or other words.")
def test_logit_bias_moves_its_own_token_only(subject: Any, seed: int) -> None:
    """A bias is added to its token's logit in its own row; minus infinity bans the token."""
    logits = _randn(seed, 4, 6)
    biases: dict[str, dict[int, float]] = {
        "a": {},
        "b": {0: 2.5},
        "c": {5: -1.5, 2: 0.75},
        "d": {3: -INF, 1: 1.0},
    }
    sampler = _sampler(subject, {i: {"logit_bias": bias} for i, bias in biases.items()}, 6)

    got = sampler.process(logits, [*"abcd"])

    want = logits.clone()
    for row, bias in enumerate(biases.values()):
        for token, amount in bias.items():
            want[row, token] += amount
    _close(_logprobs(got), _logprobs(want))


@pytest.mark.symptom("At temperature 0 the answer varies, or ignores penalties and biases.")
def test_greedy_requests_take_the_best_token(subject: Any, seed: int) -> None:
    """Temperature 0, or one as good as 0, gives the arg-max of the penalised logits, always."""
    rng = random.Random(seed)
    requests: dict[Any, dict[str, Any]] = {
        "plain": {"temperature": 0.0},
        "random": {},
        "filters": {"temperature": 0.0, "top_k": 3, "top_p": 0.3, "min_p": 0.1, "seed": 0},
        "tiny": {"temperature": 1e-38},
        "small": {"temperature": 1e-5},
        "bias": {"temperature": 0.0, "logit_bias": {3: 1000.0}},
        "repetition": {"temperature": 0.0, "repetition_penalty": 100.0},
        "presence": {"temperature": 0.0, "presence_penalty": 1000.0},
    }
    sampler = _sampler(subject, requests, 8)
    rising = [0.1 * i - 0.3 for i in range(8)]
    close = [1.0, 0.5, 0.25, -3.0, 1.0 - 2**-24, 0.0, 0.75, -1.0]
    drawn: set[int] = set()

    for n in range(10):
        row = rng.sample(close, 8)
        logits = dict.fromkeys(requests, row) | {"tiny": [8.0 * x for x in row]}
        logits |= {
            "small": rising,
            "random": [0.0] * 8,
            "repetition": [0.5, 1.0, *[0.4] * 6],
            "presence": rising,
        }
        tokens = _step(sampler, logits)
        assert tokens["plain"] == tokens["filters"] == tokens["tiny"] == row.index(1.0)
        assert (tokens["bias"], tokens["small"]) == (3, 7)
        assert n > 5 or tokens["repetition"] != 1
        assert n > 7 or tokens["presence"] == 7 - n
        drawn.add(tokens["random"])
    assert len(drawn) > 1


# ----- requests that come and go


@pytest.mark.symptom("After a while of traffic, penalties hit words that were never said.")
def test_state_follows_its_request_through_traffic(subject: Any) -> None:
    """While requests join, fork, leave and come back, each keeps its own settings and text."""
    rng = random.Random(11)
    sampler = subject.BatchSampler(5, 6, eos_id=0)
    running: dict[int, tuple[dict[str, Any], list[int], list[int]]] = {}
    paused: list[tuple[Any, tuple[dict[str, Any], list[int], list[int]]]] = []
    settings = [
        {"repetition_penalty": 1.5, "presence_penalty": 0.5, "min_new_tokens": 4},
        {"frequency_penalty": 1.0, "min_new_tokens": 2},
        {"repetition_penalty": 3.0, "frequency_penalty": 0.25},
        {"presence_penalty": 1.5, "repetition_penalty": 0.8},
    ]
    params = [subject.SamplingParams(temperature=0.0, **own) for own in settings]
    for step in range(40):
        roll = rng.random()
        if len(running) < 2 or (roll < 0.3 and len(running) < 5):
            if paused and rng.random() < 0.5:
                request, known = paused.pop(rng.randrange(len(paused)))
                sampler.resume(request)
                running[request.request_id] = known
            elif running and rng.random() < 0.4:
                parent = rng.choice(sorted(running))
                sampler.fork(parent, step)
                own, prompt, output = running[parent]
                running[step] = (own, prompt, list(output))
            else:
                kind = step % 4
                prompt = [rng.randrange(6) for _ in range(rng.randrange(4))]
                sampler.add(step, params[kind], prompt)
                running[step] = (settings[kind], prompt, [])
        elif roll < 0.5:
            leaves = rng.choice(sorted(running))
            request = sampler.remove(leaves)
            known = running.pop(leaves)
            assert request.output == known[2]
            if rng.random() < 0.6:
                paused.append((request, known))
        ids = sampler.request_ids
        assert sorted(ids) == sorted(running)
        chosen = rng.sample(ids, rng.randint(1, len(ids))) if step % 2 else ids
        logits = [_gauss(rng, 6, 1.0) for _ in chosen]
        out = sampler.sample(torch.tensor(logits), *([chosen] if step % 2 else []))
        for row, request_id, token in zip(logits, chosen, out.token_ids.tolist(), strict=True):
            scores = _penalised(row, *running[request_id], eos_id=0)
            assert scores[token] > max(scores) - 1e-4
            running[request_id][2].append(token)

    for request_id, (_, prompt, output) in running.items():
        request = sampler.remove(request_id)
        assert (list(request.prompt), request.output) == (prompt, output)
        assert [report.token_id for report in request.reports] == output
    assert sampler.request_ids == []


@pytest.mark.symptom("A new user's answers avoid words that somebody else used before.")
def test_a_new_request_finds_no_trace_of_earlier_ones(subject: Any, seed: int) -> None:
    """A request scores as if it were the first that the sampler ever saw."""
    logits = _randn(seed, 2, 5)
    own = {"repetition_penalty": 2.0, "presence_penalty": 1.0, "frequency_penalty": 0.5}
    sampler = subject.BatchSampler(2, 5)
    for request_id in ("a", "b"):
        sampler.add(request_id, subject.SamplingParams(top_k=1, **own), [0, 3])
        _teach(sampler, request_id, [1, 2, 2])
    for request_id in ("a", "b"):
        assert sampler.remove(request_id).output == [1, 2, 2]
    sampler.add("a", subject.SamplingParams(**own), [4])
    sampler.add("c", subject.SamplingParams(), [4])

    got = sampler.process(logits, ["a", "c"])

    want = [_penalised(logits[0].tolist(), own, [4], []), logits[1].tolist()]
    _close(_logprobs(got), _logprobs(torch.tensor(want)))


@pytest.mark.symptom("Once a request has finished, others answer with the wrong settings.")
def test_settings_stay_with_their_request_when_others_leave(subject: Any, seed: int) -> None:
    """Whoever leaves, every other request keeps all its settings and the order is told."""
    logits = _randn(seed, 9, 8) + torch.tensor([0.0, 0, 9, 0, 0, 0, 0, 0])
    sampler = subject.BatchSampler(9, 8, eos_id=2)
    for i in reversed(range(9)):
        sampler.add(i, subject.SamplingParams(**SETTINGS[i]), [i % 8, 5])
    said = torch.tensor([3, 4, 0, 7, 1, 6, 0, 1, 3])
    _step(sampler, dict(enumerate(CERTAIN * torch.eye(8)[said])))
    whole = sampler.process(logits, [*range(9)])

    for leaves in (8, 1, 7, 6):
        sampler.remove(leaves)
        ids = sampler.request_ids
        _close(sampler.process(logits[ids]), whole[ids])
        backwards = sorted(ids, reverse=True)[:-1]
        _close(sampler.process(logits[backwards], backwards), whole[backwards])
    assert sorted(sampler.request_ids) == [0, 2, 3, 4, 5]


@pytest.mark.symptom("The answer to a seeded request depends on the traffic around it.")
def test_a_stream_does_not_depend_on_companions_or_place(subject: Any, seed: int) -> None:
    """A seeded request gets the tokens it would get alone, whoever joins, leaves or stands by."""
    logits = 0.3 * _randn(seed, 5, 64)
    own = {i: {"seed": seed + i} for i in range(5)}
    alone = {}
    for i in (0, 3, 4):
        sampler = _sampler(subject, {i: own[i]}, 64)
        alone[i] = [_step(sampler, {i: row})[i] for row in logits]
    sampler = _sampler(subject, {i: own[i] for i in range(4)}, 64)
    said: dict[int, list[int]] = {i: [] for i in own}

    for n, ids in enumerate([[0, 1, 2, 3], [0, 2, 3], [3, 4, 2, 0], [3, 4, 0], [0, 4, 3]]):
        if n == 1:
            sampler.remove(1)
        if n == 2:
            sampler.add(4, subject.SamplingParams(**own[4]), [1])
        if n == 3:
            sampler.remove(2)
        tokens = _step(sampler, {i: logits[len(said[i])] for i in ids})
        for i, token in tokens.items():
            said[i].append(token)

    assert [said[0], said[3], said[4]] == [alone[0], alone[3], alone[4][:3]]
    assert len({tuple(tokens) for tokens in alone.values()}) == 3


@pytest.mark.symptom("A prompt that is still being read changes the answer that follows it.")
def test_requests_left_out_of_a_step_stay_as_they_are(subject: Any, seed: int) -> None:
    """A request that takes no part in a step keeps its text, its penalties and its stream."""
    logits = 0.3 * _randn(seed, 5, 64)
    own = {"frequency_penalty": 0.25, "repetition_penalty": 1.5}
    requests = {i: {"seed": seed + i, **own} for i in range(3)}
    steady = _sampler(subject, requests, 64)
    want = [_step(steady, dict.fromkeys(range(3), logits[n])) for n in range(4)]

    sampler = _sampler(subject, requests, 64)
    assert _step(sampler, {0: logits[0], 2: logits[0]}) == {0: want[0][0], 2: want[0][2]}
    assert _step(sampler, {2: logits[1]}) == {2: want[1][2]}
    before = sampler.process(logits[:1], [1])
    _step(sampler, {0: logits[1], 2: logits[2]})
    _close(sampler.process(logits[:1], [1]), before)
    got = [_step(sampler, {1: logits[n]})[1] for n in range(4)]

    assert got == [tokens[1] for tokens in want]
    assert sampler.remove(0).output == [want[0][0], want[1][0]]


@pytest.mark.symptom("A request that had to wait goes on differently than if it had not.")
def test_a_paused_request_goes_on_where_it_stopped(subject: Any, seed: int) -> None:
    """A request that was removed and resumed, here or elsewhere, says what it would have said."""
    logits = 0.5 * _randn(seed, 7, 64)
    own = {"seed": seed, "presence_penalty": 0.5, "repetition_penalty": 1.3, "n_logprobs": 1}
    steady = _sampler(subject, {"a": own, "b": {}}, 64)
    for row in logits:
        _step(steady, {"a": row})
    want = steady.remove("a")

    here = _sampler(subject, {"z": {}, "a": own, "b": {}, "c": {}}, 64)
    there = _sampler(subject, {"c": {}}, 64)
    for row in logits[:3]:
        _step(here, {"a": row})
    there.resume(here.remove("a"))
    for row in logits[3:5]:
        _step(there, {"c": row, "a": row})
    request = there.remove("a")
    assert request.output == want.output[:5]
    assert request.params.seed == seed
    assert request.request_id == "a"
    assert list(request.prompt) == [1]
    here.resume(request)
    for row in logits[5:]:
        _step(here, {"b": row, "a": row})
    again = here.remove("a")

    assert again.output == want.output
    assert _told(again) == _told(want)
    assert len(set(want.output)) > 2


@pytest.mark.symptom("Parallel answers to one question mix, or are all the same.")
def test_a_fork_shares_the_past_and_nothing_else(subject: Any, seed: int) -> None:
    """A child has the parent's text, settings and reports, but a stream and a future of its own."""
    logits = 0.3 * _randn(seed, 7, 64)
    own = {"seed": seed, "frequency_penalty": 9.0, "logit_bias": {7: -INF}, "n_logprobs": 2}
    steady = _sampler(subject, {"a": own}, 64)
    want = [_step(steady, {"a": row})["a"] for row in logits]
    past = want[:3]

    sampler = _sampler(subject, {"a": own}, 64)
    for row in logits[:3]:
        _step(sampler, {"a": row})
    sampler.fork("a", "b", seed=seed + 1)
    sampler.fork("a", "c", seed=seed + 2)
    sampler.fork("a", "d", seed=seed + 1)
    sampler.fork("a", "e")
    scores = sampler.process(logits[:1].expand(5, 64).clone(), ["a", "b", "c", "d", "e"])
    _close(scores, scores[:1].expand(5, 64))
    tokens = [_step(sampler, dict.fromkeys("eadcb", row)) for row in logits[3:]]
    sampler.fork("b", "f", seed=3)
    said = {i: [row[i] for row in tokens] for i in "abcde"}
    requests = {i: sampler.remove(i) for i in "abcdef"}

    assert said["a"] == want[3:]
    assert said["b"] == said["d"]
    assert len({tuple(said[i]) for i in "abce"}) == 4
    for i in "abcde":
        assert requests[i].output == past + said[i]
        assert [report.token_id for report in requests[i].reports] == past + said[i]
        assert list(requests[i].prompt) == [1]
        assert requests[i].request_id == i
    assert _told(requests["b"])[:3] == _told(requests["a"])[:3]
    assert requests["f"].output == requests["b"].output
    assert requests["b"].params.n_logprobs == 2


@pytest.mark.symptom("A forked answer with a seed cannot be reproduced.")
def test_a_forks_stream_begins_with_its_seed(subject: Any, seed: int) -> None:
    """A child with a seed draws what a new request with this seed would draw."""
    logits = 0.3 * _randn(seed, 5, 64)
    fresh = _sampler(subject, {"a": {"seed": 0}}, 64)
    want = [_step(fresh, {"a": row})["a"] for row in logits]

    sampler = _sampler(subject, {"a": {"seed": seed}}, 64)
    for row in logits[:2]:
        _step(sampler, {"a": row})
    sampler.fork("a", "b", seed=0)
    assert [_step(sampler, {"b": row})["b"] for row in logits] == want
    request = sampler.remove("b")
    assert request.output[2:] == want
    assert request.params.seed == 0


@pytest.mark.symptom("A request with a seed cannot be reproduced, or repeats one word for ever.")
def test_a_seed_fixes_the_whole_stream(subject: Any, seed: int) -> None:
    """Equal seeds give equal tokens step by step, zero included; random state outside is kept."""
    row = 0.3 * _randn(seed, 64)
    before = subject.rng_state()
    seeds = {"a": 0, "b": 0, "c": seed + 1, "d": None, "e": None}
    said = []
    for _ in range(2):
        sampler = _sampler(subject, {i: {"seed": own} for i, own in seeds.items()}, 64)
        steps = [_step(sampler, dict.fromkeys(seeds, row)) for _ in range(5)]
        said.append({i: tuple(tokens[i] for tokens in steps) for i in seeds})
    one, two = said

    assert one["a"] == one["b"] == two["a"]
    assert one["c"] == two["c"]
    assert all(len(set(tokens)) > 1 for tokens in one.values())
    assert len({one["a"], one["c"], one["d"], one["e"], two["d"], two["e"]}) == 6
    assert subject.rng_state() == before


# ----- drawing


@pytest.mark.symptom("Once in many million tokens a forbidden word comes out.")
def test_a_uniform_number_selects_the_token_whose_stretch_holds_it(subject: Any, seed: int) -> None:
    """Tokens lie end to end from 0 on, half-open, and an impossible one is never selected."""
    holes = [0.0, 0.25, 0.0, 0.5, 0.25, 0.0]
    cases = {0.0: 1, 0.2: 1, 0.25: 3, 0.74: 3, 0.75: 4, 1 - 2**-53: 4}
    u = torch.tensor(list(cases), dtype=torch.float64)

    got = subject.invert_cdf(torch.tensor([holes] * 6), u)
    torch.testing.assert_close(got, torch.tensor(list(cases.values())))
    for total in (0.999, 1.0, 1.001):
        uneven = torch.tensor([[0.0, *[total / 10] * 10, 0.0, 0.0]] * 2)
        ends = subject.invert_cdf(uneven, torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64))
        assert ends.tolist() == [1, 10]

    rng = random.Random(seed)
    rows = [_probs(_gauss(rng, 8)) for _ in range(8)]
    inside = [math.fsum(row[:i]) + rng.uniform(0.1, 0.9) * row[i] for i, row in enumerate(rows)]
    got = subject.invert_cdf(torch.tensor(rows), torch.tensor(inside, dtype=torch.float64))
    assert got.tolist() == [*range(8)]


@pytest.mark.symptom("Two users who ask the same get linked answers.")
def test_rows_are_drawn_from_their_own_generators(subject: Any, seed: int) -> None:
    """Drawing uses one generator per row: equal streams give equal tokens, others do not."""
    probs = torch.softmax(0.3 * _randn(seed, 64), dim=-1).expand(6, 64).clone()
    seeds = [seed, seed + 1, seed + 2, seed, seed + 3, seed + 1]

    ids = subject.draw(probs, [_stream(own) for own in seeds])

    assert ids.shape == (6,)
    assert ids.dtype == torch.int64
    assert ids[0] == ids[3]
    assert ids[1] == ids[5]
    assert len(set(ids.tolist())) > 1
    certain = torch.eye(6, 64)[[3, 0, 5, 1, 1, 2]]
    assert subject.draw(certain, [_stream(own) for own in seeds]).tolist() == [3, 0, 5, 1, 1, 2]
    _refused(subject.draw, probs, [_stream(0)] * 5)
    _refused(subject.draw, probs, [_stream(0)] * 7)


@pytest.mark.symptom("Over many answers some words come up too often, or never.")
def test_tokens_follow_the_distribution(subject: Any) -> None:
    """Over many rows tokens come up as often as their probabilities say, impossible ones never."""
    n = 400
    probs = torch.tensor([0.0, 0.5, 0.0, 0.125, 0.375])

    ids = subject.draw(probs.expand(n, 5).clone(), [_stream(1000 + i) for i in range(n)])

    share = torch.bincount(ids, minlength=5) / n
    assert share[[0, 2]].tolist() == [0.0, 0.0]
    assert bool(((share - probs).abs() < 0.15).all())


@pytest.mark.symptom("Words that the settings exclude turn up in the answers all the same.")
def test_requests_say_only_what_their_settings_leave(subject: Any) -> None:
    """Tokens are drawn from the processed scores, and not always the same one."""
    requests: dict[str, dict[str, Any]] = {
        "a": {"top_k": 2, "temperature": 2.0, "seed": 0},
        "b": {"temperature": 1e-3, "seed": 1},
        "c": {"min_p": 0.5, "seed": 2},
        "d": {"logit_bias": {1: -INF, 2: 9.0, 5: 9.5}, "top_p": 0.9, "seed": 3},
    }
    sampler = _sampler(subject, requests, 6)
    row = [0.0, 1.5, 1.25, 0.25, 1.0, 0.5]

    left = {"a": {1, 2}, "b": {1}, "c": {1, 2, 4}, "d": {2, 5}}
    steps = [_step(sampler, dict.fromkeys(requests, row)) for _ in range(12)]
    for i, tokens in left.items():
        said = {step[i] for step in steps}
        assert said <= tokens
        assert len(said) > 1 or i == "b"


# ----- reports


@pytest.mark.symptom("The most likely word is reported with rank 0 or 2.")
def test_rank_one_is_the_most_likely_token(subject: Any, seed: int) -> None:
    """Ranks count from one, most likely first, and top tokens come in that order."""
    order = torch.stack([torch.randperm(6, generator=_stream(seed + i)) for i in range(6)])
    falling = torch.arange(6, 0, -1.0)
    logits = torch.empty(6, 6).scatter_(-1, order, falling.expand(6, 6))
    chosen = order.diagonal().clone()

    out = subject.gather_logprobs(logits, chosen, 4)

    torch.testing.assert_close(out.token_ids, chosen)
    torch.testing.assert_close(out.ranks, torch.arange(1, 7))
    torch.testing.assert_close(out.top_ids, order[:, :4])
    _close(out.logprobs, _logprobs(falling))
    _close(out.top_logprobs, _logprobs(falling)[:4].expand(6, 4).clone())
    assert subject.gather_logprobs(logits, chosen, 0).top_ids.shape == (6, 0)
    tied = subject.gather_logprobs(torch.tensor([[1.0, 3.0, 1.0, 3.0]]), torch.tensor([2]), 0)
    assert tied.ranks.tolist() == [3]


@pytest.mark.symptom("Log-probabilities change with temperature, penalties or filters.")
def test_reports_show_the_models_own_view(subject: Any, seed: int) -> None:
    """Log-probabilities and ranks come from the unprocessed logits, whatever the settings."""
    logits = 2.0 * _randn(seed, 5, 9)
    requests: dict[str, dict[str, Any]] = {
        "a": {"temperature": 0.3, "seed": seed, "n_logprobs": 1},
        "b": {"top_k": 2, "min_p": 0.1},
        "c": {"repetition_penalty": 3.0, "presence_penalty": 1.0, "n_logprobs": 3},
        "d": {"logit_bias": {4: 7.0, 5: -INF}, "min_new_tokens": 3},
        "e": {"temperature": 0.0},
    }
    sampler = _sampler(subject, requests, 9, eos_id=0)

    out = sampler.sample(logits, [*"abcde"])

    want = _logprobs(logits)
    chosen = want[range(5), out.token_ids]
    _close(out.logprobs, chosen)
    values, ids = want.topk(3, dim=-1)
    _close(out.top_logprobs, values)
    torch.testing.assert_close(out.top_ids, ids)
    torch.testing.assert_close(out.ranks, 1 + (want > chosen[:, None]).sum(dim=-1))
    for i, request_id in enumerate(requests):
        (report,) = sampler.remove(request_id).reports
        assert report.token_id == int(out.token_ids[i])
        assert report.rank == int(out.ranks[i])
        assert math.isclose(report.logprob, chosen[i], rel_tol=1e-5, abs_tol=1e-6)


@pytest.mark.symptom("Users get more or fewer alternatives than they asked for, or other people's.")
def test_every_request_is_told_as_many_alternatives_as_it_asked_for(
    subject: Any, seed: int
) -> None:
    """A report has the request's own n most likely tokens, and always the chosen one."""
    asked = {"a": 2, "b": 0, "c": 5, "d": 1, "e": 4}
    requests = {i: {"n_logprobs": n, "seed": seed + ord(i)} for i, n in asked.items()}
    sampler = _sampler(subject, requests, 12)
    steps = [[*"abcde"], [*"bad"], [*"b"], [*"dbea"], [*"ced"], [*"eb"]]
    want: dict[str, list[tuple[int, float, int, dict[int, float]]]] = {i: [] for i in asked}
    for n, ids in enumerate(steps):
        logits = 0.5 * _randn(seed + n, len(ids), 12)
        out = sampler.sample(logits, ids)
        n_top = max(asked[i] for i in ids)
        assert out.top_ids.shape == out.top_logprobs.shape == (len(ids), n_top)
        assert out.top_ids.dtype == out.ranks.dtype == torch.int64
        rows = _logprobs(logits).tolist()
        for request_id, row, token in zip(ids, rows, out.token_ids.tolist(), strict=True):
            falling = sorted(range(12), key=row.__getitem__, reverse=True)
            told = {*falling[: asked[request_id]], token}
            rank = 1 + falling.index(token)
            want[request_id].append((token, row[token], rank, {i: row[i] for i in told}))

    for request_id, expected in want.items():
        request = sampler.remove(request_id)
        assert request.output == [token for token, *_ in expected]
        for report, (token, logprob, rank, top) in zip(request.reports, expected, strict=True):
            assert (report.token_id, report.rank) == (token, rank)
            assert math.isclose(report.logprob, logprob, rel_tol=1e-5, abs_tol=1e-6)
            assert set(report.top) == set(top)
            assert all(math.isclose(report.top[i], q, rel_tol=1e-5) for i, q in top.items())


@pytest.mark.symptom("The scores of a text one sends in belong to the neighbouring words.")
def test_a_prompts_tokens_are_judged_by_what_came_before(subject: Any, seed: int) -> None:
    """Token t + 1 of a prompt is reported from the logits at token t; the first has no report."""
    prompt = [3, 0, 6, 6, 1]
    logits = _randn(seed, 5, 7)

    out = subject.prompt_logprobs(logits, prompt, 2)

    want = _logprobs(logits)
    torch.testing.assert_close(out.token_ids, torch.tensor(prompt[1:]))
    _close(out.logprobs, want[range(4), prompt[1:]])
    _close(out.top_logprobs, want[:4].topk(2).values)
    torch.testing.assert_close(out.top_ids, want[:4].topk(2).indices)
    higher = (want[:4] > want[range(4), prompt[1:]][:, None]).sum(dim=-1)
    torch.testing.assert_close(out.ranks, higher + 1)
    assert subject.prompt_logprobs(logits[:1], [3], 2).top_ids.shape == (0, 2)
    for n in (4, 6):
        _refused(subject.prompt_logprobs, logits, [0] * n, 1)


# ----- numbers, devices, mistakes


@pytest.mark.symptom("Scores of models in half precision are coarse or drift.")
def test_half_precision_logits_are_processed_in_single_precision(subject: Any) -> None:
    """bfloat16 and float16 logits give float32 scores as accurate as float32 logits do."""
    for dtype in (torch.bfloat16, torch.float16):
        own = {"temperature": 0.7, "logit_bias": {1: 0.3}, "n_logprobs": 5, "seed": 0}
        sampler = _sampler(subject, {"a": own, "b": own}, 8)
        logits = _randn(5, 2, 8).to(dtype)
        scores = logits.double()
        scores[:, 1] += 0.3

        got = sampler.process(logits)
        out = sampler.sample(logits)

        assert got.dtype == torch.float32
        _close(_logprobs(got), _logprobs(scores / 0.7))
        want = _logprobs(logits)
        _close(out.logprobs, want[range(2), out.token_ids])
        _close(out.top_logprobs, want.topk(5, dim=-1).values)
        whole = subject.prompt_logprobs(logits, [1, 2], 3)
        _close(whole.top_logprobs, want[:1].topk(3, dim=-1).values)


@pytest.mark.symptom("Code that uses the logits after sampling sees changed values.")
def test_the_callers_logits_stay_untouched(subject: Any) -> None:
    """No call changes the logits, and a second look at them gives the same scores."""
    logits = torch.tensor([[0.2, 1.5, -0.7, 0.9], [1.0, -0.3, 0.4, 2.0]])
    own: dict[str, Any] = {"repetition_penalty": 1.5, "frequency_penalty": 0.5, "seed": 3}
    own |= {"temperature": 0.5, "logit_bias": {1: 3.0}, "min_new_tokens": 9, "n_logprobs": 2}
    sampler = _sampler(subject, {"a": own, "b": own}, 4, eos_id=0)

    first = sampler.process(logits)
    assert subject.mutated == ()
    _close(sampler.process(logits), first)
    out = sampler.sample(logits)
    assert subject.mutated == ()
    _close(out.logprobs, _logprobs(logits)[range(2), out.token_ids])
    again = subject.gather_logprobs(logits, out.token_ids, 2)
    assert subject.mutated == ()
    _close(again.top_logprobs, out.top_logprobs)
    likely = subject.apply_min_p(logits, torch.tensor([0.5, 0.5]))
    assert subject.mutated == ()
    assert _kept(likely) == [{1, 3}, {3}]


@pytest.mark.symptom("A pause in traffic, or a batch of one, brings the server down.")
def test_steps_may_be_empty(subject: Any) -> None:
    """A step about no request gives no token and disturbs nobody."""
    sampler = subject.BatchSampler(1, 5)

    assert sampler.request_ids == []
    out = sampler.sample(torch.empty(0, 5))
    assert [tuple(column.shape) for column in out] == [(0,), (0,), (0,), (0, 0), (0, 0)]
    sampler.add("a", subject.SamplingParams(n_logprobs=5), [])
    assert sampler.process(torch.empty(0, 5), []).shape == (0, 5)
    assert sampler.sample(torch.empty(0, 5), []).token_ids.tolist() == []
    _teach(sampler, "a", [4])
    assert sampler.remove("a").output == [4]


@pytest.mark.symptom("It fails, or is slow, when the default device is not where the logits are.")
def test_tensors_are_made_where_the_logits_are(subject: Any) -> None:
    """The process' default device has no influence on any result."""
    logits = torch.tensor([[0.2, 1.5, -0.7, 0.9], [1.0, -0.3, 0.4, 2.0], [-1.0, 0.1, 0.8, 0.5]])
    requests: dict[str, dict[str, Any]] = {
        "a": {"top_k": 2, "top_p": 0.9, "min_p": 0.01, "logit_bias": {2: 1.0}, "seed": 3},
        "b": {"repetition_penalty": 1.4, "frequency_penalty": 0.3, "n_logprobs": 2, "seed": 4},
        "c": {"temperature": 0.0, "min_new_tokens": 2, "presence_penalty": 2.0, "seed": 5},
    }

    def serve(sampler: Any) -> list[Tensor]:
        sampler.fork("b", "d", seed=1)
        outs = [sampler.sample(logits, [*"cab"]) for _ in range(2)]
        request = sampler.remove("a")
        sampler.resume(request)
        sampler.add("e", subject.SamplingParams(seed=0), [2])
        rest = [*sampler.sample(logits, [*"dae"]), *subject.prompt_logprobs(logits, [1, 2, 0], 1)]
        return [*(column for out in outs for column in out), *rest]

    want = serve(_sampler(subject, requests, 4, eos_id=1))
    again = _sampler(subject, requests, 4, eos_id=1)
    unseeded = _sampler(subject, {"u": {}}, 4)
    try:
        with subject.accelerator():
            got = serve(again)
            scores = again.process(logits, [*"cae"])
            counts = subject.token_counts([1, 1], 3, logits.device)
            drawn = unseeded.sample(logits[:1], ["u"])
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert scores.shape == (3, 4)
    assert counts.tolist() == [0, 2, 0]
    assert 0 <= int(drawn[0]) < 4
    _close(got[1], _logprobs(logits)[range(3), got[0]])


@pytest.mark.symptom("A wrong setting is accepted and the answer is silently nonsense.")
def test_settings_out_of_range_are_refused(subject: Any) -> None:
    """Impossible settings, and ids outside the vocabulary, raise ValueError."""
    outside: dict[str, tuple[Any, ...]] = {
        "temperature": (-0.5, NAN, INF),
        "top_k": (0, -2),
        "top_p": (0.0, -0.5, 1.5, NAN),
        "min_p": (-0.1, 1.1, NAN),
        "repetition_penalty": (0.0, -1.0, INF, NAN),
        "logit_bias": ({0: INF}, {0: 1.0, 1: NAN}),
        "n_logprobs": (-1,),
    }
    for name, values in outside.items():
        for value in values:
            _refused(subject.SamplingParams, **{name: value})
    edge = {"temperature": 0.0, "top_k": 1, "top_p": 1.0, "min_p": 1.0, "n_logprobs": 4}
    params = subject.SamplingParams(logit_bias={3: -INF, 0: 1.0}, **edge)
    for eos_id in (-1, 4, 5):
        _refused(subject.BatchSampler, 1, 4, eos_id=eos_id)
    sampler = subject.BatchSampler(1, 4, eos_id=3)
    for own in ({"logit_bias": {4: 1.0}}, {"logit_bias": {-1: 1.0}}, {"n_logprobs": 5}):
        _refused(sampler.add, "a", subject.SamplingParams(**own), [0])
    for prompt in ([4], [-1], [0, 9]):
        _refused(sampler.add, "a", params, prompt)
    assert sampler.request_ids == []
    sampler.add("a", params, [0, 3])
    assert sampler.request_ids == ["a"]


@pytest.mark.symptom("After one bad call the answers of all other requests are different.")
def test_a_refused_call_changes_nothing(subject: Any, seed: int) -> None:
    """Unusable logits and wrong requests raise ValueError and leave all requests as they were."""
    row = 0.3 * _randn(seed, 64)
    rows = row.expand(3, 64).clone()
    requests = {i: {"seed": seed + i, "frequency_penalty": 0.5} for i in range(2)}
    untouched, sampler = (_sampler(subject, requests, 64) for _ in range(2))
    for one in (untouched, sampler):
        one.add(2, subject.SamplingParams(seed=7, logit_bias={0: -INF}), [1])
    want = [_step(untouched, dict.fromkeys(range(3), row)) for _ in range(3)]

    got = [_step(sampler, dict.fromkeys(range(3), row))]
    spoilt = []
    for value in (NAN, INF):
        spoilt.append(rows.clone())
        spoilt[-1][2, 5] = value
    banned = torch.full((3, 64), -INF)
    banned[:, 0] = 1.0
    for bad in (*spoilt, banned, rows[:2], rows[:, :63], row):
        _refused(sampler.sample, bad)
    _refused(sampler.process, rows[:2])
    for ids in ([0, 1, 0], [0, 1, 9], [0, 1]):
        _refused(sampler.sample, rows, ids)
    for call in (
        (sampler.add, 1, subject.SamplingParams(), [1]),
        (sampler.fork, 0, 1),
        (sampler.fork, 9, 10),
        (sampler.remove, 9),
    ):
        _refused(*call)
    got += [_step(sampler, dict.fromkeys(range(3), row)) for _ in range(2)]

    assert got == want
    full = subject.BatchSampler(2, 64)
    for i in range(2):
        full.add(i, subject.SamplingParams(), [1])
    _refused(full.add, 2, subject.SamplingParams(), [1])
    _refused(full.fork, 0, 2)
    request = full.remove(0)
    full.resume(request)
    _refused(full.resume, request)
    assert sorted(full.request_ids) == [0, 1]
