"""What paged attention promises: `subject` is the file under test, `seed` differs between runs.

The oracle is dense attention in double precision, one sequence and one head at a time. Pools are
filled with noise before anything is stored in them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

SIZE = 4  # tokens per page
N_PAGES = 12
H, G, D = 4, 2, 6


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _noisy_store(
    subject: Any, seed: int, *, fill: float | None = None, dtype: torch.dtype = torch.float32
) -> Any:
    """Return a store of two layers in which every slot holds noise, or `fill`."""
    store = subject.PagedKVStore(N_PAGES, SIZE, G, D, n_layers=2, dtype=dtype)
    n_slots = N_PAGES * SIZE
    for layer in range(2):
        noise = 9.0 * _randn(seed + layer, 2, n_slots, G, D)
        k, v = noise if fill is None else torch.full_like(noise, fill)
        store.write(k, v, torch.arange(n_slots), layer=layer)
    return store


def _tables(lens: Sequence[int], spare: Sequence[int] | None = None) -> list[list[int]]:
    """Return block tables in no order, each with spare[i] pages more than it needs."""
    pages = iter([7, 2, 11, 4, 9, 0, 5, 10, 1, 8, 3, 6])
    more = spare or [0] * len(lens)
    needs = [math.ceil(n / SIZE) + m for n, m in zip(lens, more, strict=True)]
    return [[next(pages) for _ in range(n)] for n in needs]


def _texts(seed: int, lens: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Return the queries [n, H, D], keys and values [n, G, D] of whole sequences."""
    heads = (H, G, G)
    return [
        tuple(_randn(seed + 10 * i + j, n, heads[j], D) for j in range(3))
        for i, n in enumerate(lens)
    ]


def _rows(
    texts: Sequence[tuple[Tensor, ...]], n_cached: Sequence[int], n_new: Sequence[int]
) -> list[Tensor]:
    """Return q, k, v of the new tokens, one sequence behind the other."""
    spans = list(zip(texts, n_cached, n_new, strict=True))
    return [torch.cat([text[j][c : c + n] for text, c, n in spans]) for j in range(3)]


def _dense(
    text: tuple[Tensor, ...],
    start: int,
    stop: int,
    *,
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return what the tokens [start, stop) of a sequence attend to: [stop - start, H, D]."""
    q, k, v = (x.double() for x in text)
    n_heads, groups = q.shape[1], q.shape[1] // k.shape[1]
    out = torch.zeros(stop - start, n_heads, v.shape[2], dtype=torch.float64)
    for i in range(start, stop):
        first = 0 if window is None else max(0, i - window + 1)
        for h in range(n_heads):
            scores = k[first : i + 1, h // groups] @ q[i, h]
            scores = scores * (q.shape[2] ** -0.5 if scale is None else scale)
            weights = torch.exp(scores - scores.max())
            out[i - start, h] = (weights / weights.sum()) @ v[first : i + 1, h // groups]
    return out


def _dense_rows(
    texts: Sequence[tuple[Tensor, ...]],
    n_cached: Sequence[int],
    n_new: Sequence[int],
    **how: Any,
) -> Tensor:
    spans = zip(texts, n_cached, n_new, strict=True)
    return torch.cat([_dense(text, c, c + n, **how) for text, c, n in spans])


def _assert_close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


# ----- where tokens lie


@pytest.mark.symptom("Keys and values of some tokens are written over those of others.")
def test_slots_follow_the_block_table(subject: Any, seed: int) -> None:
    """A token's slot is given by the page of its position and its place in that page."""
    table = random.Random(seed).sample(range(100), 5)

    assert list(subject.slot_mapping([7, 2], 3, 6, 4)) == [31, 8, 9]
    for size, start, stop in [(4, 0, 20), (3, 2, 13), (3, 3, 4), (1, 1, 5), (4, 8, 8), (5, 7, 25)]:
        want = [table[i // size] * size + i % size for i in range(start, stop)]
        assert list(subject.slot_mapping(table, start, stop, size)) == want


@pytest.mark.symptom("Requests in one step are mixed up with each other.")
def test_a_batch_describes_its_rows(subject: Any) -> None:
    """Slots, positions, boundaries, lengths and tables describe the new tokens, then padding."""
    tables, n_cached, n_new = [[3, 1, 5], [4], [0, 2]], [5, 2, 0], [4, 0, 6]

    batch = subject.build_batch(tables, n_cached, n_new, SIZE, pad_to=12)

    slots = [1 * 4 + i for i in (1, 2, 3)] + [5 * 4] + [0, 1, 2, 3, 8, 9]
    assert batch.slots.tolist() == [*slots, -1, -1]
    assert batch.positions.tolist() == [5, 6, 7, 8, 0, 1, 2, 3, 4, 5, 0, 0]
    assert batch.cu_q.tolist() == [0, 4, 4, 10]
    assert batch.context_lens.tolist() == [9, 2, 6]
    assert batch.block_tables.tolist() == [[3, 1, 5], [4, -1, -1], [0, 2, -1]]
    assert (batch.n_seqs, batch.n_rows, batch.is_decode) == (3, 12, False)
    tensors = (batch.slots, batch.positions, batch.cu_q, batch.context_lens, batch.block_tables)
    assert {tensor.dtype for tensor in tensors} == {torch.int64}
    for lengths, is_decode in [([1, 1, 1], True), ([1, 0, 1], False), ([1, 2, 1], False)]:
        batch = subject.build_batch(tables, n_cached, lengths, SIZE)
        assert (batch.is_decode, batch.n_rows) == (is_decode, sum(lengths))
    batch = subject.build_batch([], [], [], SIZE, pad_to=1)
    assert (batch.n_seqs, batch.n_rows, list(batch.block_tables.shape)) == (0, 1, [0, 0])


@pytest.mark.symptom("Some requests continue with the word that another one should have got.")
def test_every_sequence_samples_from_its_last_row(subject: Any) -> None:
    """The last row of a sequence is the one of its last new token; without new tokens none."""
    tables = [[0, 1], [2], [3], [4, 5], [6]]

    batch = subject.build_batch(tables, [2, 3, 0, 0, 1], [3, 0, 1, 7, 0], SIZE, pad_to=13)
    assert subject.last_rows(batch).tolist() == [2, -1, 3, 10, -1]
    batch = subject.build_batch(tables[:3], [0, 1, 2], [0, 1, 1], SIZE)
    rows = subject.last_rows(batch)
    assert (rows.tolist(), rows.dtype) == ([-1, 0, 1], torch.int64)


@pytest.mark.symptom("Memory planning is off: the server runs out of memory or wastes it.")
def test_a_page_costs_keys_and_values_of_all_layers(subject: Any) -> None:
    """The memory of a page is that of its slots, in keys and values, in every layer."""
    store = subject.PagedKVStore(7, 4, 2, 6, n_layers=3, dtype=torch.bfloat16)

    assert store.bytes_per_page == 2 * 3 * 4 * 2 * 6 * 2
    assert isinstance(store.bytes_per_page, int)
    assert (store.n_pages, store.page_size) == (7, 4)
    for pool in (store.k, store.v):
        assert (list(pool.shape), pool.dtype) == ([3, 7, 4, 2, 6], torch.bfloat16)
        assert not pool.any()


@pytest.mark.symptom("Reading a sequence touches more pages than it has, or misses its last one.")
def test_pages_are_as_many_as_the_tokens_need(subject: Any) -> None:
    """cdiv(a, b) pieces of size b hold a things, and one piece less does not."""
    for a, b in [(0, 4), (1, 4), (4, 4), (5, 4), (8, 4), (9, 4), (3, 1), (7, 5), (2, 9)]:
        pieces = subject.cdiv(a, b)
        assert (pieces - 1) * b < a <= pieces * b


@pytest.mark.symptom("Answers degrade as if the model had remembered other things than it read.")
def test_stored_tokens_are_read_back_in_order(subject: Any, seed: int) -> None:
    """Keys and values come back by position, from the layer they were stored in, others intact."""
    store = _noisy_store(subject, seed)
    lens = [9, 3]
    tables, texts = _tables(lens, [1, 0]), _texts(seed, lens)
    before = [store.k.clone(), store.v.clone()]
    slots = [subject.slot_mapping(table, 0, n, SIZE) for table, n in zip(tables, lens, strict=True)]
    for n, where, text in zip(lens, slots, texts, strict=True):
        store.write(text[1], text[2], torch.tensor(where), layer=1)
        for length in (n, n - 1, 1, 0):
            table = torch.tensor(tables[lens.index(n)])
            k, v = subject.gather_kv(store, table, length, layer=1)
            torch.testing.assert_close(k, text[1][:length])
            torch.testing.assert_close(v, text[2][:length])

    written = [s for where in slots for s in where]
    others = [s for s in range(N_PAGES * SIZE) if s not in written]
    for old, new in zip(before, [store.k, store.v], strict=True):
        torch.testing.assert_close(new[0], old[0])
        torch.testing.assert_close(new[1].flatten(0, 1)[others], old[1].flatten(0, 1)[others])


# ----- attention


@pytest.mark.symptom("Long prompts are answered worse than short ones.")
def test_attention_over_pages_is_dense_attention(subject: Any, seed: int) -> None:
    """For lengths around page boundaries and pages in any order the result is dense attention."""
    for n in (1, 3, 4, 5, 8, 9):
        store = _noisy_store(subject, seed)
        tables, texts = _tables([n], [1]), _texts(seed, [n])
        batch = subject.build_batch(tables, [0], [n], SIZE)
        q, k, v = texts[0]
        store.write(k, v, batch.slots)
        got = subject.paged_attention(q, store, batch)
        assert subject.mutated == ()
        _assert_close(got, _dense(texts[0], 0, n))


@pytest.mark.symptom("Answers change with the chunk size of the prefill.")
def test_chunks_and_decoding_continue_a_sequence(subject: Any, seed: int) -> None:
    """A text fed in chunks and then token by token gives the same as the whole text at once."""
    for chunks in ([3, 5, 1, 4], [4, 4, 1, 1, 1, 2]):
        store = _noisy_store(subject, seed)
        n = sum(chunks)
        tables, texts = _tables([n]), _texts(seed, [n])
        got, done = [], 0
        for chunk in chunks:
            batch = subject.build_batch(tables, [done], [chunk], SIZE)
            q, k, v = _rows(texts, [done], [chunk])
            store.write(k, v, batch.slots)
            got.append(subject.paged_attention(q, store, batch))
            done += chunk
        _assert_close(torch.cat(got), _dense(texts[0], 0, n))


@pytest.mark.symptom("Answers depend on which other requests share the step.")
def test_prompts_chunks_and_decodes_share_a_batch(subject: Any, seed: int) -> None:
    """Each sequence of a mixed batch gets what it would alone, also beside ones at rest."""
    lens = [5, 9, 6, 8, 1]
    n_new = [5, 1, 0, 3, 1]
    n_cached = [n - m for n, m in zip(lens, n_new, strict=True)]
    tables, texts = _tables(lens, [0, 1, 0, 0, 1]), _texts(seed, lens)
    store = _noisy_store(subject, seed)
    first = subject.build_batch(tables, [0] * 5, n_cached, SIZE)
    _, k, v = _rows(texts, [0] * 5, n_cached)
    store.write(k, v, first.slots)
    batch = subject.build_batch(tables, n_cached, n_new, SIZE)
    q, k, v = _rows(texts, n_cached, n_new)
    store.write(k, v, batch.slots)

    _assert_close(subject.paged_attention(q, store, batch), _dense_rows(texts, n_cached, n_new))


@pytest.mark.symptom("With CUDA graphs, which pad batches, answers get worse.")
def test_padding_is_neither_stored_nor_attended_to(subject: Any, seed: int) -> None:
    """Rows of padding change no slot and no other row, and give zeros, whatever they contain."""
    lens = [5, 4]
    tables, texts = _tables(lens), _texts(seed, lens)
    for n_cached, name in [([2, 0], "paged_attention"), ([4, 3], "decode_attention")]:
        n_new = [n - c for n, c in zip(lens, n_cached, strict=True)]
        store = _noisy_store(subject, seed)
        first = subject.build_batch(tables, [0, 0], n_cached, SIZE)
        store.write(*_rows(texts, [0, 0], n_cached)[1:], first.slots)
        batch = subject.build_batch(tables, n_cached, n_new, SIZE, pad_to=sum(n_new) + 2)
        q, k, v = (
            torch.cat([x, torch.full((2, *x.shape[1:]), math.nan)])
            for x in _rows(texts, n_cached, n_new)
        )
        store.write(k, v, batch.slots)
        assert bool(store.k.isfinite().all())
        assert bool(store.v.isfinite().all())
        got = getattr(subject, name)(q, store, batch)

        _assert_close(got[:-2], _dense_rows(texts, n_cached, n_new))
        assert got[-2:].tolist() == torch.zeros(2, H, D).tolist()
    empty = subject.build_batch([], [], [], SIZE, pad_to=2)
    for name in ("paged_attention", "decode_attention"):
        got = getattr(subject, name)(_randn(seed, 2, H, D), store, empty)
        assert got.tolist() == torch.zeros(2, H, D).tolist()


@pytest.mark.symptom("After a while in service, single answers turn into nonsense.")
def test_unused_slots_never_matter(subject: Any, seed: int) -> None:
    """What lies in slots that a sequence does not own or use, NaN included, changes nothing."""
    lens = [5, 1, 8, 3]
    tables, texts = _tables(lens, [0, 1, 0, 1]), _texts(seed, lens)
    n_cached, n_new = [n - 1 for n in lens], [1] * 4
    want = _dense_rows(texts, n_cached, n_new)
    for fill in (math.nan, math.inf, 1e30):
        store = _noisy_store(subject, seed, fill=fill)
        batch = subject.build_batch(tables, [0] * 4, lens, SIZE)
        store.write(*_rows(texts, [0] * 4, lens)[1:], batch.slots)
        batch = subject.build_batch(tables, n_cached, n_new, SIZE)
        q = _rows(texts, n_cached, n_new)[0]
        _assert_close(subject.paged_attention(q, store, batch), want)
        _assert_close(subject.decode_attention(q, store, batch), want)


@pytest.mark.symptom("With more than one request decoding, answers differ from a request alone.")
def test_decoding_all_at_once_is_decoding_one_by_one(subject: Any, seed: int) -> None:
    """The path for pure decoding agrees with dense attention for unequal lengths and tables."""
    for lens, spare in [([9, 1, 4, 5, 8], [0, 0, 0, 1, 0]), ([3], [2]), ([12, 2], [0, 3])]:
        tables, texts = _tables(lens, spare), _texts(seed, lens)
        n_cached, n_new = [n - 1 for n in lens], [1] * len(lens)
        store = _noisy_store(subject, seed)
        batch = subject.build_batch(tables, [0] * len(lens), lens, SIZE)
        store.write(*_rows(texts, [0] * len(lens), lens)[1:], batch.slots)
        batch = subject.build_batch(tables, n_cached, n_new, SIZE)
        q = _rows(texts, n_cached, n_new)[0]
        got = subject.decode_attention(q, store, batch)
        assert subject.mutated == ()
        _assert_close(got, _dense_rows(texts, n_cached, n_new))


@pytest.mark.symptom("A prompt's answer leaks what comes later in the same prompt.")
def test_no_query_sees_the_future(subject: Any, seed: int) -> None:
    """A query sees itself and what came before, and with a window exactly its last positions."""
    q_pos, k_pos = torch.tensor([5, 0, 3]), torch.tensor([4, 3, 5, 0, 6])
    want = [[k <= q for k in k_pos.tolist()] for q in q_pos.tolist()]
    assert subject.visible_keys(q_pos, k_pos).bool().tolist() == want
    for window in (1, 2, 3, 6, 9):
        want = [[0 <= q - k < window for k in k_pos.tolist()] for q in q_pos.tolist()]
        assert subject.visible_keys(q_pos, k_pos, window).bool().tolist() == want

    lens = [9, 6]
    n_cached, n_new = [4, 0], [5, 6]
    tables, texts = _tables(lens), _texts(seed, lens)
    store = _noisy_store(subject, seed)
    batch = subject.build_batch(tables, [0, 0], lens, SIZE)
    store.write(*_rows(texts, [0, 0], lens)[1:], batch.slots)
    batch = subject.build_batch(tables, n_cached, n_new, SIZE)
    q = _rows(texts, n_cached, n_new)[0]
    for window in (1, 2, 4, 5, 20):
        got = subject.paged_attention(q, store, batch, window=window)
        _assert_close(got, _dense_rows(texts, n_cached, n_new, window=window))


@pytest.mark.symptom("A sliding-window model answers differently once it starts to decode.")
def test_decoding_keeps_to_the_window(subject: Any, seed: int) -> None:
    """In the path for pure decoding a window holds exactly the last positions."""
    lens = [9, 3, 5]
    tables, texts = _tables(lens, [0, 1, 0]), _texts(seed, lens)
    n_cached, n_new = [n - 1 for n in lens], [1] * 3
    store = _noisy_store(subject, seed)
    batch = subject.build_batch(tables, [0] * 3, lens, SIZE)
    store.write(*_rows(texts, [0] * 3, lens)[1:], batch.slots)
    batch = subject.build_batch(tables, n_cached, n_new, SIZE)
    q = _rows(texts, n_cached, n_new)[0]

    for window in (1, 3, 4, 30):
        got = subject.decode_attention(q, store, batch, window=window)
        _assert_close(got, _dense_rows(texts, n_cached, n_new, window=window))


@pytest.mark.symptom("A model with grouped-query attention talks nonsense from the first word.")
def test_neighbouring_query_heads_share_a_key_value_head(subject: Any, seed: int) -> None:
    """Query head h reads key/value head h // (H / G), for one, some and all heads."""
    n = 5
    for n_heads, n_kv_heads in [(6, 2), (6, 3), (4, 1), (3, 3)]:
        store = subject.PagedKVStore(3, SIZE, n_kv_heads, D)
        heads = (n_heads, n_kv_heads, n_kv_heads)
        text = tuple(_randn(seed + j, n, heads[j], D) for j in range(3))
        batch = subject.build_batch([[2, 0]], [0], [n], SIZE)
        store.write(text[1], text[2], batch.slots)
        _assert_close(subject.paged_attention(text[0], store, batch), _dense(text, 0, n))
        batch = subject.build_batch([[2, 0]], [n - 1], [1], SIZE)
        got = subject.decode_attention(text[0][-1:], store, batch)
        _assert_close(got, _dense(text, n - 1, n))


@pytest.mark.symptom("Attention is too sharp or too flat for models with an unusual scale.")
def test_scores_are_scaled(subject: Any, seed: int) -> None:
    """Scores are scaled by D ** -0.5, or by the number that is given."""
    lens = [6, 7]
    tables, texts = _tables(lens), _texts(seed, lens)
    n_cached, n_new = [5, 6], [1, 1]
    store = _noisy_store(subject, seed)
    batch = subject.build_batch(tables, [0, 0], lens, SIZE)
    store.write(*_rows(texts, [0, 0], lens)[1:], batch.slots)
    batch = subject.build_batch(tables, n_cached, n_new, SIZE)
    q = _rows(texts, n_cached, n_new)[0]

    for name in ("paged_attention", "decode_attention"):
        for scale in (None, 1.0, 0.125, 4.0):
            got = getattr(subject, name)(q, store, batch, scale=scale)
            want = _dense_rows(texts, n_cached, n_new, scale=scale)
            assert got.dtype == torch.float32
            torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)


@pytest.mark.symptom("In bfloat16 and float16 answers are worse than the format explains.")
def test_low_precision_costs_little(subject: Any, seed: int) -> None:
    """With 16-bit inputs the result has their dtype and the error of one rounding."""
    lens = [7, 6]
    n_cached, n_new = [6, 5], [1, 1]
    tables = _tables(lens)
    for dtype in (torch.bfloat16, torch.float16):
        eps = torch.finfo(dtype).eps
        texts = [tuple(x.to(dtype) for x in text) for text in _texts(seed, lens)]
        store = _noisy_store(subject, seed, dtype=dtype)
        batch = subject.build_batch(tables, [0, 0], lens, SIZE)
        store.write(*_rows(texts, [0, 0], lens)[1:], batch.slots)
        batch = subject.build_batch(tables, n_cached, n_new, SIZE)
        q = _rows(texts, n_cached, n_new)[0]
        want = _dense_rows(texts, n_cached, n_new)
        for name in ("paged_attention", "decode_attention"):
            got = getattr(subject, name)(q, store, batch)
            assert got.dtype == dtype
            torch.testing.assert_close(got.double(), want, rtol=0.6 * eps, atol=0.1 * eps)


@pytest.mark.symptom("For some inputs a 16-bit model answers with nothing but NaN.")
def test_large_scores_do_no_harm(subject: Any) -> None:
    """Scores beyond what float16 or an exponential can hold give the right weights all the same."""
    lens = [7, 6]
    n_cached, n_new = [6, 5], [1, 1]
    tables = _tables(lens)
    generator = torch.Generator().manual_seed(0)
    for dtype, size in [(torch.float16, 64), (torch.float32, 32)]:
        # Small integers times a power of two: scores are exact, so that ties stay ties.
        texts = [
            tuple(
                (torch.randint(-8, 9, (n, heads, D), generator=generator) * factor).to(dtype)
                for heads, factor in [(H, size), (G, size), (G, 1)]
            )
            for n in lens
        ]
        store = _noisy_store(subject, 0, dtype=dtype)
        batch = subject.build_batch(tables, [0, 0], lens, SIZE)
        store.write(*_rows(texts, [0, 0], lens)[1:], batch.slots)
        batch = subject.build_batch(tables, n_cached, n_new, SIZE)
        q = _rows(texts, n_cached, n_new)[0]
        want = _dense_rows(texts, n_cached, n_new)
        for name in ("paged_attention", "decode_attention"):
            got = getattr(subject, name)(q, store, batch)
            torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.symptom("For some prompts single words are chosen as if nothing had been read.")
def test_what_is_out_of_sight_has_no_weight_however_low_the_rest(subject: Any) -> None:
    """Where all visible keys have scores far below zero, hidden ones still get no weight."""
    lens, n_new = [7, 6], [4, 3]
    tables = _tables(lens)
    generator = torch.Generator().manual_seed(0)
    # Scores of -1e5 and less, so far apart that one key gets all the weight.
    texts = []
    for n, (_, _, v) in zip(lens, _texts(0, lens), strict=True):
        q = torch.randint(4, 9, (n, H, D), generator=generator) * 64.0
        k = (torch.randperm(n, generator=generator) + 4) * -64.0
        texts.append((q, k[:, None, None].repeat(1, G, D), v))
    store = _noisy_store(subject, 0)
    batch = subject.build_batch(tables, [0, 0], lens, SIZE)
    store.write(*_rows(texts, [0, 0], lens)[1:], batch.slots)
    for name, new, window in [
        ("paged_attention", n_new, None),
        ("paged_attention", n_new, 2),
        ("decode_attention", [1, 1], None),
        ("decode_attention", [1, 1], 3),
    ]:
        n_cached = [n - m for n, m in zip(lens, new, strict=True)]
        batch = subject.build_batch(tables, n_cached, new, SIZE)
        q = _rows(texts, n_cached, new)[0]
        got = getattr(subject, name)(q, store, batch, window=window)
        want = _dense_rows(texts, n_cached, new, window=window)
        torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


@pytest.mark.symptom("A 16-bit cache behind a float32 model, or the other way round, fails.")
def test_the_store_keeps_its_own_precision(subject: Any, seed: int) -> None:
    """Tokens are rounded to the store's dtype when written; results have the queries' dtype."""
    texts = _texts(seed, [6])
    q, k, v = texts[0]
    for stored, asked in [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)]:
        store = _noisy_store(subject, seed, dtype=stored)
        batch = subject.build_batch([[5, 3]], [0], [6], SIZE)
        store.write(k.to(asked), v.to(asked), batch.slots)
        got = subject.paged_attention(q.to(asked), store, batch)
        assert (store.k.dtype, got.dtype) == (stored, asked)
        rounded = (q.to(asked), k.to(torch.bfloat16), v.to(torch.bfloat16))
        eps = torch.finfo(asked).eps
        atol = 1e-5 if asked == torch.float32 else 0.1 * eps
        torch.testing.assert_close(got.double(), _dense(rounded, 0, 6), rtol=0.6 * eps, atol=atol)


# ----- life of a page


@pytest.mark.symptom("Parallel samples of one prompt influence each other.")
def test_a_copied_page_leads_its_own_life(subject: Any, seed: int) -> None:
    """After copying, both pages hold the same in every layer, and later writes stay apart."""
    store = _noisy_store(subject, seed)
    old = {"k": store.k.clone(), "v": store.v.clone()}

    store.copy_pages([(7, 2), (0, 11)])
    for name in ("k", "v"):
        want = old[name].clone()
        want[:, 2], want[:, 11] = want[:, 7], want[:, 0]
        torch.testing.assert_close(getattr(store, name), want)
    text = _texts(seed, [5])[0]
    shared, mine = [4, 7], [4, 2]
    batch = subject.build_batch([shared], [0], [5], SIZE)
    store.write(text[1], text[2], batch.slots)
    store.copy_pages([(7, 2)])
    other = _texts(seed + 5, [1])[0]
    store.write(other[1], other[2], torch.tensor(subject.slot_mapping(mine, 5, 6, SIZE)))
    for table, tail in [(shared, None), (mine, other)]:
        parts = [text] if tail is None else [text, tail]
        k, v = subject.gather_kv(store, torch.tensor(table), 5 + len(parts) - 1)
        torch.testing.assert_close(k, torch.cat([part[1] for part in parts]))
        torch.testing.assert_close(v, torch.cat([part[2] for part in parts]))


@pytest.mark.symptom("A request that was swapped out comes back with a damaged memory.")
def test_exported_pages_can_be_imported_elsewhere(subject: Any, seed: int) -> None:
    """Pages exported and then imported into others hold the same; all others are as before."""
    store = _noisy_store(subject, seed)
    old = {"k": store.k.clone(), "v": store.v.clone()}
    other = _noisy_store(subject, seed + 50, dtype=torch.float64)
    before = {"k": other.k.clone(), "v": other.v.clone()}
    k, v = store.export_pages([9, 1, 4])
    assert list(k.shape) == list(v.shape) == [2, 3, SIZE, G, D]
    torch.testing.assert_close(k, old["k"][:, [9, 1, 4]])
    torch.testing.assert_close(v, old["v"][:, [9, 1, 4]])

    other.import_pages([0, 8, 3], k, v)
    for name in ("k", "v"):
        want = before[name].clone()
        want[:, [0, 8, 3]] = old[name][:, [9, 1, 4]].double()
        torch.testing.assert_close(getattr(other, name), want)
        torch.testing.assert_close(getattr(store, name), old[name])


# ----- a layer


@pytest.mark.symptom("The model forgets what it has just read, or layers disturb each other.")
def test_a_layer_stores_and_attends(subject: Any, seed: int) -> None:
    """Two layers over one store take a prompt, a mixed step and decoding like dense layers."""
    lens = [8, 10]
    tables = _tables(lens)
    store = _noisy_store(subject, seed)
    hows: list[dict[str, Any]] = [{}, {"window": 3, "scale": 0.5}]
    layers = [subject.PagedAttention(store, layer, **how) for layer, how in enumerate(hows)]
    texts = [_texts(seed + 100 * layer, lens) for layer in range(2)]
    steps = [([0, 0], [5, 0]), ([5, 0], [1, 8]), ([6, 8], [1, 1]), ([7, 9], [1, 1])]

    for n_cached, n_new in steps:
        batch = subject.build_batch(tables, n_cached, n_new, SIZE)
        for layer in range(2):
            rows = _rows(texts[layer], n_cached, n_new)
            got = layers[layer](*rows, batch)
            assert subject.mutated == ()
            _assert_close(got, _dense_rows(texts[layer], n_cached, n_new, **hows[layer]))


# ----- the rest


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """A different default device changes nothing for inputs that lie where they lie."""
    lens = [5, 3]
    tables, texts = _tables(lens), _texts(seed, lens)
    store = _noisy_store(subject, seed)
    batch = subject.build_batch(tables, [0, 0], lens, SIZE, pad_to=9)
    q, k, v = (torch.cat([x, x[:1]]) for x in _rows(texts, [0, 0], lens))
    decode = subject.build_batch(tables, [4, 2], [1, 1], SIZE, pad_to=3)
    other = [store.k.clone()[:, [9, 0]], store.v.clone()[:, [9, 0]]]
    try:
        with subject.accelerator():
            store.write(k, v, batch.slots)
            prompt = subject.paged_attention(q, store, batch, window=9)
            step = subject.decode_attention(q[[4, 7, 8]], store, decode, window=9)
            rows = subject.last_rows(batch)
            exported = store.export_pages([9, 0])
            store.import_pages([5, 10], *exported)
            store.copy_pages([(5, 6)])
            described = subject.build_batch(tables, [0, 0], lens, SIZE, device="cpu")
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    _assert_close(prompt[:8], _dense_rows(texts, [0, 0], lens))
    _assert_close(step[:2], _dense_rows(texts, [4, 2], [1, 1]))
    assert rows.tolist() == [4, 7]
    assert described.slots.tolist() == batch.slots.tolist()[:8]
    assert described.block_tables.tolist() == batch.block_tables.tolist()
    for pool, got, want in zip((store.k, store.v), exported, other, strict=True):
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(pool[:, [5, 10, 6]], want[:, [0, 1, 0]])


@pytest.mark.symptom("A mistake in the scheduler goes unnoticed until answers are garbage.")
def test_misuse_is_refused(subject: Any) -> None:
    """Sizes that do not fit, tables that are too short and slots out of range raise ValueError."""
    for sizes in [(0, 4, 2, 6), (4, 0, 2, 6)]:
        with pytest.raises(ValueError, match=r"."):
            subject.PagedKVStore(*sizes)
    assert subject.PagedKVStore(1, 1, 1, 1).bytes_per_page == 8
    for arguments in [([3], 0, 5, 4), ([3], -1, 2, 4), ([3], 3, 2, 4), ([], 0, 1, 4)]:
        with pytest.raises(ValueError, match=r"."):
            subject.slot_mapping(*arguments)
    for step in [([[0]], [0], []), ([[0]], [], [1]), ([], [0], [1]), ([[0]], [3], [2])]:
        with pytest.raises(ValueError, match=r"."):
            subject.build_batch(*step, 4)
    with pytest.raises(ValueError, match=r"."):
        subject.build_batch([[0]], [0], [3], 4, pad_to=2)
    assert subject.build_batch([[0]], [0], [3], 4, pad_to=3).n_rows == 3

    store = subject.PagedKVStore(2, 4, 2, 6)
    kv = torch.ones(2, 2, 6)
    for k, v, slots in [
        (kv[:1], kv, [0, 1]),
        (kv, kv[:1], [0, 1]),
        (kv, kv, [0]),
        (kv, kv, [0, 1, 2]),
        (torch.ones(3, 2, 6), kv, [0, 1]),
        (kv, torch.ones(3, 2, 6), [0, 1]),
        (kv, kv, [0, 8]),
        (kv, kv, [9, 0]),
        (kv, kv, [0, -2]),
    ]:
        with pytest.raises(ValueError, match=r"."):
            store.write(k, v, torch.tensor(slots))
    store.write(kv, kv, torch.tensor([0, 7]))
    assert store.k.sum() == store.v.sum() == 2 * 2 * 6
    pages = torch.zeros(1, 2, 4, 2, 6)
    for n, n_keys, n_values in [(2, 1, 2), (2, 2, 1), (2, 1, 1), (1, 2, 2), (1, 1, 2), (1, 2, 1)]:
        with pytest.raises(ValueError, match=r"."):
            store.import_pages([0, 1][:n], pages[:, :n_keys], pages[:, :n_values])

    decode = subject.build_batch([[0]], [0], [1], 4)
    prompt = subject.build_batch([[0]], [0], [2], 4)
    q = torch.ones(2, 4, 6)
    with pytest.raises(ValueError, match=r"."):
        subject.decode_attention(q, store, prompt)
    for attention, batch in [
        (subject.paged_attention, prompt),
        (subject.decode_attention, decode),
    ]:
        rows = q[: batch.n_rows]
        for bad, how in [
            (rows[:, :3], {}),
            (rows[1:], {}),
            (torch.ones(3, 4, 6), {}),
            (rows, {"window": 0}),
        ]:
            with pytest.raises(ValueError, match=r"."):
                attention(bad, store, batch, **how)
