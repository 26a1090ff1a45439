"""What packed prefill promises: `subject` is the file under test, `seed` differs between runs.

The oracle of attention is dense and in double precision, one sequence and query at a time;
those of packing and of steps put down one token after the other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

H, G, D = 4, 2, 6
VOCAB = 12
Text = tuple[Tensor, Tensor, Tensor]  # queries [n, H, D], keys and values [n, G, D] of a sequence


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _text(seed: int, n: int, n_heads: int = H, n_kv_heads: int = G, v_dim: int = D) -> Text:
    return (
        _randn(seed, n, n_heads, D),
        _randn(seed + 1, n, n_kv_heads, D),
        _randn(seed + 2, n, n_kv_heads, v_dim),
    )


def _texts(seed: int, lengths: Sequence[int]) -> list[Text]:
    return [_text(seed + 10 * i, n) for i, n in enumerate(lengths)]


def _cu(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)])


def _dense(
    text: Text, n_queries: int, *, window: int | None = None, scale: float | None = None
) -> Tensor:
    """Return what the last n_queries tokens of a sequence attend to: [n_queries, H, Dv]."""
    q, k, v = (x.double() for x in text)
    shared = [h * k.shape[1] // q.shape[1] for h in range(q.shape[1])]
    k, v = k[:, shared], v[:, shared]
    n = len(k)
    out = torch.zeros(n_queries, q.shape[1], v.shape[2], dtype=torch.float64)
    for row, i in enumerate(range(n - n_queries, n)):
        first = 0 if window is None else max(0, i - window + 1)
        scores = (k[first : i + 1] * q[i - n + len(q)]).sum(dim=-1, keepdim=True)
        scores = scores * (1 / math.sqrt(D) if scale is None else scale)
        weights = torch.exp(scores - scores.amax(dim=0))
        out[row] = (weights / weights.sum(dim=0) * v[first : i + 1]).sum(dim=0)
    return out


def _assert_close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


# ----- boundaries


@pytest.mark.symptom("Requests in one batch are mixed up with each other.")
def test_boundaries_are_sums_of_lengths(subject: Any, seed: int) -> None:
    """A sequence begins where the lengths before it end, and the last boundary is their sum."""
    rng = random.Random(seed)
    for lengths in ([3, 0, 2, 4], [0, 5], [1], [0], [rng.randrange(9) for _ in range(7)]):
        got = subject.cu_seqlens(torch.tensor(lengths))
        assert subject.mutated == ()
        assert got.dtype == torch.int64
        assert got.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]


@pytest.mark.symptom("Only the first request of a batch is answered sensibly.")
def test_counting_begins_anew_in_every_sequence(subject: Any, seed: int) -> None:
    """Within each sequence rows are counted from 0, beside empty sequences as well."""
    rng = random.Random(seed)
    for lengths in ([3, 0, 2, 4], [0, 5], [1, 1], [0, 0], [rng.randrange(9) for _ in range(7)]):
        got = subject.ragged_arange(_cu(lengths))
        assert got.dtype == torch.int64
        assert got.tolist() == [i for n in lengths for i in range(n)]


@pytest.mark.symptom("Some requests begin with the word that another one should have got.")
def test_every_sequence_samples_from_its_last_row(subject: Any) -> None:
    """The row of a sequence's last token is found; sequences without a token have none."""
    for lengths in ([3, 0, 2, 0, 0, 4], [0, 1], [2, 2], [5, 0], [0, 0]):
        rows, seqs = subject.last_token_rows(_cu(lengths))
        assert (rows.dtype, seqs.dtype) == (torch.int64, torch.int64)
        full = [i for i, n in enumerate(lengths) if n > 0]
        assert seqs.tolist() == full
        assert rows.tolist() == [sum(lengths[: i + 1]) - 1 for i in full]


# ----- packing


@pytest.mark.symptom("Batches of prompts are answered as if their words were shuffled.")
def test_a_packed_row_describes_its_tokens(subject: Any, seed: int) -> None:
    """Tokens keep their order, know place and sequence, and padding stands at the end only."""
    rng = random.Random(seed)
    for lengths, multiple, pad_id in [
        ([3, 0, 2], 1, 0),
        ([3, 0, 2], 4, 9),
        ([4, 4], 8, 3),
        ([0, 7, 1, 1, 0], 5, 0),
        ([0, 0], 4, 0),
        ([rng.randrange(6) for _ in range(5)], rng.randrange(1, 9), 11),
    ]:
        texts = [[rng.randrange(1, VOCAB) for _ in range(n)] for n in lengths]
        offsets = [rng.randrange(5) for _ in lengths]
        tensors = [torch.tensor(text, dtype=torch.long) for text in texts]
        n_padding = math.ceil(sum(lengths) / multiple) * multiple - sum(lengths)
        how = {} if multiple == 1 else {"multiple_of": multiple}
        for given in (offsets, None):
            packed = subject.pack(tensors, given, pad_id=pad_id, **how)
            assert subject.mutated == ()
            starts = given or [0] * len(lengths)
            rows = [
                (i, starts[i] + j, t) for i, text in enumerate(texts) for j, t in enumerate(text)
            ]
            rows += [(-1, 0, pad_id)] * n_padding
            got = (packed.seq_ids, packed.positions, packed.tokens)
            assert {tensor.dtype for tensor in (*got, packed.cu)} == {torch.int64}
            assert list(zip(*(tensor.tolist() for tensor in got), strict=True)) == rows
            assert packed.cu.tolist() == _cu(lengths).tolist()
            assert (packed.n_seqs, packed.n_tokens) == (len(lengths), sum(lengths))
    assert subject.PAD == -1


@pytest.mark.symptom("Results are handed to the wrong requests.")
def test_unpacking_undoes_packing(subject: Any, seed: int) -> None:
    """Every sequence gets back its own rows, empty ones none, and padding belongs to nobody."""
    for lengths in ([3, 0, 2, 1], [4], [0, 2, 0]):
        for inner in ((), (2, 3)):
            parts = [_randn(seed + i, n, *inner) for i, n in enumerate(lengths)]
            row = torch.cat([*parts, _randn(seed, 2, *inner)])
            got = subject.unpack(row, _cu(lengths))
            assert len(got) == len(parts)
            for part, want in zip(got, parts, strict=True):
                assert torch.equal(part, want)


@pytest.mark.symptom("Where packed and padded code meet, short sequences lose or gain words.")
def test_padded_and_packed_hold_the_same(subject: Any, seed: int) -> None:
    """Sequences stand at the left of their padded rows, and packing these gives them back."""
    for lengths in ([3, 0, 2, 4], [2, 2, 2], [1], [0, 3]):
        for inner, fill in (((), 7.0), ((2,), 0.0), ((2, 3), math.inf)):
            parts = [_randn(seed + i, n, *inner) for i, n in enumerate(lengths)]
            how = {} if fill == 0.0 else {"fill": fill}
            padded = subject.pad_packed(torch.cat([*parts, *parts[:1]]), _cu(lengths), **how)
            want = torch.full((len(lengths), max(lengths), *inner), fill)
            for i, part in enumerate(parts):
                want[i, : len(part)] = part
            assert padded.dtype == torch.float32
            assert torch.equal(padded, want)

            wide = torch.cat([want, torch.full_like(want[:, :1], 5.0)], dim=1)
            row, cu = subject.unpad(wide, torch.tensor(lengths))
            assert torch.equal(row, torch.cat(parts))
            assert (cu.dtype, cu.tolist()) == (torch.int64, _cu(lengths).tolist())
    tokens = subject.pad_packed(torch.tensor([4, 5, 6]), torch.tensor([0, 1, 3]), fill=-1)
    assert (tokens.dtype, tokens.tolist()) == (torch.int64, [[4, -1], [5, 6]])


# ----- masks


@pytest.mark.symptom("A prompt's answer leaks what comes later in the same prompt.")
def test_no_query_sees_the_future(subject: Any) -> None:
    """A query sees itself and what came before, and with a window exactly its last positions."""
    q_pos, k_pos = torch.tensor([5, 0, 3]), torch.tensor([4, 3, 5, 0, 6])
    for window in (None, 1, 2, 3, 6, 9):
        got = subject.causal_mask(q_pos, k_pos, window)
        want = [[q - (window or 10) < k <= q for k in k_pos.tolist()] for q in q_pos.tolist()]
        assert (got.dtype, got.tolist()) == (torch.bool, want)


@pytest.mark.symptom("Answers to one request quote the prompt of another one.")
def test_sequences_and_padding_do_not_see_each_other(subject: Any, seed: int) -> None:
    """In a packed row a query sees its own sequence alone, and padding neither sees nor is seen."""
    rng = random.Random(seed)
    q_rows = [(0, 2), (0, 3), (1, 0), (2, 5), (-1, 0), (-1, 4)]
    k_rows = [(0, i) for i in range(4)] + [(1, 0), (2, 3), (2, 4), (2, 5), (2, 6), (-1, 0), (-1, 0)]
    rng.shuffle(k_rows)
    q_ids, q_pos = torch.tensor(q_rows).T
    k_ids, k_pos = torch.tensor(k_rows).T
    for window in (None, 1, 2, 4):
        got = subject.block_diagonal_mask(q_ids, q_pos, k_ids, k_pos, window)
        assert got.dtype == torch.bool
        assert got.tolist() == [
            [i == j != -1 and q - (window or 10) < k <= q for j, k in k_rows] for i, q in q_rows
        ]


# ----- attention


@pytest.mark.symptom("A model with grouped-query attention talks nonsense from the first word.")
def test_attention_is_exact(subject: Any, seed: int) -> None:
    """For one, some and all heads, any scale and any value width it is attention under the mask."""
    for n_heads, n_kv_heads, v_dim, scale in [(6, 2, 3, None), (6, 3, 6, 0.5), (4, 1, 8, 1.5)]:
        text = _text(seed, 7, n_heads, n_kv_heads, v_dim)
        visible = torch.ones(3, 7, dtype=torch.bool).tril(4)
        got = subject.attend(text[0][4:], *text[1:], visible, scale)
        assert subject.mutated == ()
        _assert_close(got, _dense(text, 3, scale=scale))
        cu_q, cu_k = _cu([3]), _cu([7])
        got = subject.varlen_attention(text[0][4:], *text[1:], cu_q, cu_k, scale=scale)
        _assert_close(got, _dense(text, 3, scale=scale))


@pytest.mark.symptom("Now and then a whole batch turns into NaN.")
def test_a_query_that_sees_nothing_gives_zeros(subject: Any, seed: int) -> None:
    """Its result is exactly zero, and what keys hold that no query sees does not matter."""
    text = _text(seed, 5)
    visible = torch.ones(5, 5, dtype=torch.bool).tril()
    # The query of row 2 sees nothing, and nobody sees the key that is inserted at place 1.
    columns = torch.cat(
        [visible[:, :1], torch.zeros(5, 1, dtype=torch.bool), visible[:, 1:]], dim=1
    )
    columns[2] = False
    want = _dense(text, 5)
    want[2] = 0.0
    for rubbish in (math.nan, math.inf, -math.inf):
        k, v = (torch.cat([x[:1], torch.full_like(x[:1], rubbish), x[1:]]) for x in text[1:])
        got = subject.attend(text[0], k, v, columns)
        assert subject.mutated == ()
        _assert_close(got, want)
        assert not got[2].any()


@pytest.mark.symptom("In bfloat16 and float16 answers are worse than the format explains.")
def test_low_precision_costs_little(subject: Any, seed: int) -> None:
    """With 16-bit inputs the result has their dtype and the error of one rounding."""
    lengths = [5, 9]
    for dtype in (torch.bfloat16, torch.float16):
        eps = torch.finfo(dtype).eps
        texts = [
            ((2.0 * q).to(dtype), k.to(dtype), v.to(dtype)) for q, k, v in _texts(seed, lengths)
        ]
        q, k, v = (torch.cat(parts) for parts in zip(*texts, strict=True))
        got = subject.varlen_attention(q, k, v, _cu(lengths), _cu(lengths))
        assert got.dtype == dtype
        want = torch.cat([_dense(text, len(text[0])) for text in texts])
        torch.testing.assert_close(got.double(), want, rtol=0.6 * eps, atol=0.1 * eps)


@pytest.mark.symptom("For some inputs a 16-bit model answers with nothing but NaN.")
def test_large_scores_do_no_harm(subject: Any) -> None:
    """Scores beyond what float16 or an exponential can hold give the right weights all the same."""
    generator = torch.Generator().manual_seed(0)
    for dtype, size in [(torch.float16, 64), (torch.float32, 32)]:
        # Small integers times a power of two: scores are exact, so that ties stay ties.
        q, k, v = (
            (torch.randint(-8, 9, (6, heads, D), generator=generator) * factor).to(dtype)
            for heads, factor in [(H, size), (G, size), (G, 1)]
        )
        got = subject.varlen_attention(q, k, v, _cu([6]), _cu([6]))
        torch.testing.assert_close(got.double(), _dense((q, k, v), 6), rtol=1e-3, atol=1e-3)


@pytest.mark.symptom("Answers depend on which other requests share the batch.")
def test_each_sequence_attends_as_it_would_alone(subject: Any, seed: int) -> None:
    """In a packed row every sequence gets the attention that it would get by itself."""
    for lengths in ([3, 5, 1, 4], [0, 6, 0, 2, 0], [7]):
        texts = _texts(seed, lengths)
        q, k, v = (torch.cat(parts) for parts in zip(*texts, strict=True))
        for window in (None, 1, 3):
            got = subject.varlen_attention(q, k, v, _cu(lengths), _cu(lengths), window=window)
            assert subject.mutated == ()
            pairs = zip(texts, lengths, strict=True)
            _assert_close(got, torch.cat([_dense(text, n, window=window) for text, n in pairs]))


@pytest.mark.symptom("Prompts that are continued from a cache are answered differently.")
def test_queries_are_the_last_positions(subject: Any, seed: int) -> None:
    """With more keys than queries, the queries stand at the end of their sequence."""
    n_keys, n_queries = [6, 4, 5, 3, 0, 2], [2, 4, 0, 1, 0, 2]
    texts = _texts(seed, n_keys)
    pairs = list(zip(texts, n_queries, strict=True))
    q = torch.cat([text[0][len(text[0]) - n :] for text, n in pairs])
    k, v = (torch.cat([text[j] for text in texts]) for j in (1, 2))
    for window in (None, 1, 2, 4):
        got = subject.varlen_attention(q, k, v, _cu(n_queries), _cu(n_keys), window=window)
        _assert_close(got, torch.cat([_dense(text, n, window=window) for text, n in pairs]))


@pytest.mark.symptom("With rows rounded up for a kernel, answers get worse.")
def test_rows_of_padding_neither_attend_nor_matter(subject: Any, seed: int) -> None:
    """Rows behind the last sequence give zeros and change nothing, whatever they hold."""
    lengths = [3, 4]
    texts = _texts(seed, lengths)
    for rubbish in (math.nan, 50.0):
        q, k, v = (
            torch.cat([*parts, torch.full_like(parts[0][:3], rubbish)])
            for parts in zip(*texts, strict=True)
        )
        got = subject.varlen_attention(q, k, v, _cu(lengths), _cu(lengths))
        want = torch.cat([_dense(text, len(text[0])) for text in texts])
        _assert_close(got, torch.cat([want, torch.zeros(3, H, D)]))
        assert got[7:].tolist() == torch.zeros(3, H, D).tolist()


@pytest.mark.symptom("Two attention back ends disagree on packed batches.")
def test_one_mask_for_the_row_is_attention_by_sequence(subject: Any, seed: int) -> None:
    """Under the mask of the packed row, attention at once is attention sequence by sequence."""
    n_keys, n_queries = [5, 3, 0, 6], [2, 3, 0, 1]
    offsets = [n - m for n, m in zip(n_keys, n_queries, strict=True)]
    texts = _texts(seed, n_keys)
    keys = subject.pack([torch.ones(n, dtype=torch.long) for n in n_keys], multiple_of=16)
    queries = subject.pack(
        [torch.ones(n, dtype=torch.long) for n in n_queries], offsets, multiple_of=8
    )
    q = torch.cat([text[0][n:] for text, n in zip(texts, offsets, strict=True)])
    q = torch.cat([q, _randn(seed, 2, H, D)])
    k, v = (torch.cat([*(text[j] for text in texts), _randn(seed, 2, G, D)]) for j in (1, 2))
    for window in (None, 2):
        mask = subject.block_diagonal_mask(
            queries.seq_ids, queries.positions, keys.seq_ids, keys.positions, window
        )
        pairs = zip(texts, n_queries, strict=True)
        want = torch.cat([_dense(text, n, window=window) for text, n in pairs])
        _assert_close(subject.attend(q, k, v, mask), torch.cat([want, torch.zeros(2, H, D)]))


# ----- steps


def _steps(lengths: Sequence[int], budget: int, max_seqs: int | None) -> list[list[int]]:
    """Return the sequences of the tokens of each step, filled up one token at a time."""
    steps: list[list[int]] = [[]]
    for i in (i for i, n in enumerate(lengths) for _ in range(n)):
        crowded = i not in steps[-1] and len(set(steps[-1])) == max_seqs
        if len(steps[-1]) == budget or crowded:
            steps.append([])
        steps[-1].append(i)
    return [step for step in steps if step]


@pytest.mark.symptom("Prefill steps run out of memory, or take longer than they need.")
def test_steps_take_as_much_as_they_may(subject: Any, seed: int) -> None:
    """Every token is in one step, in order; no step could have taken more, and none takes more."""
    rng = random.Random(seed)
    cases: list[tuple[list[int], int, int | None]] = [
        ([3, 4], 5, None),
        ([4, 4], 4, None),
        ([0, 9, 0, 1], 4, None),
        ([2, 2, 2, 7, 1], 6, 2),
        ([1, 1, 1], 9, 1),
        ([2, 3], 5, 2),
        ([], 3, None),
        ([0, 0], 3, 1),
    ]
    for _ in range(6):
        lengths = [rng.randrange(8) for _ in range(rng.randrange(1, 7))]
        cases.append((lengths, rng.randrange(1, 9), rng.choice([None, 1, 2, 3])))
    for lengths, budget, max_seqs in cases:
        how = {} if max_seqs is None else {"max_seqs": max_seqs}
        steps = subject.split_by_budget(lengths, budget, **how)
        got = [[i for i, start, stop in step for _ in range(start, stop)] for step in steps]
        assert got == _steps(lengths, budget, max_seqs)
        assert [len(step) for step in steps] == [len(set(step)) for step in got]
        for i, n in enumerate(lengths):
            spans = [(start, stop) for step in steps for j, start, stop in step if j == i]
            assert [place for start, stop in spans for place in range(start, stop)] == [*range(n)]


@pytest.mark.symptom("A long prompt's answer begins before the prompt was read to its end.")
def test_a_sequence_is_sampled_when_it_ends(subject: Any, seed: int) -> None:
    """Of a step's rows those are named that hold the last token of a whole sequence."""
    rng = random.Random(seed)
    lengths = [5, 3, 1, 8, 2]
    steps = [
        [(0, 0, 5), (1, 0, 2)],
        [(1, 2, 3), (2, 0, 1), (3, 0, 4)],
        [(3, 4, 7)],
        [(3, 7, 8), (4, 0, 2)],
        [(i, rng.randrange(n), n) for i, n in enumerate(lengths) if i != 1] + [(1, 0, 1)],
    ]
    for step in steps:
        tokens = [(i, place) for i, start, stop in step for place in range(start, stop)]
        got = subject.final_rows(step, lengths)
        assert [tuple(pair) for pair in got] == [
            (row, i) for row, (i, place) in enumerate(tokens) if place == lengths[i] - 1
        ]


# ----- the cache


Held = list[tuple[Tensor, Tensor]]  # the keys and values [n, G, D] of each sequence


def _append(cache: Any, held: Held, seqs: list[int], n_new: list[int], seed: int) -> None:
    """Let sequences go on by new tokens, two rows of padding behind them."""
    k, v = _text(seed, sum(n_new) + 2)[1:]
    cache.append(k, v, torch.tensor(seqs), _cu(n_new))
    start = 0
    for i, n in zip(seqs, n_new, strict=True):
        rows = slice(start, start + n)
        held[i] = (torch.cat([held[i][0], k[rows]]), torch.cat([held[i][1], v[rows]]))
        start += n


def _filled(subject: Any, seed: int, *, dtype: torch.dtype = torch.float32) -> tuple[Any, Held]:
    """Return a cache of four sequences after three ragged steps, and what it should hold."""
    cache = subject.PackedKVCache([6, 3, 4, 7], like=torch.ones(1, G, D, dtype=dtype))
    held: Held = [(torch.zeros(0, G, D), torch.zeros(0, G, D)) for _ in range(4)]
    for step, (seqs, n_new) in enumerate(
        [([2, 0, 3], [2, 3, 1]), ([1, 3], [3, 4]), ([0, 1, 2], [2, 0, 2])]
    ):
        _append(cache, held, seqs, n_new, seed + 3 * step)
        assert subject.mutated == ()
    return cache, held


def _assert_holds(cache: Any, seqs: list[int], held: Held) -> None:
    k, v, cu = cache.gather(torch.tensor(seqs))
    assert (cu.dtype, cu.tolist()) == (torch.int64, _cu([len(held[i][0]) for i in seqs]).tolist())
    for got, j in ((k, 0), (v, 1)):
        assert got.dtype == cache.k.dtype
        assert torch.equal(got, torch.cat([held[i][j] for i in seqs]).to(got.dtype))


@pytest.mark.symptom("Later chunks of a prompt are answered as if the earlier ones were garbled.")
def test_what_is_stored_comes_back_in_order(subject: Any, seed: int) -> None:
    """Ragged steps in any order of sequences are stored each behind its own; padding is not."""
    for dtype in (torch.float32, torch.bfloat16):
        cache, held = _filled(subject, seed, dtype=dtype)
        assert cache.lengths.tolist() == [5, 3, 4, 5]
        assert cache.capacities.tolist() == [6, 3, 4, 7]
        assert cache.cu.tolist() == [0, 6, 9, 13, 20]
        assert cache.k.dtype == cache.v.dtype == dtype
        assert list(cache.k.shape) == list(cache.v.shape) == [20, G, D]
        for seqs in ([0, 1, 2, 3], [3, 0, 2], [1], [2, 3, 1, 0]):
            _assert_holds(cache, seqs, held)
        for unfilled in (slice(5, 6), slice(18, 20)):
            assert not cache.k[unfilled].any()
            assert not cache.v[unfilled].any()


@pytest.mark.symptom("A preempted request comes back with a damaged memory.")
def test_sequences_can_be_cut_back_and_go_on(subject: Any, seed: int) -> None:
    """A sequence keeps its first tokens, is continued from there, and others stay as they are."""
    cache, held = _filled(subject, seed)
    for seqs, kept in [([3, 0], [2, 5]), ([2, 1], [0, 3])]:
        cache.truncate(torch.tensor(seqs), torch.tensor(kept))
        for i, n in zip(seqs, kept, strict=True):
            held[i] = (held[i][0][:n], held[i][1][:n])
        _assert_holds(cache, [0, 1, 2, 3], held)
        assert cache.lengths.tolist() == [len(k) for k, _ in held]
    _append(cache, held, [2, 3], [1, 4], seed + 99)
    _assert_holds(cache, [3, 2, 1, 0], held)


# ----- prefill


class _Layer:
    """A layer that looks at every token by itself; what it was asked is kept."""

    def __init__(self, seed: int) -> None:
        self.table = _randn(seed, VOCAB, 8)
        self.table[0] = math.nan  # the padding's
        self.weight = 0.4 * _randn(seed + 1, 8, (H + 2 * G) * D).double()
        self.asked: list[list[tuple[int, int]]] = []

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        self.asked.append(list(zip(tokens.tolist(), positions.tolist(), strict=True)))
        return self.table[tokens] + torch.sin(positions[:, None] * torch.arange(1, 9) / 3)

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # In double precision, so that a row does not depend on the rows beside it.
        heads = (x.double() @ self.weight).float().view(len(x), H + 2 * G, D)
        return heads[:, :H], heads[:, H : H + G], heads[:, H + G :]

    def alone(self, sequence: Tensor, **how: Any) -> Tensor:
        q, k, v = self.qkv(self.embed(sequence, torch.arange(len(sequence))))
        return _dense((q, k, v), len(sequence), **how)


def _prompts(seed: int, lengths: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCAB, (n,), generator=generator) for n in lengths]


@pytest.mark.symptom("Answers change with the token budget of the prefill.")
def test_the_budget_does_not_change_the_result(subject: Any, seed: int) -> None:
    """However prompts are cut into steps, each gets the attention that it would get alone."""
    layer, lengths = _Layer(seed), [4, 1, 6, 2]
    prompts = _prompts(seed, lengths)
    want = [layer.alone(prompt) for prompt in prompts]
    for budget in (1, 3, 5, 11, 100):
        got = subject.chunked_prefill(layer.embed, layer.qkv, prompts, budget)
        assert 2 not in subject.mutated
        assert len(got) == len(want)
        for out, alone in zip(got, want, strict=True):
            _assert_close(out, alone)
    (out,) = subject.chunked_prefill(layer.embed, layer.qkv, prompts[2:3], 4)
    _assert_close(out, want[2])


@pytest.mark.symptom("A setting of the prefill that should only change its speed changes answers.")
def test_settings_of_prefill_are_heeded(subject: Any, seed: int) -> None:
    """Window and scale are those of the layer; rounding and few sequences per step do no harm."""
    layer, lengths = _Layer(seed), [0, 5, 2, 0, 4, 1]
    prompts = _prompts(seed, lengths)
    settings: list[tuple[int, dict[str, Any]]] = [
        (4, {"window": 2}),
        (100, {"window": 3, "scale": 0.3}),
        (7, {"max_seqs": 1}),
        (3, {"multiple_of": 4}),
        (9, {"max_seqs": 2, "multiple_of": 8, "window": 4}),
    ]
    for budget, how in settings:
        rules = {name: how[name] for name in ("window", "scale") if name in how}
        want = [layer.alone(prompt, **rules) for prompt in prompts]
        got = subject.chunked_prefill(layer.embed, layer.qkv, prompts, budget, **how)
        for out, alone in zip(got, want, strict=True):
            _assert_close(out, alone)


@pytest.mark.symptom("The prefill computes some tokens twice, or asks for more than was agreed.")
def test_every_token_is_computed_once_at_its_place(subject: Any, seed: int) -> None:
    """Steps ask for the tokens in order, at their positions, and for no more than they may."""
    layer, lengths = _Layer(seed), [4, 0, 6, 1]
    prompts = _prompts(seed, lengths)
    tokens = [(t, i) for prompt in prompts for i, t in enumerate(prompt.tolist())]
    cases: list[tuple[int, int | None, int]] = [(4, None, 1), (100, 1, 1), (3, None, 2), (5, 2, 4)]
    for budget, max_seqs, multiple in cases:
        layer.asked.clear()
        how: dict[str, Any] = {} if multiple == 1 else {"multiple_of": multiple}
        subject.chunked_prefill(layer.embed, layer.qkv, prompts, budget, max_seqs=max_seqs, **how)
        steps = _steps(lengths, budget, max_seqs)
        want, rest = [], list(tokens)
        for step in steps:
            n_padding = -len(step) % multiple
            want.append(rest[: len(step)] + [(0, 0)] * n_padding)
            rest = rest[len(step) :]
        assert layer.asked == want


# ----- the rest


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """A different default device changes nothing for inputs that lie where they lie."""
    layer, lengths = _Layer(seed), [3, 5]
    prompts, texts = _prompts(seed, lengths), _texts(seed, lengths)
    q, k, v = (torch.cat(parts) for parts in zip(*texts, strict=True))
    try:
        with subject.accelerator():
            packed = subject.pack(prompts, [2, 0], multiple_of=5)
            rows, seqs = subject.last_token_rows(packed.cu)
            padded = subject.pad_packed(packed.tokens, packed.cu)
            row, cu = subject.unpad(padded, torch.tensor(lengths))
            mask = subject.block_diagonal_mask(
                packed.seq_ids, packed.positions, packed.seq_ids, packed.positions, 2
            )
            out = subject.varlen_attention(q, k, v, cu, cu, window=3)
            cache = subject.PackedKVCache([4, 6], like=k)
            cache.append(k, v, torch.tensor([1, 0]), subject.cu_seqlens(torch.tensor([5, 3])))
            cache.truncate(torch.tensor([1]), torch.tensor([4]))
            keys, values, _ = cache.gather(torch.tensor([0, 1]))
            prefilled = subject.chunked_prefill(layer.embed, layer.qkv, prompts, 3, multiple_of=2)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    assert packed.positions.tolist() == [2, 3, 4, 0, 1, 2, 3, 4, 0, 0]
    assert (rows.tolist(), seqs.tolist()) == ([2, 7], [0, 1])
    assert torch.equal(row, torch.cat(prompts))
    assert mask.sum(dim=1).tolist() == [1, 2, 2, 1, 2, 2, 2, 2, 0, 0]
    _assert_close(out, torch.cat([_dense(text, len(text[0]), window=3) for text in texts]))
    assert torch.equal(keys, torch.cat([k[5:], k[:4]]))
    assert torch.equal(values, torch.cat([v[5:], v[:4]]))
    for got, prompt in zip(prefilled, prompts, strict=True):
        _assert_close(got, layer.alone(prompt))


@pytest.mark.symptom("A mistake in the scheduler goes unnoticed until answers are garbage.")
def test_misuse_is_refused(subject: Any, seed: int) -> None:
    """Sizes out of range and lengths that do not fit together raise ValueError."""
    layer, prompts = _Layer(seed), _prompts(seed, [2, 3])
    q, k = torch.ones(5, 4, 6), torch.ones(5, 2, 6)
    cu, positions = _cu([2, 3]), torch.arange(3)
    cache = subject.PackedKVCache([3, 2], like=k)
    cache.append(k, k, torch.tensor([0]), _cu([2]))
    mistakes: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (subject.pack, ([],), {}),
        (subject.pack, (prompts, [0]), {}),
        (subject.pack, (prompts, [0, 0, 0]), {}),
        (subject.pack, (prompts, [0, -1]), {}),
        (subject.pack, (prompts,), {"multiple_of": 0}),
        (subject.unpad, (q, torch.tensor([1, 5, 0])), {}),
        (subject.unpad, (q, torch.tensor([1, -1, 0])), {}),
        (subject.causal_mask, (positions, positions, 0), {}),
        (subject.attend, (q[:, :3], k, k, torch.ones(5, 5, dtype=torch.bool)), {}),
        (subject.varlen_attention, (q, k, k, cu, _cu([5])), {}),
        (subject.varlen_attention, (q, k, k, _cu([1]), cu), {}),
        (subject.varlen_attention, (q, k, k, cu, _cu([3, 2])), {}),
        (subject.varlen_attention, (q[:4], k, k, cu, cu), {}),
        (subject.varlen_attention, (q, k[:4], k[:4], cu, cu), {}),
        (subject.varlen_attention, (q, k, k, cu, cu), {"window": 0}),
        (subject.split_by_budget, ([2, 3], 0), {}),
        (subject.split_by_budget, ([2, 3], 4), {"max_seqs": 0}),
        (cache.append, (k, k, torch.tensor([1, 0]), _cu([1, 2])), {}),
        (cache.append, (k, k, torch.tensor([1]), _cu([3])), {}),
        (cache.truncate, (torch.tensor([1, 0]), torch.tensor([0, 3])), {}),
        (cache.truncate, (torch.tensor([0]), torch.tensor([-1])), {}),
        (subject.chunked_prefill, (layer.embed, layer.qkv, [prompts[0][:0]], 4), {}),
        (subject.chunked_prefill, (layer.embed, layer.qkv, prompts, 0), {}),
    ]
    for function, arguments, how in mistakes:
        with pytest.raises(ValueError, match=r"."):
            function(*arguments, **how)
    assert cache.lengths.tolist() == [2, 0]
    assert subject.split_by_budget([2, 3], 1, max_seqs=1)[0] == [(0, 0, 1)]
    cache.append(k, k, torch.tensor([1, 0]), _cu([2, 1]))
    assert cache.lengths.tolist() == [3, 2]
