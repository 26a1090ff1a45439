"""What speculative decoding promises: `subject` is the file under test, `seed` differs by run.

Distributions are judged on many rows at once, by Hoeffding's bound, with at most one false alarm
in ten million runs. Decoding is judged with models that remember what they were fed.
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

ROWS = 2000


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _margin(draws: int, events: int = 40) -> float:
    """Return the deviation that one of some frequencies exceeds once in ten million runs."""
    return math.sqrt(math.log(2 * events / 1e-7) / (2 * draws))


def _assert_follows(tokens: Tensor, probs: Sequence[float]) -> None:
    """Compare the frequencies of tokens [n] with probabilities; impossible ones never come."""
    counts = torch.bincount(tokens, minlength=len(probs)).double()
    assert len(counts) == len(probs)
    shares = counts / len(tokens)
    for share, prob in zip(shares.tolist(), probs, strict=True):
        assert abs(share - prob) <= (0.0 if prob == 0 else _margin(len(tokens)))


def _drafted(seed: int, rows: Sequence[Sequence[float]], n: int = ROWS) -> tuple[Tensor, Tensor]:
    """Draw n rows of guesses from draft distributions, one list per slot -> [n, S], [n, S, V]."""
    probs = torch.tensor(rows)
    tokens = torch.multinomial(probs, n, replacement=True, generator=_generator(seed)).T
    return tokens.contiguous(), probs.expand(n, *probs.shape).contiguous()


def _verify(
    subject: Any,
    seed: int,
    guesses: tuple[Tensor, Tensor],
    target: Sequence[Sequence[float]] | Tensor,
    n_draft: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Verify n rows of guesses against one list of target distributions, or one list per row."""
    tokens, draft = guesses
    n, slots = tokens.shape
    probs = target if isinstance(target, Tensor) else torch.tensor(target).expand(n, -1, -1)
    lengths = torch.full((n,), slots) if n_draft is None else n_draft
    out = subject.verify(tokens, draft, probs.contiguous(), lengths, _generator(seed + 1))
    assert out.tokens.shape == (n, slots + 1)
    assert out.n_accepted.shape == (n,)
    assert out.tokens.dtype == out.n_accepted.dtype == torch.long
    assert bool((out.n_accepted >= 0).all())
    assert bool((out.n_accepted <= lengths).all())
    return out.tokens, out.n_accepted


class _Model:
    """A model that knows the text only from its cache, and keeps a log of what it was fed."""

    def __init__(self, seed: int, vocab_size: int = 6, scale: float = 2.0) -> None:
        self.table = torch.randn(97, vocab_size, generator=_generator(seed)) * scale
        self.cache: list[int] = []
        self.log: list[tuple[_Model, int, list[int]]] = []

    def logits(self, history: Sequence[int]) -> Tensor:
        code = 1
        for token in history:
            code = (7 * code + 3 * token + 1) % 97
        return self.table[code]

    def forward(self, tokens: list[int], start: int) -> Tensor:
        self.log.append((self, start, list(tokens)))
        self.cache = [*self.cache[:start], *tokens]
        ends = range(len(self.cache) - len(tokens) + 1, len(self.cache) + 1)
        return torch.stack([self.logits(self.cache[:end]) for end in ends])

    def greedy(self, prompt: Sequence[int], n: int) -> list[int]:
        text = list(prompt)
        for _ in range(n):
            text.append(int(self.logits(text).argmax()))
        return text[len(prompt) :]


class _Disturbed(_Model):
    """A draft model that mostly agrees with another and now and then does not."""

    def __init__(self, other: _Model, every: int) -> None:
        super().__init__(0)
        self.table = other.table.clone()
        self.table[::every] = self.table[::every].flip(-1)


def _decoder(subject: Any, target: _Model, drafter: Any, **settings: Any) -> Any:
    """Return a decoder with a draft model, or with the n-grams of an int."""
    return subject.SpeculativeDecoder(
        subject.CachedModel(target.forward),
        subject.NGramDrafter(drafter)
        if isinstance(drafter, int)
        else subject.CachedModel(drafter.forward),
        subject.SpeculativeConfig(**settings),
    )


def _refuses(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message's words are free)
        function(*args, **kwargs)


# ----- verification


@pytest.mark.symptom("Speculative decoding changes what the model says.")
def test_the_first_token_follows_the_target_whatever_was_guessed(subject: Any, seed: int) -> None:
    """With any draft distribution the first emitted token is distributed as the target says."""
    pairs = [
        ([0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]),
        ([0.1, 0.2, 0.7], [0.8, 0.1, 0.1]),
        ([0.25, 0.75, 0.0], [0.0, 0.5, 0.5]),
        ([0.05, 0.9, 0.05], [0.3, 0.3, 0.4]),
    ]
    for i, (target, draft) in enumerate(pairs):
        uniform = [1 / len(target)] * len(target)
        slots = [draft, uniform, draft][: 1 + i % 3]
        later = [uniform, draft, uniform][: len(slots)]
        emitted, _ = _verify(subject, seed, _drafted(seed + i, slots), [target, *later])
        _assert_follows(emitted[:, 0], target)
    # The first random number of this stream is exactly 0.
    never = torch.zeros(1, 1, dtype=torch.long), torch.full((1, 1, 2), 0.5)
    emitted, _ = _verify(subject, 5_528_392, never, [[0.0, 1.0], [0.5, 0.5]])
    assert emitted.tolist() == [[1, -1]]


@pytest.mark.symptom("The longer the draft, the stranger the text.")
def test_every_later_token_follows_the_target_too(subject: Any, seed: int) -> None:
    """Among rows that got so far, the second token and the one behind all guesses are unbiased."""
    draft = [[0.5, 0.25, 0.25], [0.2, 0.2, 0.6], [0.7, 0.2, 0.1]]
    target = [[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.05, 0.15, 0.8]]

    emitted, n_accepted = _verify(subject, seed, _drafted(seed, draft, 2 * ROWS), target)

    for slot in range(4):
        reached = emitted[n_accepted >= slot, slot]
        assert len(reached) > 100
        _assert_follows(reached, target[slot])


@pytest.mark.symptom("The acceptance rate is far from what theory predicts.")
def test_a_guess_is_accepted_as_often_as_the_distributions_overlap(subject: Any, seed: int) -> None:
    """A guess is accepted with probability sum(min(p, q)), by chance of its own."""
    pairs = [([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]), ([0.2, 0.8], [0.8, 0.2]), ([0.7, 0.3], [0.4, 0.6])]
    for target, draft in pairs:
        overlap = math.fsum(map(min, target, draft))
        _, n_accepted = _verify(subject, seed, _drafted(seed, [draft] * 3), [target] * 4)
        want = [overlap**i * (1 - overlap) for i in range(3)]
        _assert_follows(n_accepted, [*want, overlap**3])
    both = torch.stack([n_accepted[::2] > 0, n_accepted[1::2] > 0]).all(dim=0)
    assert abs(float(both.double().mean()) - overlap**2) < _margin(ROWS // 2)


@pytest.mark.symptom("A perfect draft model is rejected now and then.")
def test_a_draft_equal_to_the_target_is_accepted_whole(subject: Any, seed: int) -> None:
    """Guesses from the target's own distributions are always accepted."""
    probs = torch.softmax(torch.randn(4, 9, generator=_generator(seed)) * 3, dim=-1)
    tokens, draft = _drafted(seed, probs[:3].tolist(), n=600)

    emitted, n_accepted = _verify(subject, seed, (tokens, draft), probs.tolist())

    assert n_accepted.tolist() == [3] * 600
    torch.testing.assert_close(emitted[:, :3], tokens)
    _assert_follows(emitted[:, 3], probs[3].tolist())


@pytest.mark.symptom("Tokens appear that were guessed after a wrong guess.")
def test_a_row_is_accepted_guesses_then_one_token_then_nothing(subject: Any, seed: int) -> None:
    """Row by row: a prefix of the guesses, one token more, and -1 in all remaining slots."""
    tokens, draft = _drafted(seed, [[0.4, 0.3, 0.3], [0.2, 0.4, 0.4], [0.6, 0.2, 0.2]], n=200)
    target = [[0.3, 0.4, 0.3], [0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]]

    emitted, n_accepted = _verify(subject, seed, (tokens, draft), target)

    assert set(n_accepted.tolist()) == {0, 1, 2, 3}
    for row, guesses, n in zip(emitted.tolist(), tokens.tolist(), n_accepted.tolist(), strict=True):
        assert row[:n] == guesses[:n]
        assert 0 <= row[n] < 3
        assert row[n + 1 :] == [-1] * (3 - n)


@pytest.mark.symptom("Requests with short drafts get worse text than those with long ones.")
def test_rows_may_guess_less_than_others(subject: Any, seed: int) -> None:
    """A row uses only its own slots: behind them the target's own distribution decides."""
    p = [[0.2, 0.3, 0.5], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.2, 0.5]]
    q = [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6], [0.3, 0.3, 0.4]]
    tokens, draft = _drafted(seed, q, n=2 * ROWS)
    n_draft = torch.arange(2 * ROWS) % 4
    unused = torch.arange(3) >= n_draft[:, None]
    draft = torch.where(unused[..., None], torch.tensor([0.5, 0.5, 0.0]), draft)
    likely = torch.tensor([1, 0, 1]).expand(2 * ROWS, -1)
    filler = torch.where(torch.arange(2 * ROWS)[:, None] % 8 < 4, -1, likely)
    filled = torch.where(unused, filler, tokens)

    emitted, n_accepted = _verify(subject, seed, (filled, draft), p, n_draft)

    overlap = math.fsum(map(min, p[0], q[0]))
    for n in range(4):
        mine, count = emitted[n_draft == n], n_accepted[n_draft == n]
        assert int(count.max()) == n
        _assert_follows(mine[:, 0], p[0])
        _assert_follows(mine[count == n, n], p[n])
        assert n == 0 or abs(float((count > 0).double().mean()) - overlap) < _margin(len(mine))
    alone = torch.zeros(2, 2, dtype=torch.long), torch.ones(2, 2, 1)  # the only token there is
    emitted, _ = _verify(subject, seed, alone, [[1.0]] * 3, torch.tensor([1, 2]))
    assert emitted.tolist() == [[0, 0, -1], [0, 0, 0]]
    nothing = torch.zeros(ROWS, 0, dtype=torch.long), torch.zeros(ROWS, 0, 3)
    emitted, n_accepted = _verify(subject, seed, nothing, p[:1])
    assert int(n_accepted.max()) == 0
    _assert_follows(emitted[:, 0], p[0])


@pytest.mark.symptom("The draft in the logs is not the draft that was checked.")
def test_a_round_leaves_the_tensors_that_it_is_given(subject: Any, seed: int) -> None:
    """No function writes into tokens, logits or probabilities that it is given, used or not."""
    tokens, draft = _drafted(seed, [[0.0, 0.5, 0.5], [0.0, 0.6, 0.4]], n=30)
    n_draft = torch.arange(30) % 3
    target = torch.tensor([[0.0, 0.3, 0.7], [0.0, 0.8, 0.2], [0.0, 0.5, 0.5]])
    emitted, n_accepted = _verify(subject, seed, (tokens, draft), target.tolist(), n_draft)
    assert subject.mutated in ((), (4,))  # the generator moves on
    for row, guesses, n in zip(emitted.tolist(), tokens.tolist(), n_accepted.tolist(), strict=True):
        assert row[:n] == guesses[:n]
        assert row[n] in (1, 2)
    for k in (-1, 2):
        probs = subject.to_probs(target, 0.5, k)
        assert subject.mutated == ()
        torch.testing.assert_close(probs.sum(dim=-1), torch.ones(3))
    assert set(subject.draw(target, _generator(seed)).tolist()) <= {1, 2}
    assert subject.mutated in ((), (1,))


@pytest.mark.symptom("At temperature 0 speculative and plain decoding disagree.")
def test_certain_distributions_reduce_to_comparing_tokens(subject: Any, seed: int) -> None:
    """Where draft and target are certain, guesses count as long as they equal the target's."""
    rng = random.Random(seed)
    guesses = [[rng.randrange(3) for _ in range(3)] for _ in range(60)]
    wanted = [[rng.randrange(3) for _ in range(4)] for _ in range(60)]
    eye = torch.eye(3)

    emitted, n_accepted = _verify(
        subject, seed, (torch.tensor(guesses), eye[guesses]), eye[torch.tensor(wanted)]
    )

    for row, n, guess, want in zip(
        emitted.tolist(), n_accepted.tolist(), guesses, wanted, strict=True
    ):
        assert guess[:n] == want[:n]
        assert n == 3 or guess[n] != want[n]
        assert row == [*want[: n + 1], *[-1] * (3 - n)]


@pytest.mark.symptom("After a rejection the replacement is a word the draft had already covered.")
def test_the_residual_is_the_mass_that_the_draft_lacks(subject: Any, seed: int) -> None:
    """The residual is max(0, p - q) scaled to one, row by row, and p itself where p equals q."""
    gen = _generator(seed)
    p, q = (torch.softmax(torch.randn(3, 4, 6, generator=gen) * 2, dim=-1) for _ in range(2))

    got = subject.residual(p, q)

    excess = (p.double() - q.double()).clamp(min=0)
    torch.testing.assert_close(
        got, (excess / excess.sum(-1, keepdim=True)).float(), rtol=1e-4, atol=1e-6
    )
    assert subject.mutated == ()
    torch.testing.assert_close(subject.residual(p, p), p)
    mixed = torch.stack([p[0, 0], q[0, 0]])
    got = subject.residual(mixed, p[0, 0].expand(2, -1))
    torch.testing.assert_close(got[0], p[0, 0])
    want = (q[0, 0] - p[0, 0]).clamp(min=0)
    torch.testing.assert_close(got[1], want / want.sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.symptom("Sampled text is flatter or sharper than the request asked for.")
def test_probabilities_are_those_of_temperature_and_top_k(subject: Any, seed: int) -> None:
    """Logits of any dtype become float32 softmax(logits / T) over the k likeliest tokens."""
    gen = _generator(seed)
    # No two of a row are equal, in bfloat16 neither: whatever ties with the k-th token stays.
    steps = torch.rand(2, 3, 7, generator=gen).argsort(dim=-1)
    logits = 1.5 * steps + 0.7 * torch.rand(2, 3, 7, generator=gen) - 4
    for dtype, temperature, k in itertools.product(
        (torch.float32, torch.bfloat16), (0.5, 1.0, 3.0), (-1, 1, 3, 7, 50)
    ):
        given = logits.to(dtype)
        got = subject.to_probs(given, temperature, k)
        exact = given.double()
        ranks = exact.argsort(dim=-1, descending=True).argsort(dim=-1)
        exact = exact.masked_fill(ranks >= (k if k > 0 else 7), -math.inf)
        want = torch.softmax(exact / temperature, dim=-1).float()
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)
    want = torch.softmax(logits.double() / 0.5, dim=-1).float()
    torch.testing.assert_close(subject.to_probs(logits, 0.5), want, rtol=1e-5, atol=1e-7)
    greedy = subject.to_probs(logits, 0.0)
    assert greedy.dtype == torch.float32
    torch.testing.assert_close(greedy, (logits == logits.amax(-1, keepdim=True)).float())


@pytest.mark.symptom("Words of probability zero are drawn.")
def test_tokens_are_drawn_by_their_probabilities(subject: Any, seed: int) -> None:
    """Each distribution yields one token, as often as its probability says, and independently."""
    flat = [0.5, 0.0, *[0.05] * 10]
    probs = torch.tensor([flat, [0.1, 0.9, *[0.0] * 10], [*[0.0] * 11, 1.0]])

    tokens = subject.draw(probs.expand(ROWS, 3, 12).contiguous(), _generator(seed))

    assert tokens.shape == (ROWS, 3)
    assert tokens.dtype == torch.long
    for column, row in zip(tokens.unbind(1), probs.tolist(), strict=True):
        _assert_follows(column, row)
    both = (tokens[:, 0] == 0) & (tokens[:, 1] == 0)
    assert abs(float(both.double().mean()) - 0.05) < _margin(ROWS)
    assert subject.draw(probs[1], _generator(seed)).shape == ()


# ----- decoding


@pytest.mark.symptom("With speculation switched on a greedy answer is another one.")
def test_a_greedy_answer_is_the_targets_own(subject: Any, seed: int) -> None:
    """At temperature 0 the output is what the target alone would say, for any drafter."""
    rng = random.Random(seed)
    target = _Model(rng.getrandbits(40))
    drafters = [_Disturbed(target, 97), _Disturbed(target, 3), _Model(seed + 1), 1, 2]
    for drafter, k in zip(drafters, (3, 4, 1, 3, 4), strict=True):
        prompt = [rng.randrange(6) for _ in range(rng.randrange(1, 6))]
        decoder = _decoder(subject, target, drafter, num_draft_tokens=k, temperature=0.0)
        assert decoder.generate(prompt, 9) == target.greedy(prompt, 9)
        prompt = [*prompt[::-1], 1]
        assert decoder.generate(prompt, 3) == target.greedy(prompt, 3)


@pytest.mark.symptom("After some rounds the text loses its thread, as if words had been forgotten.")
def test_caches_hold_a_prefix_of_the_text(subject: Any, seed: int) -> None:
    """Before each call a model's cache is a prefix of the text, and no token is read twice."""
    rng = random.Random(seed)
    for temperature, every, k in [(0.0, 3, 3), (0.8, 2, 2)]:
        target = _Model(rng.getrandbits(40))
        draft = _Disturbed(target, every)
        draft.log = target.log
        own = rng.getrandbits(20)
        decoder = _decoder(
            subject, target, draft, num_draft_tokens=k, temperature=temperature, seed=own
        )
        prompt = [rng.randrange(6) for _ in range(4)]

        text = prompt + decoder.generate(prompt, 14)

        caches: dict[_Model, list[int]] = {target: [], draft: []}
        reads = {target: [0] * len(text), draft: [0] * len(text)}
        round_starts = True
        for model, start, tokens in target.log:
            assert tokens
            if model is target or round_starts:
                assert caches[model][:start] == text[:start]
                assert reads[model][:start] == [1] * start
            cache = caches[model] = [*caches[model][:start], *tokens]
            for i in range(start, min(len(cache), len(text))):
                reads[model][i] += cache[: i + 1] == text[: i + 1]
            round_starts = model is target
        assert reads[target] == [*[1] * (len(text) - 1), 0]
        assert max(reads[draft]) == 1


@pytest.mark.symptom("A drafter as good as the target saves less time than it should.")
def test_a_perfect_drafter_saves_every_call_it_can(subject: Any, seed: int) -> None:
    """If the drafter is the target, each call of the target yields k + 1 tokens."""
    rng = random.Random(seed)
    for temperature, top_k in [(1.0, -1), (0.6, 3), (1.7, 4), (0.0, -1)]:
        target = _Model(rng.getrandbits(40), vocab_size=9, scale=0.8)
        twin = _Model(0)
        twin.table = target.table
        settings = {"temperature": temperature, "top_k": top_k, "seed": rng.getrandbits(20)}
        decoder = _decoder(subject, target, twin, num_draft_tokens=3, **settings)

        assert len(decoder.generate([1, 2], 16)) == 16

        stats = subject.fields(decoder.stats)
        assert stats["target_calls"] == len(target.log) == 4
        assert stats["proposed"] == stats["accepted"] == 12
        assert stats["accepted_at"] == [4, 4, 4]
        assert [len(tokens) for _, _, tokens in target.log] == [5, 4, 4, 4]
        assert [len(tokens) for _, _, tokens in twin.log] == [2, 1, 1, *[2, 1, 1] * 3]


@pytest.mark.symptom("A decoder without settings guesses too little, or says other things.")
def test_what_is_left_out_has_its_default(subject: Any, seed: int) -> None:
    """Left out are 4 guesses per call, temperature 1, no top-k and seed 0."""
    target = _Model(seed, vocab_size=9, scale=0.8)
    twin = _Model(0)
    twin.table = target.table
    said: dict[str, Any] = {"num_draft_tokens": 4, "temperature": 1.0, "top_k": -1, "seed": 0}
    texts = [_decoder(subject, target, twin, **own).generate([1, 2], 30) for own in ({}, said)]

    assert texts[0] == texts[1]
    assert [len(tokens) for _, _, tokens in target.log] == [6, *[5] * 5] * 2


@pytest.mark.symptom("Temperature or top_k is ignored when speculation is on.")
def test_temperature_and_top_k_shape_the_output(subject: Any, seed: int) -> None:
    """Near temperature 0, and with top_k = 1, sampling gives the greedy answer, drafted or not."""
    rng = random.Random(seed)
    for settings in ({"temperature": 1e-4}, {"top_k": 1}, {"temperature": 5.0, "top_k": 1}):
        target = _Model(rng.getrandbits(40))
        for drafter in (_Disturbed(target, 3), 1):
            decoder = _decoder(subject, target, drafter, num_draft_tokens=3, **settings)
            assert decoder.generate([3, 1, 2], 9) == target.greedy([3, 1, 2], 9)
    flat = _Model(seed, vocab_size=50, scale=1.0)
    decoder = _decoder(subject, flat, 1, num_draft_tokens=2, temperature=1e4, seed=seed)
    assert len(set(decoder.generate([1], 40))) > 15


@pytest.mark.symptom("Speculation with a bad drafter shifts which words are chosen.")
def test_sampled_text_follows_the_target(subject: Any, seed: int) -> None:
    """Over a long text tokens come as often as the target says, with good and bad drafters."""
    p, q = [0.5, 0.5, 0.0, 0.0], [0.9, 0.0, 0.1, 0.0]
    models = [_Model(0, 4), _Model(0, 4), _Model(0, 4)]
    for model, probs in zip(models, (p, q, p), strict=True):
        model.table = torch.tensor(probs).log().expand(97, 4)
    for drafter, k, n in ((models[1], 1, 60), (models[2], 8, 72), (1, 2, 60)):
        decoder = _decoder(subject, models[0], drafter, num_draft_tokens=k, seed=seed)
        tokens = torch.tensor(decoder.generate([0], n))
        counts = torch.bincount(tokens, minlength=4).tolist()
        assert counts[2:] == [0, 0]
        assert abs(counts[0] / n - 0.5) < _margin(n, events=6)
        # Whether fair draws equal the one before is a series of fair draws, too.
        pairs = (tokens[1:] == tokens[:-1]).double()
        assert abs(float(pairs.mean()) - 0.5) < _margin(n - 1, events=6)


@pytest.mark.symptom("Answers run on after the end token or exceed the requested length.")
def test_output_ends_at_the_first_eos_or_at_the_limit(subject: Any, seed: int) -> None:
    """EOS ends the output, also inside a run of accepted guesses; the limit is never exceeded."""
    rng = random.Random(seed)
    target = _Model(rng.getrandbits(40), vocab_size=12)
    twin = _Model(0)
    twin.table = target.table
    plain = target.greedy([0, 5], 9)
    for k in (2, 8):
        decoder = _decoder(subject, target, twin, num_draft_tokens=k, temperature=0.0)
        for eos_id in dict.fromkeys(plain[:5]):
            assert decoder.generate([0, 5], 9, eos_id) == plain[: plain.index(eos_id) + 1]
        for n in (0, 1, 2, 3, 4, 7):
            target.log.clear()
            assert decoder.generate([0, 5], n) == plain[:n]
            assert len(target.log) == -(-n // (k + 1))
            assert max((start + len(fed) for _, start, fed in target.log), default=0) <= 1 + n
    always_zero = _Model(0, 3)
    always_zero.table = torch.tensor([5.0, 0.0, 0.0]).expand(97, 3)
    decoder = _decoder(subject, always_zero, always_zero, temperature=0.0)
    assert decoder.generate([1, 0], 6, 0) == [0]


@pytest.mark.symptom("Two requests get the same text, or one request cannot be reproduced.")
def test_one_random_stream_serves_all_calls(subject: Any, seed: int) -> None:
    """A seed fixes the texts, a later call does not repeat the first; global state is untouched."""
    target = _Model(seed, vocab_size=40, scale=0.1)
    before = subject.rng_state()
    texts = []
    for own in (0, 0, 1, seed % 1000 + 2):
        decoder = _decoder(subject, target, _Model(seed + 1, 40, 0.1), seed=own)
        texts.append(tuple(tuple(decoder.generate([1, 2], 8)) for _ in range(2)))
    assert texts[0] == texts[1]
    assert len({text for pair in texts for text in pair}) == 6
    assert subject.rng_state() == before
    fixed = torch.full((3, 40), 1 / 40)
    drawn = subject.draw(fixed, _generator(seed)).tolist()
    assert drawn == subject.draw(fixed, _generator(seed)).tolist()
    assert subject.rng_state() == before


# ----- drafting and bookkeeping


@pytest.mark.symptom("Drafting from the prompt hardly ever guesses right.")
def test_n_grams_guess_what_followed_last_time(subject: Any, seed: int) -> None:
    """The guesses follow the latest earlier occurrence of the last n tokens, at most k of them."""
    rng = random.Random(seed)
    assert list(subject.NGramDrafter(2).propose([1, 2, 3, 1, 2, 4, 1, 2], 2).tokens) == [4, 1]
    assert list(subject.NGramDrafter(1).propose([7, 7], 3).tokens) == [7]
    assert list(subject.NGramDrafter(1).propose([7], 3).tokens) == []
    for _ in range(15):
        n, k = rng.choice([1, 2, 3]), rng.randrange(5)
        tokens = [rng.randrange(2 if n > 1 else 4) for _ in range(rng.randrange(1, 10))]
        want: list[int] = []
        for start in range(len(tokens) - n):
            if tokens[start : start + n] == tokens[len(tokens) - n :]:
                want = tokens[start + n : start + n + k]
        draft = subject.NGramDrafter(n).propose(tokens, k)
        assert list(draft.tokens) == want
        assert draft.probs is None


@pytest.mark.symptom("A cache reports another length than it has.")
def test_a_cached_model_knows_its_length(subject: Any, seed: int) -> None:
    """Feeding appends at the end, truncating forgets the tail; a text's rest is yet to be fed."""
    fake = _Model(seed)
    model = subject.CachedModel(fake.forward)
    first = model.forward([1, 2, 3])
    assert model.length == 3
    torch.testing.assert_close(first[2], fake.logits([1, 2, 3]))
    model.truncate(5)
    assert model.length == 3
    model.truncate(1)
    assert model.length == 1
    second = model.forward([4, 5])
    assert fake.log[-1][1:] == (1, [4, 5])
    assert model.length == 3
    torch.testing.assert_close(second[1], fake.logits([1, 4, 5]))
    assert model.unread([1, 4, 5, 2, 3]) == [2, 3]
    assert model.unread([1, 4, 5]) == [5]
    model.truncate(2)
    assert model.unread([1, 4]) == [4]
    model.truncate(0)
    assert model.length == 0
    assert model.unread([1, 2]) == [1, 2]


@pytest.mark.symptom("The dashboard's acceptance rate does not match the logs.")
def test_statistics_add_up(subject: Any, seed: int) -> None:
    """Calls, guesses and acceptances are counted in total and by the place of the guess."""
    rng = random.Random(seed)
    stats = subject.SpecStats()
    assert stats.acceptance_rate == 0
    rounds = [(k, rng.randrange(k + 1)) for k in (4, 2, 0, 4, 1, 3)] + [(4, 4), (4, 1)]
    for i, (proposed, accepted) in enumerate(rounds, 1):
        stats.record(proposed, accepted)
        counts = subject.fields(stats)
        total = sum(k for k, _ in rounds[:i])
        right = [n for _, n in rounds[:i]]
        assert (counts["target_calls"], counts["proposed"], counts["accepted"]) == (
            i,
            total,
            sum(right),
        )
        assert list(counts["accepted_at"]) == [
            sum(n > place for n in right) for place in range(max(right))
        ]
        assert math.isclose(stats.acceptance_rate, sum(right) / total)


@pytest.mark.symptom("The tuning advice makes serving slower.")
def test_the_best_draft_length_is_the_fastest(subject: Any, seed: int) -> None:
    """A round yields (1 - a^(k + 1)) / (1 - a) tokens in 1 + k c units of time."""
    rng = random.Random(seed)
    for longest in (0, 3, 5, 6):
        rate, cost = rng.uniform(0.0, 0.99), rng.uniform(0.01, 0.5)
        speeds = []
        for k in range(longest + 1):
            tokens = (1 - rate ** (k + 1)) / (1 - rate)
            assert math.isclose(subject.expected_tokens(rate, k), tokens, rel_tol=1e-9)
            speeds.append(tokens / (1 + k * cost))
        best = subject.best_draft_length(rate, cost, longest)
        assert 0 <= best <= longest
        assert speeds[best] >= max(speeds) * (1 - 1e-9)
    assert subject.expected_tokens(1.0, 5) == 6
    assert subject.best_draft_length(1.0, 0.5, 7) == 7
    assert subject.best_draft_length(0.0, 0.1, 7) == 0
    assert subject.best_draft_length(0.0, 0.0, 7) == 0


@pytest.mark.symptom("On a GPU decoding stops with tensors on two devices.")
def test_tensors_are_made_where_the_logits_are(subject: Any, seed: int) -> None:
    """The result does not depend on the default device of the process."""
    target = _Model(seed, scale=0.5)
    tokens, draft = _drafted(seed, [[0.4, 0.6], [0.5, 0.5]], n=20)
    texts, checks = [], []

    def serve() -> None:
        for drafter in (_Disturbed(target, 2), 1):
            for temperature in (0.0, 1.0):
                decoder = _decoder(subject, target, drafter, temperature=temperature, seed=seed)
                texts.append(decoder.generate([1, 2, 1], 8))
        p = torch.tensor([[0.3, 0.7], [0.8, 0.2], [0.5, 0.5]], device="cpu").expand(20, 3, 2)
        n_draft = torch.tensor([2, 1] * 10, device="cpu")
        out = subject.verify(tokens, draft, p, n_draft, _generator(seed))
        checks.append((out.tokens, out.n_accepted))

    serve()
    try:
        with subject.accelerator():
            serve()
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error
    assert texts[:4] == texts[4:]
    for cpu, meta in zip(*checks, strict=True):
        assert cpu.device.type == meta.device.type
        torch.testing.assert_close(cpu, meta)


@pytest.mark.symptom("A mistaken call is answered with nonsense instead of an error.")
def test_mistakes_are_refused(subject: Any, seed: int) -> None:
    """Impossible settings, empty prompts and tensors that do not fit raise ValueError."""
    bad: list[dict[str, Any]] = [
        {"num_draft_tokens": 0},
        {"temperature": -0.5},
        {"temperature": math.inf},
        {"temperature": math.nan},
        {"top_k": 0},
        {"top_k": -2},
    ]
    for settings in bad:
        _refuses(subject.SpeculativeConfig, **settings)
    subject.SpeculativeConfig(num_draft_tokens=1, temperature=0.0, top_k=1)
    _refuses(subject.NGramDrafter, 0)
    target = _Model(seed)
    decoder = _decoder(subject, target, 1, temperature=0.0)
    _refuses(decoder.generate, [], 3)
    _refuses(decoder.generate, [1], -1)
    assert target.log == []
    probs = torch.full((2, 3, 4), 0.25)
    shapes = [(2, 2, 4), (1, 3, 4), (2, 3, 3), (2, 4, 4), (3, 3, 4), (2, 3, 5)]
    for other in (torch.full(shape, 0.25) for shape in shapes):
        _refuses(
            subject.verify,
            torch.zeros(2, 2, dtype=torch.long),
            probs[:, :2],
            other,
            torch.tensor([2, 2]),
            _generator(seed),
        )
    row = target.logits([1])
    for logits in (row[None], row.expand(3, -1), row[:2], row.expand(2, 1, -1)):
        other = subject.CachedModel(lambda *_, given=logits: given.clone())
        _refuses(other.forward, [1, 2])
    for rate, cost in ((-0.1, 0.1), (1.1, 0.1), (0.5, -0.1)):
        _refuses(subject.best_draft_length, rate, cost, 4)
