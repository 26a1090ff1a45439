"""What static batch generation promises: `subject` is the file under test, `seed` differs by run.

The model is one attention layer with positions. The oracle runs it on one unpadded text at a time,
without a cache, in double precision; texts that rounding could change are drawn again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

VOCAB = 11
Past = tuple[Tensor, ...]


class _Toy:
    """A causal attention layer over embeddings with positions, and a log of its calls."""

    def __init__(self, seed: int) -> None:
        gen = torch.Generator().manual_seed(seed)
        self.embed = torch.randn(VOCAB, 6, generator=gen)
        self.qkv = torch.randn(3, 6, 6, generator=gen) * 0.6
        self.head = torch.randn(6, VOCAB, generator=gen)
        self.waves = torch.rand(6, generator=gen) * 2 + 0.2
        self.calls: list[tuple[Tensor, Tensor, Tensor]] = []
        self.dtype = torch.float32

    def forward(
        self, ids: Tensor, attention_mask: Tensor, positions: Tensor, past: Past
    ) -> tuple[Tensor, Past]:
        self.calls.append((ids, attention_mask, positions))
        x = self.embed[ids] + torch.sin(positions[..., None] * self.waves)
        q, k, v = (x @ w for w in self.qkv)
        if past:
            k, v = torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)
        new, total = ids.shape[1], k.shape[1]
        column = (ids[0, 0] * 0).new_ones(total).cumsum(0)
        seen = attention_mask[:, None, :] & (column <= column[total - new :, None])
        scores = (q @ k.transpose(1, 2)).masked_fill(~seen, -math.inf)
        weights = torch.softmax(scores, dim=-1).nan_to_num(0.0)
        return ((x + weights @ v) @ self.head).to(self.dtype), (k, v)

    def logprobs(self, text: Sequence[int]) -> Tensor:
        """Return the log-probabilities [len(text), V] of what follows each token of one text."""
        positions = torch.arange(len(text), dtype=torch.float64)[:, None]
        x = self.embed[list(text)].double() + torch.sin(positions * self.waves.double())
        q, k, v = (x @ w for w in self.qkv.double())
        past = torch.ones(len(text), len(text), dtype=torch.bool).tril()
        weights = torch.softmax((q @ k.T).masked_fill(~past, -math.inf), dim=-1)
        logits = ((x + weights @ v) @ self.head.double()).to(self.dtype)
        return torch.log_softmax(logits.double(), dim=-1)


class _Answer:
    """What one prompt gets alone, greedily, and by how much its closest decision was made."""

    def __init__(
        self, toy: _Toy, prompt: Sequence[int], n: int, eos_ids: Sequence[int] = ()
    ) -> None:
        text, self.gap, self.reason = list(prompt), math.inf, "length"
        before = toy.logprobs(prompt)
        self.prompt_logprobs = [float(before[i, token]) for i, token in enumerate(prompt[1:])]
        self.logprobs: list[float] = []
        for _ in range(n):
            values, order = toy.logprobs(text)[-1].topk(2)
            self.gap = min(self.gap, float(values[0] - values[1]))
            self.logprobs.append(float(values[0]))
            text.append(int(order[0]))
            if text[-1] in eos_ids:
                self.reason = "eos"
                break
        self.tokens = text[len(prompt) :]


def _case(
    rng: random.Random, lengths: Sequence[int], limits: Sequence[int], eos_ids: Sequence[int] = ()
) -> tuple[_Toy, list[list[int]], list[_Answer]]:
    """Draw a model, prompts and their answers, with no decision left to rounding."""
    while True:
        toy = _Toy(rng.getrandbits(40))
        prompts = [[rng.randrange(VOCAB) for _ in range(n)] for n in lengths]
        answers = [
            _Answer(toy, prompt, n, eos_ids) for prompt, n in zip(prompts, limits, strict=True)
        ]
        if min(answer.gap for answer in answers) > 1e-3:
            return toy, prompts, answers


def _run(
    subject: Any,
    toy: _Toy,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    scores: bool = False,
    options: Sequence[dict[str, Any]] | None = None,
    **settings: Any,
) -> Any:
    """Generate; `options` are those of each request, `settings` those of the generator."""
    requests = [
        subject.GenerationRequest(torch.tensor(prompt), n, **own)
        for prompt, n, own in zip(prompts, limits, options or [{}] * len(prompts), strict=True)
    ]
    config = subject.GenerationConfig(**{"pad_id": 0, **settings})
    results = subject.StaticBatchGenerator(toy.forward, config).generate(requests, scores)
    assert len(results) == len(prompts)
    return results


def _close(got: Sequence[float], want: Sequence[float]) -> None:
    torch.testing.assert_close(
        torch.tensor(list(got)), torch.tensor(list(want)), rtol=1e-4, atol=1e-5
    )


def _assert_answers(results: Any, answers: Sequence[_Answer]) -> None:
    assert [list(result.tokens) for result in results] == [answer.tokens for answer in answers]
    assert [result.finish_reason for result in results] == [answer.reason for answer in answers]
    for result, answer in zip(results, answers, strict=True):
        _close(result.logprobs, answer.logprobs)


def _refuses(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message's words are free)
        function(*args, **kwargs)


# ----- answers


@pytest.mark.symptom("Short prompts get worse answers when they are batched with long ones.")
def test_every_prompt_gets_the_answer_it_would_get_alone(subject: Any, seed: int) -> None:
    """Tokens and log-probabilities of prompts of unequal lengths are those of each one alone."""
    rng = random.Random(seed)
    for lengths in ([3, 7, 1, 5], [2, 2, 6]):
        limits = [5] * len(lengths)
        toy, prompts, answers = _case(rng, lengths, limits)

        _assert_answers(_run(subject, toy, prompts, limits), answers)


@pytest.mark.symptom("Changing the padding token changes the answers.")
def test_the_pad_id_is_irrelevant(subject: Any, seed: int) -> None:
    """Any id serves as padding, also one that occurs in prompts or ends answers."""
    rng = random.Random(seed)
    eos_id = rng.randrange(VOCAB)
    while True:
        toy, prompts, _ = _case(rng, [4, 6, 2], [4, 4, 4], [eos_id])
        prompts[1][0], prompts[2][-1], prompts[0][1] = 7, 7, eos_id
        answers = [_Answer(toy, prompt, 4, [eos_id]) for prompt in prompts]
        if min(answer.gap for answer in answers) > 1e-3:
            break

    for pad_id in (0, 7, eos_id, VOCAB - 1):
        results = _run(
            subject, toy, prompts, [4, 4, 4], pad_id=pad_id, eos_ids=(eos_id,), scores=True
        )
        _assert_answers(results, answers)
        for result, answer in zip(results, answers, strict=True):
            _close(result.prompt_logprobs, answer.prompt_logprobs)


@pytest.mark.symptom("Users receive each other's answers.")
def test_answers_come_in_the_order_of_the_requests(subject: Any, seed: int) -> None:
    """Whatever the batch size and the lengths, answer i belongs to request i."""
    rng = random.Random(seed)
    lengths = rng.sample([1, 2, 3, 4, 5, 3, 6], 7)
    limits = [rng.randrange(1, 4) for _ in lengths]
    toy, prompts, answers = _case(rng, lengths, limits)

    cases: list[dict[str, Any]] = [
        {"batch_size": 1},
        {"batch_size": 3},
        {"max_padded_tokens": 12},
    ]
    for settings in cases:
        _assert_answers(_run(subject, toy, prompts, limits, **settings), answers)


@pytest.mark.symptom("An answer breaks off, or runs on, when a neighbour in the batch is done.")
def test_a_row_stops_at_its_own_eos_and_the_others_go_on(subject: Any, seed: int) -> None:
    """EOS is the last token of its answer; rows that end earlier or later are unaffected."""
    rng = random.Random(seed)
    while True:
        eos_ids = rng.sample(range(VOCAB), 2)
        toy, prompts, answers = _case(rng, [2, 5, 3, 4], [7] * 4, eos_ids)
        ends = [answer.tokens[-1] for answer in answers if answer.reason == "eos"]
        if len({len(answer.tokens) for answer in answers}) >= 3 and set(ends) == set(eos_ids):
            break

    _assert_answers(_run(subject, toy, prompts, [7] * 4, eos_ids=tuple(eos_ids)), answers)


@pytest.mark.symptom("A model that ends at once gives an answer anyway; EOS id 0 is ignored.")
def test_the_first_token_may_be_eos(subject: Any, seed: int) -> None:
    """An answer may be EOS alone, the id may be 0, and without EOS ids nothing ends early."""
    rng = random.Random(seed)
    toy, prompts, answers = _case(rng, [4, 2, 3], [3, 3, 3])
    first = answers[0].tokens[0]
    want = [_Answer(toy, prompt, 3, [first]) for prompt in prompts]
    _assert_answers(_run(subject, toy, prompts, [3, 3, 3], eos_ids=(first,)), want)
    assert want[0].tokens == [first]
    _assert_answers(_run(subject, toy, prompts, [3, 3, 3]), answers)
    toy.embed[[0, first]], toy.head[:, [0, first]] = toy.embed[[first, 0]], toy.head[:, [first, 0]]
    renamed = [[{0: first, first: 0}.get(i, i) for i in prompt] for prompt in prompts]
    results = _run(subject, toy, renamed, [3, 3, 3], eos_ids=(0,), pad_id=1)
    assert list(results[0].tokens) == [0]
    assert results[0].finish_reason == "eos"


@pytest.mark.symptom("All requests of a batch run as long as the longest, or too short by one.")
def test_every_request_has_its_own_limit(subject: Any, seed: int) -> None:
    """An answer has max_new_tokens tokens if nothing ends it before, none for 0."""
    rng = random.Random(seed)
    limits = rng.sample([0, 1, 2, 4, 6], 5)
    toy, prompts, answers = _case(rng, [5, 1, 3, 4, 2], limits)

    results = _run(subject, toy, prompts, limits, scores=True)

    _assert_answers(results, answers)
    for result, answer in zip(results, answers, strict=True):
        _close(result.prompt_logprobs, answer.prompt_logprobs)
    results = _run(subject, toy, prompts, [0] * 5)
    assert [list(result.tokens) for result in results] == [[]] * 5


@pytest.mark.symptom("The GPU computes tokens that nobody reads.")
def test_the_model_is_called_for_live_rows_only(subject: Any, seed: int) -> None:
    """After the prefill a call has one row and one column per answer that needs another token."""
    rng = random.Random(seed)
    limits = rng.sample([0, 1, 2, 2, 5], 5)
    toy, prompts, _ = _case(rng, [4, 4, 2, 3, 1], limits)
    toy.calls.clear()

    _run(subject, toy, prompts, limits)

    shapes = [tuple(ids.shape) for ids, _, _ in toy.calls]
    assert shapes == [(5, 4), (3, 1), (1, 1), (1, 1), (1, 1)]
    toy.calls.clear()
    answer = _Answer(toy, prompts[0], 3)
    _run(subject, toy, prompts[:1], [3], eos_ids=(answer.tokens[0],))
    assert [tuple(ids.shape) for ids, _, _ in toy.calls] == [(1, 4)]


@pytest.mark.symptom("A stop phrase is ignored, or ends other answers than its own.")
def test_a_stop_sequence_ends_the_answer_it_belongs_to(subject: Any, seed: int) -> None:
    """An answer ends when its last tokens are one of its stop sequences, which stays in it."""
    rng = random.Random(seed)
    toy, prompts, answers = _case(rng, [3, 5, 2, 4], [6] * 4)
    stops: list[tuple[tuple[int, ...], ...]] = []
    for answer, size in zip(answers, (1, 2, 3, 2), strict=True):
        at = rng.randrange(size, 6)
        stops.append(((VOCAB, 1), tuple(answer.tokens[at - size : at])))
        ends = [n for n in range(size, 7) if tuple(answer.tokens[n - size : n]) == stops[-1][-1]]
        answer.tokens, answer.logprobs = answer.tokens[: ends[0]], answer.logprobs[: ends[0]]
        answer.reason = "stop"

    _assert_answers(
        _run(subject, toy, prompts, [6] * 4, options=[{"stop": stop} for stop in stops]), answers
    )
    last = answers[1].tokens[-1]
    results = _run(subject, toy, prompts[1:2], [6], options=[{"stop": ((last,),)}], eos_ids=(last,))
    assert results[0].finish_reason == "eos"
    n = len(answers[3].tokens)
    results = _run(subject, toy, prompts[3:], [n], options=[{"stop": stops[3]}])
    assert results[0].finish_reason == "stop"
    tail = (prompts[2][-1], answers[2].tokens[0])
    results = _run(subject, toy, prompts[2:3], [2], options=[{"stop": (tail,)}])
    assert len(results[0].tokens) == 2


@pytest.mark.symptom("Perplexities of prompts depend on the batch they were scored in.")
def test_prompt_scores_are_those_of_the_prompts_own_tokens(subject: Any, seed: int) -> None:
    """Each prompt token but the first is scored given those before it, padding left out."""
    rng = random.Random(seed)
    toy, prompts, answers = _case(rng, [6, 1, 4, 2], [1] * 4)

    for result, answer in zip(
        _run(subject, toy, prompts, [1] * 4, scores=True), answers, strict=True
    ):
        _close(result.prompt_logprobs, answer.prompt_logprobs)
    for result in _run(subject, toy, prompts, [1] * 4):
        assert list(result.prompt_logprobs) == []

    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(seed)) * 3
    ids = torch.tensor([[0, 0, 3, 1], [2, 4, 4, 0]])
    mask = torch.tensor([[False, False, True, True], [True] * 4])
    logprobs = torch.log_softmax(logits.double(), dim=-1)
    scores = subject.score_prompt(logits, ids, mask)
    _close(scores[0], [float(logprobs[0, 2, 1])])
    _close(scores[1], [float(logprobs[1, s, i]) for s, i in enumerate([4, 4, 0])])


# ----- what the model sees


@pytest.mark.symptom("The model reads padding, or reads a prompt at shifted positions.")
def test_prompts_are_aligned_at_their_ends(subject: Any, seed: int) -> None:
    """Padding stands in front and is masked; real tokens are not, whatever their id."""
    rng = random.Random(seed)
    prompts = [[rng.randrange(4) for _ in range(n)] for n in (2, 5, 1, 5)]

    ids, mask = subject.left_pad([torch.tensor(prompt) for prompt in prompts], 3)

    assert ids.dtype == torch.long
    assert mask.dtype == torch.bool
    assert ids.tolist() == [[*[3] * (5 - len(prompt)), *prompt] for prompt in prompts]
    assert mask.tolist() == [[i >= 5 - len(prompt) for i in range(5)] for prompt in prompts]
    assert subject.mutated == ()


@pytest.mark.symptom("Padded prompts are read as if they began later in the text.")
def test_positions_count_real_tokens_from_zero(subject: Any, seed: int) -> None:
    """The first real token of a row has position 0, each further one the next number."""
    rng = random.Random(seed)
    lengths = [1, 6, *rng.sample([2, 3, 4, 5], 2)]
    mask = torch.tensor([[i >= 6 - n for i in range(6)] for n in lengths])

    positions = subject.positions_from_mask(mask)

    assert positions.dtype == torch.long
    assert positions.shape == (4, 6)
    assert int(positions.min()) == 0
    for row, n in zip(positions.tolist(), lengths, strict=True):
        assert row[6 - n :] == list(range(n))


@pytest.mark.symptom("After the first generated tokens the text drifts away.")
def test_every_call_describes_the_whole_text(subject: Any, seed: int) -> None:
    """In each call mask, positions and ids of a row are those of its text so far."""
    rng = random.Random(seed)
    lengths, limits = rng.sample([1, 3, 4, 6], 4), rng.sample([2, 3, 5, 6], 4)
    toy, prompts, answers = _case(rng, lengths, limits)
    toy.calls.clear()

    _run(subject, toy, prompts, limits)

    assert len(toy.calls) == 6
    texts = [prompt + answer.tokens for prompt, answer in zip(prompts, answers, strict=True)]
    for step, (ids, mask, positions) in enumerate(toy.calls):
        assert mask.dtype == torch.bool
        assert mask.shape == (len(ids), 6 + step)
        assert positions.shape == ids.shape
        live = [i for i in range(4) if limits[i] > step]
        expected = {tuple(texts[i][: lengths[i] + step]): lengths[i] + step for i in live}
        assert sorted(mask.sum(dim=1).tolist()) == sorted(expected.values())
        for row_ids, row_mask, row_positions in zip(ids, mask, positions, strict=True):
            n = int(row_mask.sum())
            assert bool(row_mask[6 + step - n :].all())
            (text,) = [text for text, size in expected.items() if size == n]
            new = min(n, ids.shape[1])
            assert row_ids[-new:].tolist() == list(text[-new:])
            assert row_positions[-new:].tolist() == list(range(n - new, n))


@pytest.mark.symptom("Reading long prompts in pieces changes the answers.")
def test_prefill_in_chunks_changes_nothing(subject: Any, seed: int) -> None:
    """Prompts may be read a few columns at a time, the last piece being what is left."""
    rng = random.Random(seed)
    toy, prompts, answers = _case(rng, [7, 2, 5], [3, 4, 2])

    for chunk, widths in ((1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (9, [7]), (6, [6, 1])):
        toy.calls.clear()
        results = _run(subject, toy, prompts, [3, 4, 2], prefill_chunk=chunk, scores=True)
        assert [ids.shape[1] for ids, _, _ in toy.calls] == [*widths, 1, 1, 1]
        assert [mask.shape[1] for _, mask, _ in toy.calls[-3:]] == [8, 9, 10]
        _assert_answers(results, answers)
        for result, answer in zip(results, answers, strict=True):
            _close(result.prompt_logprobs, answer.prompt_logprobs)


@pytest.mark.symptom("Memory runs out although the batch limits are set.")
def test_batches_put_similar_lengths_together(subject: Any, seed: int) -> None:
    """Batches take the longest prompts first and as many as both limits allow, each one once."""
    rng = random.Random(seed)
    assert subject.make_batches([], 3) == []
    for _ in range(6):
        lengths = rng.sample(range(1, 12), rng.randrange(1, 9))
        size, budget = rng.randrange(1, 5), rng.choice([None, 6, 12, 20])
        batches = [list(batch) for batch in subject.make_batches(lengths, size, budget)]
        order = [index for batch in batches for index in batch]
        assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
        starts = [batch[0] for batch in batches[1:]]
        for batch, extra in zip(batches, [*starts, None], strict=True):
            longest = max(lengths[index] for index in batch)
            assert 1 <= len(batch) <= size
            assert budget is None or len(batch) == 1 or len(batch) * longest <= budget
            fits = budget is None or (len(batch) + 1) * longest <= budget
            assert extra is None or len(batch) == size or not fits
    assert [len(batch) for batch in subject.make_batches([4] * 7, 9, 12)] == [3, 3, 1]
    assert [len(batch) for batch in subject.make_batches([4] * 7, 4)] == [4, 3]
    toy = _Toy(seed)
    _run(subject, toy, [[1, 2, 3]] * 5 + [[4]] * 3, [1] * 8, batch_size=4, max_padded_tokens=9)
    shapes = [tuple(ids.shape) for ids, _, _ in toy.calls]
    assert shapes == [(3, 3), (3, 3), (2, 1)]


# ----- sampling


def _chance(draws: int, events: int) -> float:
    """Return the deviation that one of some frequencies exceeds once in ten million runs."""
    return math.sqrt(math.log(2 * events / 1e-7) / (2 * draws))


@pytest.mark.symptom("Sampled answers are flatter or sharper than the temperature says.")
def test_tokens_are_drawn_by_each_rows_temperature(subject: Any, seed: int) -> None:
    """Over many streams a row's tokens follow softmax(logits / T), with T its own; 0 is greedy."""
    n = 1600
    base = torch.tensor([2.0, *[0.0] * 10, -math.inf])
    temperature = torch.tensor([0.5, 0.0, 2.0, 1.0]).repeat(n // 4)
    streams = [torch.Generator().manual_seed(4096 * (seed % 2**40) + i) for i in range(n)]

    tokens, logprobs = subject.sample(base.expand(n, 12).contiguous(), temperature, streams)

    assert tokens.shape == logprobs.shape == (n,)
    assert tokens.dtype == torch.long
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs, torch.log_softmax(base, dim=-1)[tokens])
    for t in (0.5, 1.0, 2.0):
        drawn = tokens[temperature == t]
        want = torch.softmax(base.double() / t, dim=-1).tolist()
        for token, prob in enumerate(want):
            share = float((drawn == token).double().mean())
            assert abs(share - prob) <= (_chance(n // 4, 36) if prob else 0.0)
    assert set(tokens[temperature == 0].tolist()) == {0}


@pytest.mark.symptom("A seeded request gets another answer when the server is busy.")
def test_a_sampled_answer_depends_on_its_request_alone(subject: Any, seed: int) -> None:
    """With equal seeds an answer is the same alone, in any batch and when others leave it."""
    rng = random.Random(seed)
    toy = _Toy(rng.getrandbits(40))
    toy.head *= 0.5
    prompts = [[rng.randrange(VOCAB) for _ in range(n)] for n in (3, 5, 2, 4)]
    limits = rng.sample([1, 2, 4, 6], 4)
    options = [{"temperature": t, "seed": rng.getrandbits(30)} for t in (1.5, 0.0, 3.0, 4.0)]
    before = subject.rng_state()

    together = _run(subject, toy, prompts, limits, options=options)

    for i in range(4):
        (alone,) = _run(subject, toy, prompts[i : i + 1], limits[i : i + 1], options=[options[i]])
        assert list(alone.tokens) == list(together[i].tokens)
        _close(alone.logprobs, together[i].logprobs)
        text = prompts[i] + list(alone.tokens)
        scores = toy.logprobs(text)
        _close(
            alone.logprobs,
            [float(scores[len(prompts[i]) + j - 1, t]) for j, t in enumerate(alone.tokens)],
        )
    assert subject.rng_state() == before


@pytest.mark.symptom("At high temperatures an answer is one word, over and over.")
def test_every_step_of_an_answer_draws_anew(subject: Any, seed: int) -> None:
    """A request's steps go on in one stream of its seed: among equals no token comes every time."""
    toy = _Toy(seed)
    toy.head.zero_()  # all tokens are equally likely, whatever the text
    options = [{"temperature": 1.0, "seed": own} for own in (5, 5, 6, 7)]

    results = _run(subject, toy, [[1, 2]] * 4, [12] * 4, options=options)

    texts = [tuple(result.tokens) for result in results]
    assert all(len(set(text)) > 1 for text in texts)
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


@pytest.mark.symptom("A job without settings needs too much memory, or answers differently.")
def test_what_is_left_out_has_its_default(subject: Any, seed: int) -> None:
    """Left out are batches of 8 whole prompts, greedy, with seed 0 and without prompt scores."""
    rng = random.Random(seed)
    toy, prompts, answers = _case(rng, [3] * 17, [1] * 17)
    toy.calls.clear()
    requests = [subject.GenerationRequest(torch.tensor(prompt), 1) for prompt in prompts]
    generator = subject.StaticBatchGenerator(toy.forward, subject.GenerationConfig(pad_id=0))

    results = generator.generate(requests)
    assert [tuple(ids.shape) for ids, _, _ in toy.calls] == [(8, 3), (8, 3), (1, 3)]
    _assert_answers(results, answers)
    assert [list(result.prompt_logprobs) for result in results] == [[]] * 17
    options: list[dict[str, Any]] = [{"temperature": 9.0}, {"temperature": 9.0, "seed": 0}]
    same = _run(subject, toy, prompts[:1] * 2, [8] * 2, options=options)
    assert list(same[0].tokens) == list(same[1].tokens)


# ----- numbers, devices, mistakes


@pytest.mark.symptom("Scores of half-precision models are coarse and do not sum to one.")
def test_scores_of_half_precision_logits_are_computed_in_float32(subject: Any, seed: int) -> None:
    """Log-probabilities of bfloat16 logits are as exact as the logits themselves."""
    gen = torch.Generator().manual_seed(seed)
    logits = (torch.randn(2, 5, VOCAB, generator=gen) * 4).bfloat16()
    ids = torch.randint(0, VOCAB, (2, 5), generator=gen)
    want = torch.log_softmax(logits.double(), dim=-1)

    scores = subject.score_prompt(logits, ids, torch.ones(2, 5, dtype=torch.bool))
    for b in range(2):
        _close(scores[b], [float(want[b, s, ids[b, s + 1]]) for s in range(4)])
    streams = [torch.Generator().manual_seed(seed % 2**40 + i) for i in range(5)]
    for temperature in (0.0, 2.0):
        tokens, logprobs = subject.sample(logits[0], torch.full((5,), temperature), streams)
        assert logprobs.dtype == torch.float32
        _close(logprobs.tolist(), [float(want[0, b, tokens[b]]) for b in range(5)])
    best = (
        logits[0]
        .double()
        .gather(-1, subject.sample(logits[0], torch.zeros(5), streams)[0][:, None])
    )
    torch.testing.assert_close(best[:, 0], logits[0].double().amax(dim=-1))


@pytest.mark.symptom("On a GPU generation stops with tensors on two devices.")
def test_tensors_are_made_where_the_prompts_are(subject: Any, seed: int) -> None:
    """The answers do not depend on the default device of the process."""
    rng = random.Random(seed)
    toy, prompts, answers = _case(rng, [4, 1, 3], [3, 1, 4])
    tensors = [torch.tensor(prompt) for prompt in prompts]

    try:
        with subject.accelerator():
            requests = [
                subject.GenerationRequest(prompt, n, stop=((VOCAB,),))
                for prompt, n in zip(tensors, (3, 1, 4), strict=True)
            ]
            generator = subject.StaticBatchGenerator(
                toy.forward, subject.GenerationConfig(pad_id=0, prefill_chunk=2)
            )
            results = generator.generate(requests, True)
            ids, mask = subject.left_pad(tensors, 0)
            positions = subject.positions_from_mask(mask)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    assert {tensor.device.type for tensor in (ids, mask, positions)} == {"cpu"}
    _assert_answers(results, answers)
    for result, answer in zip(results, answers, strict=True):
        _close(result.prompt_logprobs, answer.prompt_logprobs)


@pytest.mark.symptom("A mistaken job runs for an hour before anyone notices.")
def test_mistakes_are_refused(subject: Any) -> None:
    """Impossible settings, empty prompts and empty stop sequences raise ValueError."""
    for settings in ({"batch_size": 0}, {"max_padded_tokens": 0}, {"prefill_chunk": 0}):
        _refuses(subject.GenerationConfig, pad_id=0, **settings)
    subject.GenerationConfig(pad_id=0, batch_size=1, max_padded_tokens=1, prefill_chunk=1)
    prompt = torch.tensor([1, 2])
    for bad in (prompt[:0], prompt[None], prompt[0], prompt.float()):
        _refuses(subject.GenerationRequest, bad, 1)
    _refuses(subject.GenerationRequest, prompt, -1)
    for temperature in (-1.0, math.inf, math.nan):
        _refuses(subject.GenerationRequest, prompt, 1, temperature=temperature)
    _refuses(subject.GenerationRequest, prompt, 1, stop=((1,), ()))
    subject.GenerationRequest(prompt, 0, temperature=0.0, seed=0, stop=((1,),))
    toy = _Toy(0)
    generator = subject.StaticBatchGenerator(toy.forward, subject.GenerationConfig(pad_id=0))
    assert generator.generate([]) == []
    assert toy.calls == []
