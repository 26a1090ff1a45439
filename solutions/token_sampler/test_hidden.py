"""What the token sampler promises: `subject` is the file under test, `seed` differs between runs.

The oracles are plain Python in double precision. Frequencies are judged by Hoeffding's bound or
an exact tail, with at most two false alarms in ten million runs.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

INF = math.inf
NAN = math.nan


def _gauss(rng: random.Random, n: int, scale: float = 2.0) -> list[float]:
    return [rng.gauss(0.0, scale) for _ in range(n)]


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _softmax(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    peak = max(logits)
    weights = [math.exp((x - peak) / temperature) for x in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.double(), dim=-1).float()


def _only(probs: Sequence[float], kept: set[int]) -> list[float]:
    total = math.fsum(probs[i] for i in kept)
    return [q / total if i in kept else 0.0 for i, q in enumerate(probs)]


def _top_k(probs: Sequence[float], k: int) -> set[int]:
    """Return the tokens above the k-th probability and all that tie with it; all for k = -1."""
    least = sorted(probs, reverse=True)[:k][-1] if k > 0 else 0.0
    return {i for i, q in enumerate(probs) if q >= least}


def _nucleus(probs: Sequence[float], p: float) -> tuple[set[int], float]:
    """Return the nucleus, and by how much p misses the nearest sum that would change it."""
    if p == 1:
        return set(range(len(probs))), 1.0
    order = sorted(range(len(probs)), key=lambda i: -probs[i])
    sums = list(itertools.accumulate(probs[i] for i in order))
    size = 1 + sum(s < p for s in sums[:-1])
    return set(order[:size]), min(abs(s - p) for s in sums)


def _assert_probs(got: Sequence[float], want: Sequence[float]) -> None:
    """Compare two distributions: the same tokens are possible, with the same probabilities."""
    assert [q > 0 for q in got] == [q > 0 for q in want]
    actual, expected = (torch.tensor(list(x), dtype=torch.float64) for x in (got, want))
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def _assert_scores(got: Tensor, want: Tensor) -> None:
    """Compare logits that are to be drawn from: [B, V] float32, any constant added to a row."""
    assert got.dtype == torch.float32
    torch.testing.assert_close(_log_softmax(got), _log_softmax(want), rtol=1e-5, atol=1e-5)


def _chance(draws: int, events: int) -> float:
    """Return the deviation that one of some frequencies exceeds once in ten million runs."""
    return math.sqrt(math.log(2 * events / 1e-7) / (2 * draws))


def _assert_refused(function: Any, *args: object, **kwargs: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message's words are free)
        function(*args, **kwargs)


def _nothing(rows: int) -> list[list[int]]:
    return [[] for _ in range(rows)]


def _steps(sampler: Any, logits: Tensor, n: int) -> list[list[int]]:
    """Return the tokens of n steps on logits [n, B, V], one list per row."""
    rows = _nothing(logits.shape[1])
    ids = [sampler.sample(logits[i], rows, rows).token_ids.tolist() for i in range(n)]
    return [list(row) for row in zip(*ids, strict=True)]


# ----- one request


@pytest.mark.symptom("Answers turn strange or fail for confident models and unusual temperatures.")
def test_without_filters_the_distribution_is_softmax_of_logits_over_temperature(
    subject: Any, seed: int
) -> None:
    """Unfiltered probabilities are softmax(logits / T), at any scale and with banned tokens."""
    rng = random.Random(seed)
    plain = _gauss(rng, 7)
    eighths = [rng.randrange(-40, 40) / 8 for _ in range(7)]
    cases = [
        ([-742.0, -740.5, -741.0], 1.0),
        (plain, 1.0),
        (plain, 0.6),
        (plain, 2.5),
        ([x + 10_000.0 for x in eighths], 0.5),
        ([x - 10_000.0 for x in eighths], 2.0),
        ([-INF, plain[0], plain[1], -INF, plain[2]], 0.75),
        ([10_000.0, -10_000.0, 9_999.0], 1.0),
        ([3.0], 0.25),
    ]

    for logits, temperature in cases:
        want = _softmax(logits, temperature)
        _assert_probs(subject.softmax(logits, temperature), want)
    for logits, temperature in cases[1:4]:
        want = _softmax(logits, temperature)
        _assert_probs(subject.filtered_distribution(logits, temperature), want)


@pytest.mark.symptom("At temperature 0 one request alone does not always give the same answer.")
def test_temperature_zero_puts_all_probability_on_the_most_likely_token(
    subject: Any, seed: int
) -> None:
    """At temperature 0 the most likely token has probability one, whatever the filters."""
    rng = random.Random(seed)
    shuffled = rng.sample([-9.0, -1.0, 0.5, 0.5 - 1e-9, -INF, 0.25], 6)
    cases: list[tuple[list[float], dict[str, Any]]] = [
        (_gauss(rng, 6), {}),
        (_gauss(rng, 6), {"top_k": 3}),
        (_gauss(rng, 6), {"top_p": 0.99}),
        ([-8.0, -3.0, -5.0], {"top_k": 2, "top_p": 0.9}),
        (shuffled, {}),
    ]

    for logits, filters in cases:
        best = logits.index(max(logits))
        want = [float(i == best) for i in range(len(logits))]
        token_id, probs = subject.sample_token(logits, temperature=0.0, **filters)
        assert token_id == best
        assert list(probs) == want


@pytest.mark.symptom("With top_k=1 a request alone still wanders; larger top_k lets odd words in.")
def test_top_k_keeps_exactly_k_tokens_in_proportion(subject: Any, seed: int) -> None:
    """For one request min(k, V) tokens stay possible, in the original proportions, ties or not."""
    probs = _softmax(_gauss(random.Random(seed), 6))

    for k in (1, 2, 5, 6, 7, 100):
        _assert_probs(subject.keep_top_k(probs, k), _only(probs, _top_k(probs, k)))
    for k in (1, 2, 4, 5):
        tied = subject.keep_top_k([0.125, 0.25, 0.25, 0.25, 0.125], k)
        assert sum(q > 0 for q in tied) == k
        assert sum(q > 0 for q in tied[1:4]) == min(k, 3)
        assert math.isclose(sum(tied), 1.0, rel_tol=1e-6)


@pytest.mark.symptom("A request with top_p sounds flatter or wilder than the setting promises.")
def test_top_p_keeps_the_smallest_set_that_reaches_p(subject: Any, seed: int) -> None:
    """The nucleus of one request is the smallest set of tokens whose mass is at least p."""
    rng = random.Random(seed)
    sizes = {0.1: 1, 0.5: 1, 0.51: 2, 0.75: 2, 0.8: 3, 0.875: 3, 0.9375: 4, 0.94: 5, 1.0: 5}
    halves = rng.sample([0.5, 0.25, 0.125, 0.0625, 0.0625], 5)

    for p, size in sizes.items():
        got = subject.keep_top_p(halves, p)
        kept = {i for i, q in enumerate(got) if q > 0}
        assert len(kept) == size
        assert sum(halves[i] for i in kept) == sum(sorted(halves)[-size:])
        _assert_probs(got, _only(halves, kept))
    for _ in range(6):
        probs, p = _softmax(_gauss(rng, 6)), rng.uniform(0.05, 0.95)
        sets = (s for n in range(1, 7) for s in itertools.combinations(range(6), n))
        enough = [s for s in sets if sum(probs[i] for i in s) >= p]
        smallest = min(enough, key=lambda s: (len(s), -sum(probs[i] for i in s)))
        _assert_probs(subject.keep_top_p(probs, p), _only(probs, set(smallest)))


@pytest.mark.symptom("Combining temperature, top_k and top_p gives other words than expected.")
def test_filters_of_one_request_apply_in_order(subject: Any, seed: int) -> None:
    """Temperature comes first, then top-k, then top-p on what the survivors share."""
    rng = random.Random(seed)
    level = [2.0] * 4 + [0.0] * 4

    got = subject.filtered_distribution(level, top_k=4, top_p=0.5)
    assert sorted(got) == [0.0] * 6 + [0.5] * 2
    got = subject.filtered_distribution([2.0, 0.0, 1.0], temperature=2.0, top_p=0.6)
    _assert_probs(got, _only(_softmax([2.0, 0.0, 1.0], 2.0), {0, 2}))
    for k in (1, 2, 4, 8):
        margin = 0.0
        while margin < 1e-4:
            logits, temperature, p = _gauss(rng, 8), rng.uniform(0.3, 3.0), rng.uniform(0.2, 0.95)
            probs = _softmax(logits, temperature)
            probs = _only(probs, _top_k(probs, k))
            kept, margin = _nucleus(probs, p)
        _assert_probs(subject.filtered_distribution(logits, temperature, k, p), _only(probs, kept))


@pytest.mark.symptom("Words that top_k or top_p should exclude turn up now and then.")
def test_tokens_filtered_out_are_never_drawn(subject: Any, seed: int) -> None:
    """A removed token has probability exactly zero, the rest sum to one and only they are drawn."""
    logits = [0.02, -0.01, -INF, 0.0, 0.03, 0.01, -0.5, -0.5, -INF]
    drawn = set()

    for i in range(16):
        filters = {"top_k": 3} if i % 2 else {"top_p": 0.45}
        token_id, probs = subject.sample_token(logits, seed=seed + i, **filters)
        assert [i for i, q in enumerate(probs) if q != 0] == [0, 4, 5]
        assert math.isclose(math.fsum(probs), 1.0, rel_tol=1e-6)
        assert probs[token_id] > 0
        drawn.add(token_id)
    assert len(drawn) > 1


@pytest.mark.symptom("Once in many million tokens a forbidden word comes out.")
def test_a_uniform_number_selects_the_token_whose_interval_holds_it(
    subject: Any, seed: int
) -> None:
    """Drawing by u inverts the cumulative sum and never lands on an impossible token."""
    holes = [0.0, 0.25, 0.0, 0.5, 0.25, 0.0]
    for u, want in [(0.0, 1), (0.2, 1), (0.25, 3), (0.74, 3), (0.75, 4), (1 - 2**-53, 4)]:
        assert subject.invert_cdf(holes, u) == want
    short = [0.0, *[0.1] * 10, 0.0]
    assert subject.invert_cdf(short, 1 - 2**-53) == 10

    rng = random.Random(seed)
    probs = _softmax(_gauss(rng, 8))
    for i, start in enumerate(itertools.accumulate(probs[:-1], initial=0.0)):
        assert subject.invert_cdf(probs, start + rng.uniform(0.1, 0.9) * probs[i]) == i


@pytest.mark.symptom("A request with a fixed seed cannot be reproduced, or disturbs other code.")
def test_a_seed_fixes_the_token(subject: Any, seed: int) -> None:
    """Equal seeds give equal tokens, zero included; the process' own random state is left alone."""
    logits = _gauss(random.Random(seed), 256, scale=0.1)
    before = subject.rng_state()

    for own in (0, seed):
        assert len({subject.sample_token(logits, seed=own)[0] for _ in range(4)}) == 1
    assert len({subject.sample_token(logits, seed=own)[0] for own in range(4)}) > 1
    assert len({subject.sample_token(logits)[0] for _ in range(4)}) > 1
    assert subject.rng_state() == before


@pytest.mark.symptom("Over many requests some words are far too frequent.")
def test_tokens_of_one_request_follow_the_distribution(subject: Any, seed: int) -> None:
    """Over many seeds a token comes up as often as its reported probability says."""
    logits = [0.0] * 63 + [math.log(63.0)]
    counts: Counter[int] = Counter()

    for i in range(40):
        token_id, probs = subject.sample_token(logits, seed=1000 * seed + i)
        assert math.isclose(probs[63], 0.5, rel_tol=1e-5)
        counts[token_id] += 1
    assert 5 <= counts[63] <= 35  # of 40 fair coins, missed twice in ten million runs
    assert len(counts) > 3


@pytest.mark.symptom("A seeded request repeats the same word for ever.")
def test_a_token_sampler_continues_its_stream(subject: Any, seed: int) -> None:
    """Equal token samplers agree call by call, and a later call does not repeat the first draw."""
    logits = _gauss(random.Random(seed), 256, scale=0.1)

    for own in (0, seed):
        one, two = (subject.TokenSampler(seed=own) for _ in range(2))
        tokens = [one(logits)[0] for _ in range(4)]
        assert tokens == [two(logits)[0] for _ in range(4)]
        assert len(set(tokens)) > 1
    assert len({subject.TokenSampler()(logits)[0] for _ in range(4)}) > 1


@pytest.mark.symptom("Scores of a single request do not match the settings it was sampled with.")
def test_a_token_sampler_scores_with_the_distribution_it_drew_from(subject: Any, seed: int) -> None:
    """A token sampler reports the log-probability after temperature and filters."""
    logits = _gauss(random.Random(seed), 10, scale=1.0)
    probs = _softmax(logits, 1.5)
    probs = _only(probs, _top_k(probs, 4))
    third, fourth = sorted(probs, reverse=True)[2:4]
    three = 1 - fourth - third / 2  # reached by the third token, and by less than all of it

    for top_p in (None, three):
        sampler = subject.TokenSampler(temperature=1.5, top_k=4, top_p=top_p, seed=seed)
        want = probs if top_p is None else _only(probs, _nucleus(probs, top_p)[0])
        for _ in range(3):
            token_id, logprob = sampler(logits)
            assert want[token_id] > 0
            assert math.isclose(logprob, math.log(want[token_id]), rel_tol=1e-5, abs_tol=1e-6)
    assert subject.TokenSampler(temperature=0.0)([0.5, -3.0, 1.5, 0.0]) == (2, 0.0)


@pytest.mark.symptom("Requests that leave settings out get other words or other reports.")
def test_settings_left_out_change_nothing(subject: Any, seed: int) -> None:
    """Left out, temperature is 1, no token is filtered, EOS may come first, no list is reported."""
    logits = _gauss(random.Random(seed), 6)
    want = _softmax(logits)
    _assert_probs(subject.softmax(logits), want)
    _assert_probs(subject.filtered_distribution(logits), want)
    _assert_probs(subject.sample_token(logits)[1], want)
    token_id, logprob = subject.TokenSampler()(logits)
    assert math.isclose(logprob, math.log(want[token_id]), rel_tol=1e-5, abs_tol=1e-6)

    batch = torch.tensor([logits])
    sampler = subject.BatchSampler([subject.SamplingParams()], 6, eos_id=0)
    _assert_scores(sampler.process(batch, [[1, 2]], [[]]), batch)
    assert sampler.sample(batch, [[1, 2]], [[]]).top_ids.shape == (1, 0)


# ----- penalties


@pytest.mark.symptom("With a repetition penalty some words are repeated more, not less.")
def test_repetition_penalty_discourages_every_token_seen(subject: Any, seed: int) -> None:
    """Tokens of prompt and output get less likely, each once, whatever the sign of their logit."""
    logits = torch.tensor([[3.0, -2.0, 1.0, -1.0, 0.5, -4.0]] * 3) + 0.1 * _randn(seed, 3, 6)
    prompts = [[0, 1, 0, 0], [2], [0, 1]]
    outputs = [[3, 3, 1], [], [4]]
    factors = [1.5, 2.0, 1.0]

    got = subject.apply_penalties(
        logits,
        prompts,
        outputs,
        repetition=torch.tensor(factors),
        presence=torch.zeros(3),
        frequency=torch.zeros(3),
    )

    want = logits.tolist()
    seen = [{0, 1, 3}, {2}, {0, 1, 4}]
    for row, factor, history in zip(want, factors, seen, strict=True):
        for i in history:
            row[i] = row[i] / factor if row[i] > 0 else row[i] * factor
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-6)
    assert bool((got[0, [0, 1, 3]] < logits[0, [0, 1, 3]]).all())


@pytest.mark.symptom("Presence and frequency penalties push words from the prompt away.")
def test_presence_and_frequency_count_generated_tokens_only(subject: Any, seed: int) -> None:
    """Presence costs once, frequency per occurrence, in the output; the prompt costs nothing."""
    logits = _randn(seed, 3, 6)
    prompts = [[0, 0, 5], [1, 2], [3]]
    outputs = [[1, 2, 2, 2], [2, 4, 4], [3, 3]]
    presence, frequency = [0.25, 2.0, 0.0], [0.5, -0.75, 0.0]

    got = subject.apply_penalties(
        logits,
        prompts,
        outputs,
        repetition=torch.ones(3),
        presence=torch.tensor(presence),
        frequency=torch.tensor(frequency),
    )

    want = logits.tolist()
    for row, once, each, output in zip(want, presence, frequency, outputs, strict=True):
        for i, n in Counter(output).items():
            row[i] -= once + each * n
    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-6)


@pytest.mark.symptom("Short prompts get other penalties when batched with long ones.")
def test_a_short_history_is_not_penalised_for_the_length_of_others(subject: Any, seed: int) -> None:
    """Each row's counts are those of its own history, first and last token id included."""
    rng = random.Random(seed)
    rows = [[], [2], [rng.randrange(1, 6) for _ in range(9)], [3, 3], [0, 6, 0]]

    counts = subject.token_counts(rows, 7, torch.device("cpu"))

    want = [[row.count(i) for i in range(7)] for row in rows]
    torch.testing.assert_close(counts, torch.tensor(want))
    assert subject.token_counts([[], []], 4, torch.device("cpu")).tolist() == [[0] * 4] * 2
    assert subject.token_counts([], 4, torch.device("cpu")).shape == (0, 4)
    logits = torch.tensor([[1.5, -2.0, 0.5, -0.5, 1.0, -1.0, -0.25]] * 5)
    got = subject.apply_penalties(
        logits,
        rows,
        rows[::-1],
        repetition=torch.full((5,), 1.7),
        presence=torch.zeros(5),
        frequency=torch.zeros(5),
    )
    seen = [{*a, *b} for a, b in zip(rows, rows[::-1], strict=True)]
    unseen = torch.tensor([[i not in history for i in range(7)] for history in seen])
    torch.testing.assert_close(got[unseen], logits[unseen])
    assert bool((got[~unseen] < logits[~unseen]).all())


# ----- filters of a batch


@pytest.mark.symptom("One request's top_k or top_p changes the answers of its neighbours.")
def test_every_row_has_its_own_top_k_and_top_p(subject: Any) -> None:
    """Each row is cut by its own top-k and then its own top-p; a filter may be off in some rows."""
    row = [0.4, 2.0, -1.0, 1.2, 1.6, -0.2, 0.9, -3.0]
    ks = [-1, 3, 1, 5, 9, 50, -1, 2, 4, 4, 3]
    ps = [1.0, 1.0, 0.4, 0.6, 0.7, 1.0, 0.8, 0.75, 0.65, 1.0, 0.5]
    scales = [1.0, 0.5, 1.5, 0.4, 0.8, 2.0, 1.2, 0.3, 1.0, 1.0, 0.7]
    logits, want = [], []
    for i, (k, p, scale) in enumerate(zip(ks, ps, scales, strict=True)):
        turned = [scale * x for x in row[i % 8 :] + row[: i % 8]]
        probs = _softmax(turned)
        kept, margin = _nucleus(_only(probs, _top_k(probs, k)), p)
        assert margin > 1e-4
        kept &= _top_k(probs, k)
        logits.append(turned)
        want.append([x if i in kept else -INF for i, x in enumerate(turned)])

    got = subject.apply_top_k_top_p(torch.tensor(logits), torch.tensor(ks), torch.tensor(ps))

    torch.testing.assert_close(got, torch.tensor(want), rtol=1e-5, atol=1e-6)


@pytest.mark.symptom("In batches top_p lets one word too many or too few through.")
def test_the_nucleus_of_a_row_reaches_p_and_no_further(subject: Any) -> None:
    """Reaching p exactly is enough, the token that crosses p stays, and one always survives."""
    order = [3, 5, 0, 7, 1, 6, 2, 4]
    level = [1.0] * 8
    steep = [9.0 - 3 * i for i in order]
    sizes = [(0.25, 2), (0.5, 4), (0.51, 5), (0.26, 3), (1e-6, 1), (0.875, 7), (0.876, 8)]
    k = torch.full((len(sizes),), -1)
    p = torch.tensor([share for share, _ in sizes])

    got = subject.apply_top_k_top_p(torch.tensor([level] * len(sizes)), k, p)
    assert (got > -INF).sum(dim=-1).tolist() == [size for _, size in sizes]
    got = subject.apply_top_k_top_p(torch.tensor([steep] * len(sizes)), k, p)
    for row in got:
        assert row.tolist() == [9.0 if i == 0 else -INF for i in order]
    halved = torch.tensor([[2.0] * 4 + [0.0] * 4])
    got = subject.apply_top_k_top_p(halved, torch.tensor([4]), torch.tensor([0.5]))
    assert (got[:, :4] > -INF).sum() == (got > -INF).sum() == 2


@pytest.mark.symptom("A request without filters cannot produce rare words in some batches.")
def test_filters_that_are_off_keep_every_token(subject: Any) -> None:
    """k = -1, p = 1 and min-p 0 leave every logit as it is, however unlikely its token."""
    row = [0.5, -1.0, -150.0, 2.0, 0.0, -150.0, 1.5]
    logits = torch.tensor([row, [40.0, *row[1:]], row])
    p = torch.tensor([1.0, 1.0, 0.3])

    for k in (torch.tensor([-1, -1, -1]), torch.tensor([-1, 7, 1])):
        got = subject.apply_top_k_top_p(logits, k, p)
        torch.testing.assert_close(got[:2], logits[:2])
        assert int((got[2] > -INF).sum()) == 1
    torch.testing.assert_close(subject.apply_min_p(logits, torch.zeros(3)), logits)


@pytest.mark.symptom("With equally likely words top_k drops some of them, or keeps unlikely ones.")
def test_tokens_that_tie_with_the_kth_stay(subject: Any) -> None:
    """In a batch the k-th token and all that tie with it survive, less likely ones do not."""
    logits = torch.tensor([[2.0, 0.0, 3.0, -INF, 2.0, 1.0, 2.0]] * 6)
    k = torch.tensor([1, 2, 3, 4, 5, 7])

    got = subject.apply_top_k_top_p(logits, k, torch.ones(6))

    least = torch.tensor([3.0, 2.0, 2.0, 2.0, 1.0, -INF])[:, None]
    torch.testing.assert_close(got, logits.masked_fill(logits < least, -INF))


@pytest.mark.symptom("min_p cuts too much, too little, or differently from batch to batch.")
def test_min_p_is_relative_to_the_rows_most_likely_token(subject: Any, seed: int) -> None:
    """A token stays if it has at least min-p times the probability of its row's favourite."""
    rng = random.Random(seed)
    shares = [0.9, 0.5, 0.3, 0.1, 0.01, 0.001, 0.2]
    spreads = [0.1, 0.5, 1.0, 3.0, 2.0, 5.0, 0.7]
    gaps = [0.0, 0.4, 0.9, 1.4, 2.2, 3.1]
    tops = [rng.choice((-3.0, -1.0, 2.0, 4.0)) for _ in shares]
    rows = []
    for top, spread in zip(tops, spreads, strict=True):
        below = rng.sample(gaps[1:], 5)
        rows.append([top - spread * gap for gap in (*below[:2], 0.0, *below[2:])])

    got = subject.apply_min_p(torch.tensor(rows), torch.tensor(shares))

    want = [
        [x if math.exp(x - top) >= share else -INF for x in row]
        for row, top, share in zip(rows, tops, shares, strict=True)
    ]
    torch.testing.assert_close(got, torch.tensor(want))
    tied = subject.apply_min_p(torch.tensor([[1.0, 1.0, -2.0, 1.0]]), torch.ones(1))
    assert (tied > -INF).tolist() == [[True, True, False, True]]


@pytest.mark.symptom("Raising the temperature does not bring back the words that min_p removed.")
def test_min_p_is_measured_at_the_requests_temperature(subject: Any) -> None:
    """Min-p looks at the probabilities after temperature."""
    logits = torch.tensor([[2.0, 0.0, -9.0]] * 3)
    settings = [(2.0, 0.25), (1.0, 0.25), (0.5, 0.1)]
    params = [subject.SamplingParams(temperature=t, min_p=m) for t, m in settings]

    got = subject.BatchSampler(params, 3).process(logits, _nothing(3), _nothing(3))

    want = [[1.0, 0.0, -INF], [2.0, -INF, -INF], [4.0, -INF, -INF]]
    _assert_scores(got, torch.tensor(want))


# ----- the whole way of a batch


def _processed(
    logits: Sequence[float],
    settings: dict[str, Any],
    prompt: list[int],
    output: list[int],
    eos_id: int,
) -> tuple[list[float], float]:
    """Return the distribution to draw from, and how far the nearest decision is from tipping."""
    get = settings.get
    scores = list(logits)
    for i, bias in get("logit_bias", {}).items():
        scores[i] += bias
    if len(output) < get("min_new_tokens", 0):
        scores[eos_id] = -INF
    for i in {*prompt, *output}:
        factor = get("repetition_penalty", 1.0)
        scores[i] = scores[i] / factor if scores[i] > 0 else scores[i] * factor
    for i, n in Counter(output).items():
        scores[i] -= n * get("frequency_penalty", 0.0) + get("presence_penalty", 0.0)
    probs = _softmax(scores, get("temperature", 1.0))
    floor = get("min_p", 0.0) * max(probs)
    margin = min(abs(q - floor) for q in probs) if floor else 1.0
    probs = _only(probs, {i for i, q in enumerate(probs) if q >= floor})
    probs = _only(probs, _top_k(probs, get("top_k", -1)))
    kept, slack = _nucleus(probs, get("top_p", 1.0))
    return _only(probs, kept), min(margin, slack)


@pytest.mark.symptom("Requests that combine several settings get other words than documented.")
def test_all_settings_of_a_row_act_together_in_order(subject: Any) -> None:
    """Bias, EOS ban, penalties, temperature, min-p, top-k and top-p act in this order."""
    settings: list[dict[str, Any]] = [
        {"logit_bias": {1: 3.0, 4: -1.5}, "repetition_penalty": 1.8, "temperature": 0.7},
        {"min_p": 0.08, "top_k": 5, "top_p": 0.8, "temperature": 1.6},
        {"frequency_penalty": 0.4, "presence_penalty": 0.9, "top_k": 4, "min_new_tokens": 5},
        {"repetition_penalty": 1.3, "frequency_penalty": 0.7, "presence_penalty": -0.5},
        {"top_p": 0.6, "temperature": 2.2, "logit_bias": {0: 2.5}},
        {"presence_penalty": 0.8, "frequency_penalty": 0.3, "temperature": 0.4},
        {"min_p": 0.3, "temperature": 1.4, "min_new_tokens": 4, "top_p": 0.5},
        {},
    ]
    params = [subject.SamplingParams(**own) for own in settings] * 4
    rng = random.Random(3)
    logits, prompts, outputs, want = [], [], [], []
    for own in settings * 4:
        margin = 0.0
        while margin < 1e-3:
            row = [*_gauss(rng, 2), 2.5, *_gauss(rng, 5)]
            prompt, output = ([rng.randrange(8) for _ in range(n)] for n in (3, 4))
            probs, margin = _processed(row, own, prompt, output, eos_id=2)
        logits.append(row)
        prompts.append(prompt)
        outputs.append(output)
        want.append([math.log(q) if q else -INF for q in probs])

    got = subject.BatchSampler(params, 8, eos_id=2).process(torch.tensor(logits), prompts, outputs)

    _assert_scores(got, torch.tensor(want))


@pytest.mark.symptom("With min_p set, top_p keeps more words than it should.")
def test_top_p_is_measured_on_what_min_p_left(subject: Any) -> None:
    """The nucleus of a row is a share of the tokens that the other filters left."""
    logits = torch.tensor([0.4, 0.3, *[0.03] * 10]).log().expand(3, 12).clone()
    own = [{"min_p": 0.5, "top_p": 0.56}, {"top_k": 2, "top_p": 0.56}, {"top_p": 0.56}]
    params = [subject.SamplingParams(**settings) for settings in own]

    got = subject.BatchSampler(params, 12).process(logits, _nothing(3), _nothing(3))

    assert (got > -INF).sum(dim=-1).tolist() == [1, 1, 2]
    assert bool((got[:, 0] > -INF).all())


@pytest.mark.symptom("The answer to a seeded request depends on the traffic around it.")
def test_a_row_does_not_depend_on_its_companions_or_place(subject: Any, seed: int) -> None:
    """A seeded request gets the tokens it would get alone, wherever it stands in the batch."""
    logits = 0.3 * _randn(seed, 3, 5, 256)
    own: list[dict[str, Any]] = [
        {},
        {"top_k": 4},
        {"temperature": 0.05},
        {"top_p": 1e-4},
        {"min_p": 0.9},
    ]
    params = [subject.SamplingParams(seed=seed + i, **more) for i, more in enumerate(own)]

    alone = [_steps(subject.BatchSampler([params[i]], 256), logits[:, [i]], 3)[0] for i in range(5)]

    for order in ([0, 1, 2, 3, 4], [2, 3, 4, 1, 0]):
        sampler = subject.BatchSampler([params[i] for i in order], 256)
        assert _steps(sampler, logits[:, order], 3) == [alone[i] for i in order]
    assert len({token for tokens in alone for token in tokens}) > 4


@pytest.mark.symptom("When another request finishes, a seeded request changes its answer.")
def test_requests_that_leave_or_join_do_not_disturb_the_others(subject: Any, seed: int) -> None:
    """Remaining requests keep their parameters and continue their own random streams."""
    logits = 0.3 * _randn(seed, 4, 5, 256)
    own: list[dict[str, Any]] = [{"top_k": 2}, {}, {"top_k": 3}, {}, {}]
    params = [subject.SamplingParams(seed=seed + i, **more) for i, more in enumerate(own)]
    alone = [_steps(subject.BatchSampler([params[i]], 256), logits[:, [i]], 4)[0] for i in range(4)]
    alone.append(_steps(subject.BatchSampler([params[4]], 256), logits[2:, [4]], 2)[0])

    sampler = subject.BatchSampler(params[:4], 256)
    first = _steps(sampler, logits[:1, :4], 1)
    sampler.remove(0)
    second = _steps(sampler, logits[1:2, 1:4], 1)
    sampler.remove(1)
    row = sampler.add(params[4])
    third = _steps(sampler, logits[2:, [1, 3, 4]], 2)

    assert (row, sampler.add(params[0])) == (2, 3)
    assert first == [tokens[:1] for tokens in alone[:4]]
    assert second == [tokens[1:2] for tokens in alone[1:4]]
    assert third == [alone[1][2:], alone[3][2:], alone[4]]
    assert len({token for tokens in alone for token in tokens}) > 4


@pytest.mark.symptom("At temperature 0 the answer is not always the same.")
def test_greedy_rows_take_the_most_likely_token(subject: Any) -> None:
    """A row of temperature 0 gives its arg-max, whatever its filters and the rows beside it."""
    row = [0.5, -1.0, 0.2, 2.0, -0.4, 1.1, -2.5, 0.3]
    close = [-0.5, 0.0, 0.2, 0.1, 1.0, -0.4, 1.0 - 2**-24, -0.7]
    logits = torch.tensor([row, close, row, row[::-1], [0.01 * x - 30.0 for x in row], [0.0] * 8])
    own: list[dict[str, Any]] = [
        {"top_k": 3, "top_p": 0.3},
        {},
        {"min_p": 0.2, "top_k": 2},
        {"top_p": 0.9},
        {"seed": 0},
    ]
    params = [subject.SamplingParams(temperature=0.0, **settings) for settings in own]
    sampler = subject.BatchSampler([*params, subject.SamplingParams()], 8)

    drawn = [sampler.sample(logits, _nothing(6), _nothing(6)).token_ids for _ in range(16)]

    for ids in drawn:
        assert ids.dtype == torch.int64
        assert ids[:5].tolist() == [3, 4, 3, 4, 3]
    assert len({int(ids[5]) for ids in drawn}) > 1


@pytest.mark.symptom("At temperature 0 penalties and biases have no effect.")
def test_greedy_rows_respect_penalties_and_bias(subject: Any) -> None:
    """A row of temperature 0 gives the arg-max after bias, EOS ban and penalties."""
    logits = torch.tensor([[4.0, 3.0, 2.5, 0.0]] * 5)
    own: list[dict[str, Any]] = [
        {"repetition_penalty": 2.0},
        {"presence_penalty": 2.0},
        {"logit_bias": {3: 9.0}},
        {"min_new_tokens": 3},
        {},
    ]
    params = [subject.SamplingParams(temperature=0.0, **more) for more in own]

    sampler = subject.BatchSampler(params, 4, eos_id=0)

    for _ in range(8):
        ids = sampler.sample(logits, [[0]] * 5, [[0, 1]] * 5).token_ids
        assert ids.tolist() == [2, 2, 3, 1, 0]


@pytest.mark.symptom("Over many batched requests some words come up too often, or never.")
def test_tokens_of_a_batch_follow_the_distribution(subject: Any, seed: int) -> None:
    """Over many rows tokens come up as often as their probabilities say; removed ones never."""
    n, vocab = 2000, 40
    order = torch.randperm(vocab, generator=torch.Generator().manual_seed(seed))
    row = torch.full((vocab,), -INF)
    row[order[:31]] = 0.0
    row[order[0]] = math.log(30.0)
    sampler = subject.BatchSampler([subject.SamplingParams()] * n, vocab)

    ids = sampler.sample(row.expand(n, vocab).clone(), _nothing(n), _nothing(n)).token_ids

    share = torch.bincount(ids, minlength=vocab)[order] / n
    assert float(share[31:].sum()) == 0
    assert abs(float(share[0]) - 1 / 2) < _chance(n, 3)
    assert abs(float(share[1:11].sum()) - 1 / 6) < _chance(n, 3)
    assert abs(float(share[11:31].sum()) - 1 / 3) < _chance(n, 3)


@pytest.mark.symptom("Words of a row that are far too frequent depend on their neighbours' seeds.")
def test_rows_are_drawn_from_their_own_generators(subject: Any, seed: int) -> None:
    """Drawing uses one generator per row: equal streams give equal tokens, others do not."""
    probs = torch.softmax(0.3 * _randn(seed, 256), dim=-1).expand(6, 256).clone()
    seeds = [seed, seed + 1, seed + 2, seed, seed + 3, seed + 1]

    ids = subject.draw(probs, [torch.Generator().manual_seed(own) for own in seeds])

    assert ids.shape == (6,)
    assert ids.dtype == torch.int64
    assert ids[0] == ids[3]
    assert ids[1] == ids[5]
    assert len(set(ids.tolist())) > 1
    certain = torch.eye(6, 64)[[3, 0, 5, 1, 1, 2]]
    ids = subject.draw(certain, [torch.Generator().manual_seed(own) for own in seeds])
    assert ids.tolist() == [3, 0, 5, 1, 1, 2]


@pytest.mark.symptom("A batched request with a seed cannot be reproduced, or repeats one word.")
def test_a_batched_seed_fixes_the_whole_stream(subject: Any, seed: int) -> None:
    """Equal seeds give equal tokens step by step, zero included; random state outside is kept."""
    logits = (0.3 * _randn(seed, 1, 1, 256)).expand(4, 4, 256).clone()
    before = subject.rng_state()
    params = [subject.SamplingParams(seed=own) for own in (0, 0, seed + 1, None)]

    one, two = (_steps(subject.BatchSampler(params, 256), logits, 4) for _ in range(2))

    assert one[:3] == two[:3]
    assert one[0] == one[1]
    assert all(len(set(tokens)) > 1 for tokens in one)
    assert len({tuple(tokens) for tokens in (one[0], one[2], one[3], two[3])}) == 4
    assert subject.rng_state() == before


# ----- reports and rules


@pytest.mark.symptom("Reported log-probabilities change with temperature, penalties or filters.")
def test_logprobs_are_those_of_the_models_own_logits(subject: Any, seed: int) -> None:
    """Log-probabilities come from the unprocessed logits, whatever the settings of the row."""
    logits = 2.0 * _randn(seed, 5, 9)
    own: list[dict[str, Any]] = [
        {"temperature": 0.3},
        {"top_k": 2, "min_p": 0.1},
        {"repetition_penalty": 3.0, "presence_penalty": 1.0},
        {"logit_bias": {4: 7.0, 5: -INF}, "min_new_tokens": 3},
        {"temperature": 0.0},
    ]
    params = [subject.SamplingParams(seed=seed, **more) for more in own]
    history = [[0, 1, 2, 3]] * 5

    out = subject.BatchSampler(params, 9, eos_id=0).sample(logits, history, history, 3)

    want = _log_softmax(logits)
    torch.testing.assert_close(out.logprobs, want[range(5), out.token_ids], rtol=1e-5, atol=1e-6)
    values, ids = want.topk(3, dim=-1)
    torch.testing.assert_close(out.top_logprobs, values, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out.top_ids, ids)
    higher = (want > want[range(5), out.token_ids][:, None]).sum(dim=-1)
    torch.testing.assert_close(out.ranks, higher + 1)


@pytest.mark.symptom("The most likely token is reported with rank 0 or 2.")
def test_rank_one_is_the_most_likely_token(subject: Any, seed: int) -> None:
    """Ranks count from one, most likely first, and top tokens come in that order."""
    order = torch.stack(
        [torch.randperm(6, generator=torch.Generator().manual_seed(seed + i)) for i in range(6)]
    )
    logits = torch.empty(6, 6).scatter_(-1, order, torch.arange(6, 0, -1.0).expand(6, 6))

    out = subject.gather_logprobs(logits, order.diagonal().clone(), 4)

    assert out.ranks.tolist() == [1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(out.top_ids, order[:, :4])
    torch.testing.assert_close(
        out.logprobs, _log_softmax(torch.arange(6, 0, -1.0)), rtol=1e-5, atol=1e-6
    )
    assert subject.gather_logprobs(logits, order[:, 0], 0).top_ids.shape == (6, 0)


@pytest.mark.symptom("Scores of models in half precision are coarse or drift.")
def test_half_precision_logits_are_processed_in_single_precision(subject: Any) -> None:
    """bfloat16 and float16 logits give float32 scores as accurate as float32 logits do."""
    params = [subject.SamplingParams(temperature=0.7, logit_bias={1: 0.3}, seed=0)] * 2
    sampler = subject.BatchSampler(params, 8)
    for dtype in (torch.bfloat16, torch.float16):
        logits = _randn(5, 2, 8).to(dtype)
        scores = logits.double()
        scores[:, 1] += 0.3

        got = sampler.process(logits, _nothing(2), _nothing(2))
        out = sampler.sample(logits, _nothing(2), _nothing(2), 5)

        _assert_scores(got, scores / 0.7)
        want = _log_softmax(logits)
        chosen = want[range(2), out.token_ids]
        torch.testing.assert_close(out.logprobs, chosen, rtol=1e-5, atol=1e-6)
        top = want.topk(5, dim=-1).values
        torch.testing.assert_close(out.top_logprobs, top, rtol=1e-5, atol=1e-6)


@pytest.mark.symptom("Answers end before the minimum length, or cannot end once it is reached.")
def test_eos_is_impossible_until_min_new_tokens(subject: Any) -> None:
    """EOS cannot come before min_new_tokens were generated; the prompt does not count."""
    prompts = [[1] * 9] * 5
    outputs = [[1] * n for n in range(5)]
    for eos_id in (0, 3):
        logits = torch.tensor([[0.3, -0.6, 1.1, -0.2]] * 5)
        logits[:, eos_id] = 60.0
        for temperature in (0.0, 1.0):
            params = subject.SamplingParams(temperature=temperature, min_new_tokens=3, seed=1)
            sampler = subject.BatchSampler([params] * 5, 4, eos_id=eos_id)
            scores = sampler.process(logits, prompts, outputs)
            assert (scores[:, eos_id] > -INF).tolist() == [False] * 3 + [True] * 2
            ids = sampler.sample(logits, prompts, outputs).token_ids
            assert (ids == eos_id).tolist() == [False] * 3 + [True] * 2


@pytest.mark.symptom("A logit bias has an effect on other requests or other words.")
def test_logit_bias_moves_its_own_token_only(subject: Any, seed: int) -> None:
    """A bias is added to its token's logit in its own row; minus infinity bans the token."""
    logits = _randn(seed, 4, 6)
    biases: list[dict[int, float]] = [{}, {0: 2.5}, {5: -1.5, 2: 0.75}, {3: -INF, 1: 1.0}]
    params = [subject.SamplingParams(logit_bias=bias) for bias in biases]

    got = subject.BatchSampler(params, 6).process(logits, _nothing(4), _nothing(4))

    want = logits.clone()
    for row, bias in enumerate(biases):
        for i, amount in bias.items():
            want[row, i] += amount
    _assert_scores(got, want)


@pytest.mark.symptom("Code that uses the logits after sampling sees changed values.")
def test_the_callers_logits_and_histories_stay_untouched(subject: Any) -> None:
    """No call changes what it was given, and a second look at the same logits gives the same."""
    logits = torch.tensor([[0.2, 1.5, -0.7, 0.9], [1.0, -0.3, 0.4, 2.0]])
    own: dict[str, Any] = {"repetition_penalty": 1.5, "frequency_penalty": 0.5, "seed": 3}
    own |= {"temperature": 0.5, "logit_bias": {1: 3.0}, "min_new_tokens": 9}
    sampler = subject.BatchSampler([subject.SamplingParams(**own)] * 2, 4, eos_id=0)
    prompts, outputs = [[1, 2], [3]], [[2], [1, 1]]

    first = sampler.process(logits, prompts, outputs)
    assert subject.mutated == ()
    out = sampler.sample(logits, prompts, outputs, 2)
    assert subject.mutated == ()
    want = _log_softmax(logits)[range(2), out.token_ids]
    torch.testing.assert_close(out.logprobs, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sampler.process(logits, prompts, outputs), first)
    row = logits[0].tolist()
    _, probs = subject.sample_token(row, 0.5, 3, 0.8, 1)
    assert subject.mutated == ()
    assert subject.filtered_distribution(row, 0.5, 3, 0.8) == probs
    likely = subject.apply_min_p(logits, torch.tensor([0.5, 0.5]))
    assert subject.mutated == ()
    assert (likely > -INF).tolist() == [[False, True, False, True], [False, False, False, True]]


@pytest.mark.symptom("It fails, or is slow, when the default device is not where the logits are.")
def test_tensors_are_made_where_the_logits_are(subject: Any) -> None:
    """The process' default device has no influence on any result."""
    logits = torch.tensor([[0.2, 1.5, -0.7, 0.9], [1.0, -0.3, 0.4, 2.0], [-1.0, 0.1, 0.8, 0.5]])
    own: list[dict[str, Any]] = [
        {"top_k": 1, "top_p": 0.9, "min_p": 0.01, "logit_bias": {2: 1.0}, "min_new_tokens": 2},
        {"repetition_penalty": 1.4, "frequency_penalty": 0.3, "presence_penalty": 0.2, "top_k": 1},
        {"temperature": 0.0},
    ]
    params = [subject.SamplingParams(seed=i, **more) for i, more in enumerate(own)]
    prompts, outputs = [[1, 2, 2], [3], []], [[], [3, 3], [1]]

    sampler = subject.BatchSampler(params, 4, eos_id=1)
    scores = sampler.process(logits, prompts, outputs)
    out = sampler.sample(logits, prompts, outputs, 2)
    try:
        with subject.accelerator():
            again = subject.BatchSampler(params, 4, eos_id=1)
            scores_again = again.process(logits, prompts, outputs)
            out_again = again.sample(logits, prompts, outputs, 2)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    torch.testing.assert_close(scores_again, scores)
    for got, want in zip(out_again, out, strict=True):
        torch.testing.assert_close(got, want)
    values = _log_softmax(logits).topk(2, dim=-1).values
    torch.testing.assert_close(out_again.top_logprobs, values, rtol=1e-5, atol=1e-6)


@pytest.mark.symptom("A wrong setting is accepted and the answer is silently nonsense.")
def test_a_callers_mistakes_raise_value_error(subject: Any) -> None:
    """Settings out of range, unusable logits and ids outside the vocabulary are refused."""
    for row in ([], [1.0, NAN], [INF, 0.0], [-INF, -INF]):
        _assert_refused(subject.sample_token, row)
    outside = {"temperature": (-0.5, NAN, INF), "top_k": (0, -2), "top_p": (0.0, -0.5, 1.5, NAN)}
    for name, values in outside.items():
        for value in values:
            _assert_refused(subject.sample_token, [1.0, 2.0], **{name: value})
            _assert_refused(subject.SamplingParams, **{name: value})
    for min_p in (-0.1, 1.1, NAN):
        _assert_refused(subject.SamplingParams, min_p=min_p)
    for penalty in (0.0, -1.0, INF, NAN):
        _assert_refused(subject.SamplingParams, repetition_penalty=penalty)

    plain = subject.SamplingParams(min_p=1.0)
    sampler = subject.BatchSampler([plain], 4, eos_id=3)
    logits = torch.zeros(1, 4)
    _assert_refused(sampler.sample, torch.zeros(2, 4), [[]], [[]])
    _assert_refused(sampler.sample, torch.zeros(1, 5), [[]], [[]])
    _assert_refused(sampler.sample, torch.zeros(0, 4), [[]], [[]])
    _assert_refused(sampler.sample, torch.zeros(1, 3), [[]], [[]])
    for n_prompts, n_outputs in [(0, 1), (1, 2), (1, 0), (2, 1), (0, 0), (2, 2)]:
        _assert_refused(sampler.process, logits, _nothing(n_prompts), _nothing(n_outputs))
    for token_id in (4, 5, -1):
        _assert_refused(sampler.sample, logits, [[0, token_id]], [[]])
        _assert_refused(sampler.sample, logits, [[]], [[0, token_id]])
        _assert_refused(subject.BatchSampler, [plain], 4, eos_id=token_id)
        _assert_refused(sampler.add, subject.SamplingParams(logit_bias={token_id: 1.0}))
    for n_logprobs in (5, 6, -1):
        _assert_refused(sampler.sample, logits, [[]], [[]], n_logprobs)
    for index in (1, 2, -1):
        _assert_refused(sampler.remove, index)
    assert subject.BatchSampler([plain], 4, eos_id=0).sample(logits, [[]], [[]]).ranks.shape == (1,)
    assert sampler.sample(logits, [[3]], [[0]], 4).top_ids.shape == (1, 4)
