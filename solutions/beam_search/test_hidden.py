"""What the beam search promises: `subject` is the file under test, `seed` differs between runs.

The oracles are plain Python in double precision: enumeration of all sequences, and a beam search
over token tuples that never stops early. Models whose decisions would be a matter of rounding are
drawn again.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

INF = math.inf
State = tuple[Tensor, ...]
Ranked = list[tuple[float, list[int]]]


class _Toy:
    """A model whose logits depend on the whole history, which it knows from its state alone.

    The state is a pair of different digests of the history, one of them with further dimensions.
    """

    def __init__(self, seed: int, vocab_size: int, *, bonus: float = 0.0, eos: int = 0) -> None:
        gen = torch.Generator().manual_seed(seed)
        self.coarse = torch.randn(61, vocab_size, generator=gen)
        self.fine = torch.randn(53, vocab_size, generator=gen)
        self.coarse[:, eos] += bonus
        self.calls: list[tuple[int, int]] = []
        self.dtype = torch.float32
        self.shift = 0.0

    def step(self, token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        rows, new = token_ids.shape
        self.calls.append((rows, new))
        a, b = state or (token_ids.new_ones(rows), token_ids.new_ones(rows, 1, 2))
        for token in token_ids.unbind(1):
            a = (7 * a + 3 * token + 1) % 61
            b = (5 * b + 2 * token[:, None, None] + 1) % 53
        return self._logits(a, b[:, 0, 1]), (a, b)

    def _logits(self, a: Tensor, b: Tensor) -> Tensor:
        return ((self.coarse[a] + self.fine[b]) + self.shift).to(self.dtype)

    def logprobs(self, history: Sequence[int]) -> list[float]:
        a = b = 1
        for token in history:
            a, b = (7 * a + 3 * token + 1) % 61, (5 * b + 2 * token + 1) % 53
        logits = self._logits(torch.tensor(a), torch.tensor(b)).double()
        values: list[float] = torch.log_softmax(logits, dim=-1).tolist()
        return values


def _repeats(history: Sequence[int], n: int) -> bool:
    """Tell whether the last n tokens occurred before."""
    grams = [tuple(history[i : i + n]) for i in range(len(history) - n + 1)]
    return n > 0 and len(grams) > 0 and grams[-1] in grams[:-1]


def _search(toy: _Toy, prompt: Sequence[int], **settings: Any) -> tuple[Ranked, float]:
    """Return the best finished hypotheses, and the smallest gap that decided anything."""
    k, eos = settings.get("num_beams", 4), settings.get("eos_id", 0)
    penalty, ngram = settings.get("length_penalty", 1.0), settings.get("no_repeat_ngram_size", 0)
    running: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: Ranked = []
    gaps = [INF]
    for n in range(settings.get("max_new_tokens", 16)):
        grown: list[tuple[float, list[int]]] = []
        for total, tokens in running:
            for token, logprob in enumerate(toy.logprobs([*prompt, *tokens])):
                early_eos = token == eos and n < settings.get("min_new_tokens", 0)
                if not early_eos and not _repeats([*prompt, *tokens, token], ngram):
                    grown.append((total + logprob, [*tokens, token]))
        grown.sort(reverse=True)
        gaps += [a[0] - b[0] for a, b in itertools.pairwise(grown[: 2 * k + 1])]
        for total, tokens in grown[:k]:
            if tokens[-1] == eos:
                finished.append((total / (n + 1) ** penalty, tokens))
        running = [beam for beam in grown[: 2 * k] if beam[1][-1] != eos][:k]
        if settings.get("early_stopping", False) and len(finished) >= k:
            running = []
    finished += [(total / len(tokens) ** penalty, tokens) for total, tokens in running]
    finished.sort(reverse=True)
    gaps += [a[0] - b[0] for a, b in itertools.pairwise(finished[: k + 1])]
    return finished[:k], min(gaps)


def _clear_case(
    rng: random.Random, vocab_size: int, n_prompts: int, bonus: float, **settings: Any
) -> tuple[_Toy, Tensor, list[Ranked]]:
    """Draw a model and prompts [n_prompts, 3] whose searches are decided by more than rounding."""
    while True:
        toy = _Toy(rng.getrandbits(40), vocab_size, bonus=bonus, eos=settings.get("eos_id", 0))
        prompts = [[rng.randrange(vocab_size) for _ in range(3)] for _ in range(n_prompts)]
        results = [_search(toy, prompt, **settings) for prompt in prompts]
        if min(gap for _, gap in results) > 2e-5:
            return toy, torch.tensor(prompts), [ranked for ranked, _ in results]


def _run(subject: Any, step: Callable[..., Any], prompt: Tensor, **settings: Any) -> list[Ranked]:
    """Return the hypotheses of each prompt as (score, tokens), best first."""
    out = subject.beam_search(step, prompt, subject.BeamConfig(**settings))
    shape = (prompt.shape[0], settings.get("num_return", 1))
    assert out.scores.dtype == torch.float32
    assert (out.scores.shape, out.lengths.shape) == (shape, shape)
    assert out.sequences.shape == (*shape, int(out.lengths.max()))
    rows = zip(out.scores.tolist(), out.lengths.tolist(), out.sequences.tolist(), strict=True)
    return [
        [(score, tokens[:n]) for score, n, tokens in zip(*row, strict=True) if n > 0]
        for row in rows
    ]


def _assert_same(got: list[Ranked], want: list[Ranked]) -> None:
    assert [[tokens for _, tokens in ranked] for ranked in got] == [
        [tokens for _, tokens in ranked] for ranked in want
    ]
    scores = [
        torch.tensor([score for ranked in side for score, _ in ranked], dtype=torch.float64)
        for side in (got, want)
    ]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-5)


def _refuses(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message's words are free)
        function(*args, **kwargs)


def _everything(toy: _Toy, prompt: Sequence[int], vocab_size: int, longest: int) -> Ranked:
    """Return every possible output with its sum of log-probabilities; EOS is token 0."""
    found: Ranked = []
    pending: list[tuple[float, list[int]]] = [(0.0, [])]
    while pending:
        total, tokens = pending.pop()
        if tokens and (tokens[-1] == 0 or len(tokens) == longest):
            found.append((total, tokens))
            continue
        logprobs = toy.logprobs([*prompt, *tokens])
        pending += [(total + logprobs[i], [*tokens, i]) for i in range(vocab_size)]
    return found


# ----- what is found


@pytest.mark.symptom("A very wide search misses answers that are better than what it returns.")
def test_with_enough_beams_the_search_is_exact(subject: Any, seed: int) -> None:
    """With as many beams as sequences exist, all of them come back, ordered by their scores."""
    rng = random.Random(seed)
    for penalty in (0.0, 1.0, 2.0, -0.5):
        toy = _Toy(rng.getrandbits(40), 3)
        prompts = [[rng.randrange(3) for _ in range(4)] for _ in range(2)]

        got = _run(
            subject,
            toy.step,
            torch.tensor(prompts),
            num_beams=16,
            num_return=16,
            max_new_tokens=3,
            length_penalty=penalty,
        )

        for ranked, prompt in zip(got, prompts, strict=True):
            totals = {tuple(t): s / len(t) ** penalty for s, t in _everything(toy, prompt, 3, 3)}
            assert len(ranked) == len(totals) == 15
            assert {tuple(tokens) for _, tokens in ranked} == set(totals)
            scores = torch.tensor([score for score, _ in ranked])
            want = torch.tensor([totals[tuple(tokens)] for _, tokens in ranked])
            torch.testing.assert_close(scores, want, rtol=1e-5, atol=1e-5)
            assert scores.tolist() == sorted(scores.tolist(), reverse=True)


@pytest.mark.symptom("Beam search returns worse sentences than the reference implementation.")
def test_a_narrow_search_equals_one_in_plain_python(subject: Any, seed: int) -> None:
    """Few beams give what a search over token lists gives, which never stops before the limit."""
    rng = random.Random(seed)
    cases = [(2, 1.0, 0.5), (3, 0.0, 1.0), (3, 2.0, 1.5), (2, -1.0, -0.5), (4, 0.6, 0.0)]
    for num_beams, penalty, bonus in cases:
        settings: dict[str, Any] = {
            "num_beams": num_beams,
            "num_return": num_beams,
            "max_new_tokens": 5,
            "length_penalty": penalty,
            "eos_id": rng.randrange(6),
            "pad_id": 7,
        }
        toy, prompts, want = _clear_case(rng, 6, 3, bonus, **settings)

        _assert_same(_run(subject, toy.step, prompts, **settings), want)


@pytest.mark.symptom("An impatient search returns other answers than it found first.")
def test_early_stopping_is_content_with_the_first_full_list(subject: Any, seed: int) -> None:
    """With early stopping a prompt keeps what had finished when its list first became full."""
    rng = random.Random(seed)
    for num_beams, bonus in [(2, 1.5), (3, 1.0), (3, 3.0)]:
        settings: dict[str, Any] = {
            "num_beams": num_beams,
            "num_return": num_beams,
            "max_new_tokens": 5,
            "early_stopping": True,
            "length_penalty": 2.0,
        }
        toy, prompts, want = _clear_case(rng, 6, 3, bonus, **settings)

        _assert_same(_run(subject, toy.step, prompts, **settings), want)


@pytest.mark.symptom("num_beams=1 does not give the same text as greedy decoding.")
def test_one_beam_is_greedy_decoding(subject: Any, seed: int) -> None:
    """A single beam with early stopping follows the most likely token until EOS or the limit."""
    rng = random.Random(seed)
    for bonus in (-9.0, 0.0, 1.0):
        toy, prompts, _ = _clear_case(rng, 7, 2, bonus, num_beams=1, max_new_tokens=6)
        want = []
        for prompt in prompts.tolist():
            tokens: list[int] = []
            while len(tokens) < 6 and tokens[-1:] != [0]:
                logprobs = toy.logprobs([*prompt, *tokens])
                tokens.append(logprobs.index(max(logprobs)))
            want.append(tokens)

        got = _run(subject, toy.step, prompts, num_beams=1, max_new_tokens=6, early_stopping=True)

        assert [[tokens for _, tokens in ranked] for ranked in got] == [[t] for t in want]


@pytest.mark.symptom("Scores cannot be compared between services or between prompts.")
def test_a_score_is_the_mean_log_probability_of_the_output(subject: Any, seed: int) -> None:
    """A score is the sum of the output's log-probabilities over its length ** length_penalty."""
    rng = random.Random(seed)
    for penalty in (1.0, 0.5, 0.0, -1.0):
        toy = _Toy(rng.getrandbits(40), 5, bonus=0.7)
        prompts = [[rng.randrange(5) for _ in range(6)] for _ in range(2)]

        got = _run(
            subject,
            toy.step,
            torch.tensor(prompts),
            num_beams=3,
            num_return=3,
            max_new_tokens=4,
            length_penalty=penalty,
        )

        for prompt, ranked in zip(prompts, got, strict=True):
            assert len(ranked) == 3
            assert len({tuple(tokens) for _, tokens in ranked}) == 3
            for score, tokens in ranked:
                parts = [
                    toy.logprobs([*prompt, *tokens[:i]])[token] for i, token in enumerate(tokens)
                ]
                want = math.fsum(parts) / len(tokens) ** penalty
                assert math.isclose(score, want, rel_tol=1e-5, abs_tol=1e-5)


@pytest.mark.symptom("Answers change when prompts are batched together.")
def test_a_prompt_alone_and_in_a_batch_gets_the_same(subject: Any, seed: int) -> None:
    """Each of several prompts gets, with early stopping or without, what it would get alone."""
    rng = random.Random(seed)
    for early in (False, True):
        settings: dict[str, Any] = {
            "num_beams": 2,
            "num_return": 2,
            "max_new_tokens": 4,
            "early_stopping": early,
        }
        toy, prompts, _ = _clear_case(rng, 6, 3, 1.5, **settings)

        together = _run(subject, toy.step, prompts, **settings)

        alone = [_run(subject, toy.step, prompt[None], **settings)[0] for prompt in prompts]
        _assert_same(together, alone)
        assert len({tuple(tokens) for ranked in together for _, tokens in ranked}) > 2


# ----- how it gets there


@pytest.mark.symptom("With a KV cache the text turns to nonsense after a few tokens.")
def test_a_row_and_its_model_state_belong_together(subject: Any, seed: int) -> None:
    """After every step the state of a running row is that of the row's own tokens."""
    rng = random.Random(seed)
    table = torch.randn(4, 6, generator=torch.Generator().manual_seed(seed)) * 0.5
    table[:, 0] = -9.0

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        seen = torch.cat([state[0], token_ids], dim=1) if state else token_ids
        logits = table[(seen.sum(dim=1) + seen[:, -1] * 3) % 4]
        return logits, (seen, seen[:, :, None, None].expand(-1, -1, 2, 1) * 0.5)

    prompts = torch.tensor([[rng.randrange(6) for _ in range(2)] for _ in range(3)])
    search = subject.BeamSearch(step, prompts, subject.BeamConfig(num_beams=3, max_new_tokens=6))
    search.prefill()
    for n in range(1, 6):
        tokens, (seen, halves) = search.tokens, search.state
        assert search.n_generated == n
        assert tokens.shape == (9, 2 + n)
        assert bool(torch.isfinite(search.beam_scores).all())
        torch.testing.assert_close(seen, tokens[:, :-1])
        torch.testing.assert_close(halves[:, :, 1, 0], tokens[:, :-1] * 0.5)
        torch.testing.assert_close(tokens[:, :2], prompts.repeat_interleave(3, dim=0))
        assert all(len({tuple(row) for row in group.tolist()}) == 3 for group in tokens.split(3))
        search.step()


@pytest.mark.symptom("Candidates are attributed to the wrong beam or the wrong word.")
def test_candidates_of_all_beams_compete(subject: Any, seed: int) -> None:
    """The best extensions are chosen among all beams of a prompt, by sum of log-probabilities."""
    gen = torch.Generator().manual_seed(seed)
    for beams, vocab_size, n in [(3, 5, 6), (2, 7, 4), (4, 3, 30), (1, 4, 2)]:
        logprobs = torch.randn(3, beams, vocab_size, generator=gen)
        beam_scores = torch.randn(3, beams, generator=gen) * 2

        scores, sources, tokens = subject.select_candidates(logprobs, beam_scores, n)

        totals = (logprobs.double() + beam_scores.double()[:, :, None]).tolist()
        for b in range(3):
            flat = [(totals[b][k][v], k, v) for k in range(beams) for v in range(vocab_size)]
            flat = sorted(flat, reverse=True)[:n]
            want = torch.tensor([total for total, _, _ in flat])
            torch.testing.assert_close(scores[b], want, rtol=1e-5, atol=1e-6)
            assert list(zip(sources[b].tolist(), tokens[b].tolist(), strict=True)) == [
                (k, v) for _, k, v in flat
            ]


@pytest.mark.symptom("The list of finished answers loses its best entries.")
def test_the_best_finished_hypotheses_are_kept(subject: Any, seed: int) -> None:
    """Of all continuations entered, the num_beams best by normalised score remain, best first."""
    rng = random.Random(seed)
    for penalty in (1.0, 0.5, -1.0):
        hypotheses = subject.Hypotheses(subject.BeamConfig(num_beams=3, length_penalty=penalty))
        entered = []
        for n in rng.sample(range(1, 8), 6):
            total = -rng.uniform(0.5, 9.0)
            hypotheses.add([5] * n, total)
            entered.append((total / n**penalty, n))
            best = sorted(entered, reverse=True)[:3]
            kept = [(item.score, len(item.tokens)) for item in hypotheses.items]
            assert [n for _, n in kept] == [n for _, n in best]
            torch.testing.assert_close(
                torch.tensor([score for score, _ in kept]),
                torch.tensor([score for score, _ in best]),
            )
            assert math.isclose(hypotheses.worst(), best[-1][0], rel_tol=1e-6)


@pytest.mark.symptom("The search gives up while a longer and better answer is still being written.")
def test_a_prompt_is_done_when_no_running_beam_can_enter(subject: Any, seed: int) -> None:
    """A full list is final once even certain tokens to come would not lift a beam into it."""
    lengths = random.Random(seed).sample([2, 3, 4, 5], 4)
    # (length penalty, sums of two finished outputs of 2 tokens, best running sum, done)
    cases = [
        (1.0, (-2.0, -4.0), -15.0, False),
        (1.0, (-2.0, -4.0), -16.0, True),
        (1.0, (-2.0, -4.0), -17.0, True),
        (2.0, (-4.0, -16.0), -255.0, False),
        (2.0, (-4.0, -16.0), -257.0, True),
        (0.5, (-1.0, -4.0), -7.9, False),
        (0.5, (-1.0, -4.0), -8.1, True),
        (0.0, (-2.0, -4.0), -3.5, False),
        (0.0, (-2.0, -4.0), -4.0, True),
    ]
    for length in lengths:
        for penalty, sums, running, done in cases:
            config = subject.BeamConfig(num_beams=2, max_new_tokens=8, length_penalty=penalty)
            hypotheses = subject.Hypotheses(config)
            hypotheses.add([1, 0], sums[0])
            assert hypotheses.is_done(running, length) is False
            hypotheses.add([2, 0], sums[1])
            assert hypotheses.is_done(running, length) is done


@pytest.mark.symptom("With a negative length penalty the search stops or drags on at random.")
def test_short_answers_are_favoured_by_a_negative_penalty(subject: Any, seed: int) -> None:
    """Below 0 the next token is a beam's best chance, and at the limit it is judged as it is."""
    n = random.Random(seed).randrange(2, 6)
    config = subject.BeamConfig(num_beams=1, max_new_tokens=8, length_penalty=-1.0)
    hypotheses = subject.Hypotheses(config)
    hypotheses.add([3, 0], -12.0)

    assert hypotheses.is_done(-23.0 / (n + 1), n) is False
    assert hypotheses.is_done(-25.0 / (n + 1), n) is True
    assert hypotheses.is_done(-23.0 / 8, 8) is False
    assert hypotheses.is_done(-25.0 / 8, 8) is True

    # What follows a word is likely as in its row. Two outputs have finished when "1 3" still runs,
    # and its third word makes it better than the worse of them, however long the prompt was.
    likely = torch.tensor(
        [
            [0.2, 0.2, 0.2, 0.2, 0.2],
            [0.1, 0.02, 0.02, 0.85, 0.01],
            [0.2, 0.2, 0.2, 0.2, 0.2],
            [0.9, 0.02, 0.03, 0.02, 0.03],
            [0.2, 0.6, 0.1, 0.05, 0.05],
        ]
    )

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        return likely[token_ids[:, -1]].log(), state

    prompt = torch.full((1, n + 5), 4)
    (got,) = _run(subject, step, prompt, num_beams=2, num_return=2, length_penalty=-1.0)
    assert [tokens for _, tokens in got] == [[0], [1, 3, 0]]


@pytest.mark.symptom("The service keeps the GPU busy although all answers are complete.")
def test_the_model_is_called_only_while_a_beam_can_still_win(subject: Any, seed: int) -> None:
    """The model reads each prompt once, then one token per call, and rests when all are done."""
    calls: list[tuple[int, int]] = []
    eos_logit = 9.0

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        calls.append((token_ids.shape[0], token_ids.shape[1]))
        return torch.tensor([[eos_logit, 0.0, -1.0, -2.0]]).expand(len(token_ids), 4), state

    prompts = torch.tensor([[1, 2, 3], random.Random(seed).sample([1, 2, 3], 3)])

    def count(**settings: Any) -> int:
        calls.clear()
        subject.beam_search(step, prompts, subject.BeamConfig(num_beams=2, **settings))
        assert calls[0][1] == 3
        assert all(call == (4, 1) for call in calls[1:])
        return len(calls)

    assert count(max_new_tokens=7, length_penalty=0.0) == 2
    assert count(max_new_tokens=7, early_stopping=True, length_penalty=9.0) == 2
    assert count(max_new_tokens=1) == 1
    assert count(max_new_tokens=9, no_repeat_ngram_size=1, eos_id=1) == 2
    assert count(max_new_tokens=9, min_new_tokens=4, length_penalty=0.0) == 5
    eos_logit = -30.0
    assert count(max_new_tokens=5) == 5


@pytest.mark.symptom("A search without settings gives up early, or costs more than it should.")
def test_without_settings_four_beams_look_sixteen_tokens_ahead(subject: Any, seed: int) -> None:
    """What is left out is 4 beams, 16 tokens, the mean as score, and 0 as EOS and padding."""
    toy, prompts, want = _clear_case(random.Random(seed), 5, 2, -9.0)
    toy.calls.clear()

    _assert_same(_run(subject, toy.step, prompts), [ranked[:1] for ranked in want])
    assert toy.calls == [(2, 3), *[(8, 1)] * 15]

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        first = state[0] if state else token_ids[:, 0]
        return 30.0 * torch.nn.functional.one_hot(first % 3, 3), (first,)

    out = subject.beam_search(step, torch.tensor([[3], [1]]), subject.BeamConfig())
    assert out.lengths.tolist() == [[1], [16]]
    assert out.sequences.tolist() == [[[0] * 16], [[1] * 16]]


# ----- what is allowed


@pytest.mark.symptom(
    "Answers end before the minimum length, or one token after it at the earliest."
)
def test_eos_waits_for_the_minimum_length(subject: Any, seed: int) -> None:
    """No EOS comes before min_new_tokens other tokens; after them it is possible at once."""
    rng = random.Random(seed)
    for least in (0, 1, 3):
        settings: dict[str, Any] = {
            "num_beams": 2,
            "num_return": 2,
            "max_new_tokens": 5,
            "min_new_tokens": least,
            "length_penalty": 0.0,
            "eos_id": 2,
        }
        toy, prompts, want = _clear_case(rng, 5, 2, 12.0, **settings)

        got = _run(subject, toy.step, prompts, **settings)

        _assert_same(got, want)
        for ranked in got:
            assert ranked[0][1].index(2) == least == len(ranked[0][1]) - 1
    toy = _Toy(seed, 3, bonus=12.0)
    settings = {"num_beams": 4, "num_return": 4, "max_new_tokens": 3, "min_new_tokens": 3}
    (ranked,) = _run(subject, toy.step, torch.tensor([[1, 2]]), **settings)
    assert len(ranked) == 4
    assert all(len(tokens) == 3 and 0 not in tokens for _, tokens in ranked)


@pytest.mark.symptom("A model that wants to say nothing gets a strange answer or a crash.")
def test_eos_may_be_the_first_token(subject: Any, seed: int) -> None:
    """An output of EOS alone has length 1 and its own log-probability as score."""
    rng = random.Random(seed)
    toy = _Toy(rng.getrandbits(40), 4, bonus=14.0, eos=3)
    prompts = [[rng.randrange(4), rng.randrange(4)] for _ in range(2)]

    for early in (False, True):
        got = _run(
            subject,
            toy.step,
            torch.tensor(prompts),
            num_beams=2,
            eos_id=3,
            pad_id=1,
            early_stopping=early,
            length_penalty=0.0,
        )

        for ranked, prompt in zip(got, prompts, strict=True):
            assert [tokens for _, tokens in ranked] == [[3]]
            want = toy.logprobs(prompt)[3]
            assert math.isclose(ranked[0][0], want, rel_tol=1e-4, abs_tol=1e-6)


@pytest.mark.symptom("Summaries repeat phrases although repetition is switched off.")
def test_no_ngram_occurs_twice(subject: Any, seed: int) -> None:
    """With no_repeat_ngram_size = n no n tokens recur, prompt included; the rest is unaffected."""
    rng = random.Random(seed)
    for n in (1, 2, 3):
        settings: dict[str, Any] = {
            "num_beams": 2,
            "num_return": 2,
            "max_new_tokens": 6,
            "no_repeat_ngram_size": n,
        }
        toy, prompts, want = _clear_case(rng, 5 if n < 2 else 3, 2, -1.0, **settings)
        _assert_same(_run(subject, toy.step, prompts, **settings), want)
    for _ in range(8):
        tokens = [rng.randrange(3) for _ in range(rng.randrange(10))]
        for n in (1, 2, 3, 4):
            banned = {v for v in range(3) if _repeats([*tokens, v], n)}
            assert set(subject.banned_next_tokens(tokens, n)) == banned


@pytest.mark.symptom("Forbidding a word changes the scores of all other words.")
def test_forbidding_leaves_other_tokens_their_log_probability(subject: Any, seed: int) -> None:
    """Forbidden tokens become -inf, all others stay, and so does the tensor that was passed."""
    logprobs = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed)) - 3.0
    tokens = torch.tensor([[1, 2, 3, 1], [4, 4, 4, 4], [5, 1, 2, 4]])
    config = subject.BeamConfig(eos_id=5, min_new_tokens=2, no_repeat_ngram_size=2)

    for n_generated in (0, 1, 2, 3):
        got = subject.forbid_tokens(logprobs, tokens, n_generated, config)
        assert subject.mutated == ()
        want = logprobs.clone()
        want[0, 2] = want[1, 4] = -INF
        if n_generated < 2:
            want[:, 5] = -INF
        torch.testing.assert_close(got, want, rtol=0, atol=0)


# ----- shape, numbers, mistakes


@pytest.mark.symptom("Clients find leftovers of other sentences behind a short answer.")
def test_short_outputs_are_filled_up_with_padding(subject: Any, seed: int) -> None:
    """Beyond a hypothesis' length there is padding; missing hypotheses have length 0."""
    toy = _Toy(seed, 3, bonus=1.0)
    config = subject.BeamConfig(num_beams=8, num_return=8, max_new_tokens=2, pad_id=77)

    out = subject.beam_search(toy.step, torch.tensor([[1], [2]]), config)

    assert out.sequences.shape == (2, 8, 2)
    assert out.sequences.dtype == out.lengths.dtype == torch.long
    assert sorted(out.lengths[0].tolist()) == [0, 1, 2, 2, 2, 2, 2, 2]
    for b, rank in itertools.product(range(2), range(8)):
        length, row = int(out.lengths[b, rank]), out.sequences[b, rank].tolist()
        assert row[length:] == [77] * (2 - length)
        assert 77 not in row[:length]
        assert (out.scores[b, rank] == -INF) == (length == 0)
    got = _run(subject, toy.step, torch.tensor([[1], [2]]), num_beams=8, max_new_tokens=2)
    assert [len(ranked) for ranked in got] == [1, 1]


@pytest.mark.symptom("Half-precision models rank their answers differently from run to run.")
def test_scores_do_not_depend_on_scale_or_dtype_of_logits(subject: Any, seed: int) -> None:
    """A constant added to all logits changes nothing, and scores of bfloat16 logits are float32."""
    settings: dict[str, Any] = {"num_beams": 3, "num_return": 3, "max_new_tokens": 4}
    rng = random.Random(seed)
    toy, prompts, want = _clear_case(rng, 6, 2, 0.5, **settings)
    toy.shift = 40.0
    _assert_same(_run(subject, toy.step, prompts, **settings), want)

    gap = 0.0
    while gap < 2e-5:
        toy = _Toy(rng.getrandbits(40), 6, bonus=0.5)
        toy.dtype = torch.bfloat16
        exact, gap = _search(toy, [1, 2], **settings)
    _assert_same(_run(subject, toy.step, torch.tensor([[1, 2]]), **settings), [exact])


@pytest.mark.symptom("On a GPU the search stops with tensors on two devices.")
def test_tensors_are_made_where_the_prompt_is(subject: Any, seed: int) -> None:
    """The result does not depend on the default device of the process."""
    settings: dict[str, Any] = {
        "num_beams": 3,
        "num_return": 3,
        "max_new_tokens": 4,
        "min_new_tokens": 1,
        "no_repeat_ngram_size": 2,
    }
    toy, prompts, want = _clear_case(random.Random(seed), 5, 2, 1.0, **settings)
    plain = subject.beam_search(toy.step, prompts, subject.BeamConfig(**settings))

    try:
        with subject.accelerator():
            out = subject.beam_search(toy.step, prompts, subject.BeamConfig(**settings))
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    for got, same in zip(out, plain, strict=True):
        assert got.device.type == same.device.type
        torch.testing.assert_close(got, same, rtol=0, atol=0)
    best = [row[0, :n].tolist() for row, n in zip(out.sequences, out.lengths[:, 0], strict=True)]
    assert best == [ranked[0][1] for ranked in want]


@pytest.mark.symptom("A mistaken request is answered with nonsense instead of an error.")
def test_mistakes_are_refused(subject: Any) -> None:
    """Impossible settings, empty prompts and an EOS outside the vocabulary raise ValueError."""
    bad: list[dict[str, Any]] = [
        {"num_beams": 0},
        {"max_new_tokens": 0},
        {"min_new_tokens": -1},
        {"no_repeat_ngram_size": -1},
        {"num_return": 0},
        {"num_beams": 2, "num_return": 3},
    ]
    for settings in bad:
        _refuses(subject.BeamConfig, **settings)
    subject.BeamConfig(num_beams=2, num_return=2, max_new_tokens=1, min_new_tokens=0)

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        return torch.zeros(len(token_ids), 4), state

    config = subject.BeamConfig(max_new_tokens=1)
    for size in [(3,), (2, 0), (0, 2), (1, 2, 2)]:
        _refuses(subject.beam_search, step, torch.zeros(size).long(), config)
    for eos_id in (-1, 4, 5):
        config = subject.BeamConfig(max_new_tokens=1, eos_id=eos_id)
        _refuses(subject.beam_search, step, torch.tensor([[1]]), config)
    config = subject.BeamConfig(max_new_tokens=1, eos_id=3)

    def in_shape(*shape: int) -> Callable[..., Any]:
        return lambda token_ids, state: (torch.zeros(len(token_ids), *shape), state)

    for shape in [(), (3,), (1, 4), (4, 4)]:
        _refuses(subject.beam_search, in_shape(*shape), torch.tensor([[1]]), config)
    out = subject.beam_search(step, torch.tensor([[1]]), config)
    assert out.lengths.tolist() == [[1]]
