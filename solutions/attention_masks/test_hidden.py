"""What attention masks promise: `subject` is the file under test, `seed` differs between runs.

The oracles are plain Python, one query and one key at a time, and attention in double precision.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

Place = tuple[int, int]  # number of a document in its row, position in the document


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _places(valid: Sequence[int], ids: Sequence[int] | None = None) -> list[Place | None]:
    """Return where each slot of a row stands in its document; None for padding."""
    places: list[Place | None] = []
    document, n_tokens = 0, 0
    for slot, real in enumerate(valid):
        if ids is not None and slot > 0 and ids[slot] != ids[slot - 1]:
            document, n_tokens = document + 1, 0
        places.append((document, n_tokens) if real else None)
        n_tokens += int(real)
    return places


def _near(q: int, k: int, rules: dict[str, Any]) -> bool:
    """Say whether one position may see another one of the same text, by the rules of a layer."""
    if k > q:
        return False
    if k in range(rules.get("n_sink") or 0):
        return True
    window, chunk = rules.get("window"), rules.get("chunk")
    if window and k not in range(q - window + 1, q + 1):
        return False
    return not chunk or k >= q - q % chunk


def _seen(
    places: Sequence[Place | None], q_len: int, *, prefix: int = 0, **rules: Any
) -> list[list[bool]]:
    """Return what the last q_len slots of a row may see."""
    rows = []
    for q in places[len(places) - q_len :]:
        row = []
        for k in places:
            if q is None or k is None or q[0] != k[0]:
                row.append(False)
            else:
                row.append(_near(q[1], k[1], rules) or max(q[1], k[1]) < prefix)
        rows.append(row)
    return rows


def _assert_mask(mask: Tensor, want: list[list[list[bool]]]) -> None:
    assert mask.dtype == torch.bool
    assert mask.tolist() == [[rows] for rows in want]


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None) -> Tensor:
    """Attend in double precision, one query at a time: [B, H, Q, Dv]."""
    shared = [h * k.shape[1] // q.shape[1] for h in range(q.shape[1])]
    out = torch.zeros(*q.shape[:3], v.shape[3], dtype=torch.float64)
    scale = 1 / math.sqrt(q.shape[3]) if scale is None else scale
    for b, i in torch.cartesian_prod(torch.arange(len(q)), torch.arange(q.shape[2])).tolist():
        seen = mask[b, 0, i]
        if seen.any():
            keys, values = k[b, shared][:, seen].double(), v[b, shared][:, seen].double()
            scores = (keys * q[b, :, None, i].double()).sum(dim=-1, keepdim=True) * scale
            weights = torch.exp(scores - scores.amax(dim=1, keepdim=True))
            out[b, :, i] = (weights * values).sum(dim=1) / weights.sum(dim=1)
    return out


def _attend_alone(text: Sequence[Tensor], rules: dict[str, Any]) -> Tensor:
    """Attend from a whole text to itself: q, k, v [1, H, n, D] -> [1, H, n, D]."""
    q, k, v = text
    n = q.shape[2]
    return _attend(q, k, v, torch.tensor([[_seen([(0, i) for i in range(n)], n, **rules)]]))


def _assert_close(got: Tensor, want: Tensor) -> None:
    assert got.shape == want.shape
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


# ----- slots and positions


@pytest.mark.symptom("In a batch, prompts shorter than the longest lose words.")
def test_padding_stands_on_the_side_that_was_named(subject: Any) -> None:
    """As many slots as there are tokens are valid, next to the other end of the row."""
    lengths = [3, 0, 4, 1]
    left = [[slot in range(4 - n, 4) for slot in range(4)] for n in lengths]
    right = [[slot in range(n) for slot in range(4)] for n in lengths]
    for how, want in [({}, left), ({"side": "left"}, left), ({"side": "right"}, right)]:
        got = subject.padding_mask(torch.tensor(lengths), 4, **how)
        assert (got.dtype, got.tolist()) == (torch.bool, want)


@pytest.mark.symptom("In packed training examples, one text continues in the next.")
def test_every_run_of_equal_ids_is_a_document(subject: Any, seed: int) -> None:
    """Documents are numbered from 0 in every row; an id that comes back is another document."""
    rng = random.Random(seed)
    rows = [[4, 4, 4, 9, 9, 4, 0, 0], [0] * 8, [3, 2, 2, 2, 3, 3, 7, 3]]
    rows += [[rng.choice([0, 1, 5]) for _ in range(8)] for _ in range(4)]
    got = subject.document_index(torch.tensor(rows))

    assert got.dtype == torch.int64
    for row, numbers in zip(rows, got.tolist(), strict=True):
        assert [(number, 0) for number in numbers] == [
            (place[0], 0) for place in _places([True] * 8, row) if place
        ]
    assert subject.document_index(torch.tensor([[6], [1]])).tolist() == [[0], [0]]


@pytest.mark.symptom("Padded prompts are answered as if their words stood elsewhere.")
def test_positions_count_tokens_not_slots(subject: Any, seed: int) -> None:
    """The first token of a row has position 0, wherever it stands, and padding has none."""
    rng = random.Random(seed)
    rows = [[0, 0, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]]
    rows += [[rng.randrange(2) for _ in range(5)] for _ in range(4)]
    got = subject.position_ids(torch.tensor(rows).bool())

    assert got.dtype == torch.int64
    want = [[-1 if place is None else place[1] for place in _places(row)] for row in rows]
    assert got.tolist() == want
    assert subject.mutated == ()
    assert subject.PADDING == -1


@pytest.mark.symptom("Only the first of several packed texts is understood.")
def test_positions_begin_anew_in_every_document(subject: Any, seed: int) -> None:
    """In a packed row the first token of each document has position 0."""
    rng = random.Random(seed)
    rows, numbers = [[1] * 9, [0, 0, 1, 1, 1, 0, 1, 1, 0]], [[0, 0, 1, 2, 2, 2, 2, 3, 3]] * 2
    for _ in range(4):
        rows.append([int(rng.randrange(4) > 0) for _ in range(9)])
        numbers.append([*accumulate([0, *(rng.randrange(2) for _ in range(8))])])
    got = subject.position_ids(torch.tensor(rows).bool(), torch.tensor(numbers))

    assert got.dtype == torch.int64
    want = [
        [-1 if place is None else place[1] for place in _places(row, ids)]
        for row, ids in zip(rows, numbers, strict=True)
    ]
    assert got.tolist() == want


# ----- rules


def _rule(subject: Any, q_pos: list[int], k_pos: list[int], **rules: Any) -> list[list[bool]]:
    """Return what the rule says of two rows that hold the same, the other one in reverse."""
    q = torch.tensor([q_pos, q_pos[::-1]])
    k = torch.tensor([k_pos, k_pos[::-1]])
    mask = subject.causal_window_mask(q, k, **rules)
    assert (mask.dtype, list(mask.shape)) == (torch.bool, [2, len(q_pos), len(k_pos)])
    rows: list[list[bool]] = mask[0].tolist()
    assert mask[1].flip(0, 1).tolist() == rows
    return rows


@pytest.mark.symptom("The model foresees what comes next in a prompt, or forgets its last word.")
def test_a_token_sees_itself_and_the_past(subject: Any) -> None:
    """A query sees the keys at its position and before it, in any order, and no padding."""
    q_pos, k_pos = [3, -1, 0, 7, 2], [0, 1, -1, 5, 2, 7, 3]
    want = [[-1 < k <= q for k in k_pos] for q in q_pos]
    assert _rule(subject, q_pos, k_pos) == want


@pytest.mark.symptom("A sliding-window model drifts from its reference on long prompts.")
def test_a_window_holds_exactly_its_last_positions(subject: Any) -> None:
    """With a window of W a token sees W positions, itself included, as far as they exist."""
    positions = [*range(8), -1]
    for window in (1, 2, 3, 7, 8, 20):
        rows = _rule(subject, positions, positions, window=window)
        assert [sum(row) for row in rows] == [min(window, i + 1) for i in range(8)] + [0]
        assert rows == [
            [k in range(max(0, q - window + 1), q + 1) for k in positions] for q in positions
        ]


@pytest.mark.symptom(
    "A model with chunked attention loses its thread at other places than it should."
)
def test_chunks_do_not_see_each_other(subject: Any) -> None:
    """With chunks of C a token sees what lies before it among its own C positions."""
    positions = [*range(9), -1]
    for chunk in (1, 2, 3, 4, 9, 30):
        rows = _rule(subject, positions, positions, chunk=chunk)
        want = [[-1 < k <= q and k // chunk == q // chunk for k in positions] for q in positions]
        assert rows == want
    rows = _rule(subject, positions, positions, chunk=4, window=2)
    assert [sum(row) for row in rows] == [1, 2, 2, 2, 1, 2, 2, 2, 1, 0]


@pytest.mark.symptom("Long streams turn into gibberish once the first words leave the window.")
def test_sinks_stay_in_sight(subject: Any) -> None:
    """The first positions are seen beyond window and chunk, by queries that come after them."""
    positions = [-1, *range(9)]
    for rules in ({"window": 2}, {"window": 4}, {"chunk": 3}, {"chunk": 4, "window": 2}, {}):
        for n_sink in (0, 1, 3):
            rows = _rule(subject, positions, positions, n_sink=n_sink, **rules)
            near = {**rules, "n_sink": n_sink}
            want = [[min(q, k) >= 0 and _near(q, k, near) for k in positions] for q in positions]
            assert rows == want


@pytest.mark.symptom("A vision-language model cannot relate the parts of an image to each other.")
def test_a_prefix_is_seen_in_both_directions(subject: Any) -> None:
    """Tokens of the prefix see each other; other tokens and padding are no part of it."""
    q_pos = torch.tensor([[0, 4, -1, 2, 3], [1, 0, 2, -1, 5]])
    k_pos = torch.tensor([[3, -1, 0, 2], [2, 0, 1, -1]])
    for limits in ([3, 2], [0, 1], [4, 9]):
        got = subject.prefix_mask(q_pos, k_pos, torch.tensor(limits))
        assert got.dtype == torch.bool
        assert got.tolist() == [
            [[min(q, k) >= 0 and max(q, k) < limit for k in ks] for q in qs]
            for qs, ks, limit in zip(q_pos.tolist(), k_pos.tolist(), limits, strict=True)
        ]


@pytest.mark.symptom("Answers to one packed text quote another one.")
def test_only_equal_segments_belong_together(subject: Any) -> None:
    """A pair belongs together if query and key bear the same number."""
    q_seg, k_seg = torch.tensor([[0, 2], [1, 1]]), torch.tensor([[2, 0, 0], [0, 1, 2]])
    got = subject.segment_mask(q_seg, k_seg)
    assert got.dtype == torch.bool
    assert got.tolist() == [
        [[False, True, True], [True, False, False]],
        [[False, True, False], [False, True, False]],
    ]


# ----- whole masks


@pytest.mark.symptom("Whether a request is answered well depends on the requests beside it.")
def test_rules_together_are_the_rules_one_by_one(subject: Any, seed: int) -> None:
    """Any mix of padding, documents, window, chunk, sinks and prefix shows what each allows."""
    rng = random.Random(seed)
    for trial in range(16):
        n_slots, batch = rng.randrange(5, 12), rng.randrange(1, 4)
        valid = [[rng.randrange(5) > 0 for _ in range(n_slots)] for _ in range(batch)]
        ids = [[rng.choice([3, 3, 3, 8]) for _ in range(n_slots)] for _ in range(batch)]
        ids = [sorted(row) if rng.randrange(2) else row for row in ids]
        prefixes = [rng.randrange(5) for _ in range(batch)]
        rules: dict[str, Any] = {
            "window": rng.choice([None, 1, 2, 4]),
            "chunk": rng.choice([None, None, 2, 3]),
            "n_sink": rng.choice([0, 1, 2]),
        }
        q_len = n_slots if trial % 3 == 0 else rng.randrange(1, n_slots + 1)
        packed, prefixed = trial % 2 > 0, trial % 4 > 1
        got = subject.build_mask(
            torch.tensor(valid),
            q_len,
            **rules,
            segment_ids=torch.tensor(ids) if packed else None,
            prefix_len=torch.tensor(prefixes) if prefixed else None,
        )
        assert subject.mutated == ()
        want = [
            _seen(
                _places(valid[b], ids[b] if packed else None),
                q_len,
                prefix=prefixes[b] if prefixed else 0,
                **rules,
            )
            for b in range(batch)
        ]
        _assert_mask(got, want)


@pytest.mark.symptom("With a cache, the first generated word does not fit the prompt.")
def test_queries_are_the_last_slots(subject: Any) -> None:
    """A step of Q tokens has the last Q rows of the mask of the whole text."""
    valid = [[False, False, True, True, True, True], [True] * 6]
    for rules in ({}, {"window": 3, "n_sink": 1}, {"chunk": 2}):
        for q_len in (1, 2, 5, 6):
            got = subject.build_mask(torch.tensor(valid), q_len, **rules)
            _assert_mask(got, [_seen(_places(row), q_len, **rules) for row in valid])


@pytest.mark.symptom("A vision-language model answers differently when a prompt is padded.")
def test_a_prefix_overrules_window_and_future_but_not_padding(subject: Any) -> None:
    """Within each text's prefix all tokens see each other, though never padding or other texts."""
    valid = [[False, True, True, True, True, True], [True, True, True, True, True, False]]
    rules: dict[str, Any]
    ids = [[0, 0, 0, 0, 1, 1], [2, 2, 2, 1, 1, 1]]
    for segments in ([None, None], ids):
        for prefixes, rules in [([3, 2], {"window": 1}), ([1, 4], {"chunk": 2}), ([0, 9], {})]:
            got = subject.build_mask(
                torch.tensor(valid),
                5,
                prefix_len=torch.tensor(prefixes),
                segment_ids=torch.tensor(segments) if segments is ids else None,
                **rules,
            )
            rows = zip(valid, segments, prefixes, strict=True)
            _assert_mask(got, [_seen(_places(v, s), 5, prefix=p, **rules) for v, s, p in rows])


@pytest.mark.symptom("The same prompt is answered differently alone and in a batch.")
def test_a_padded_row_attends_as_it_would_alone(subject: Any, seed: int) -> None:
    """On either side padding, whatever it holds, changes nothing for the tokens of a row."""
    lengths, n_slots = [3, 6, 1], 6
    alone = [
        [_randn(seed + 3 * b + j, 1, 2, n, 4) for j in range(3)] for b, n in enumerate(lengths)
    ]
    for side in ("left", "right"):
        spans = [slice(n_slots - n, n_slots) if side == "left" else slice(0, n) for n in lengths]
        q, k, v = (torch.full((3, 2, n_slots, 4), math.nan) for _ in range(3))
        for b, span in enumerate(spans):
            for batched, single in zip((q, k, v), alone[b], strict=True):
                batched[b, :, span] = single[0]
        for rules in ({}, {"window": 2, "n_sink": 1}):
            valid = subject.padding_mask(torch.tensor(lengths), n_slots, side=side)
            mask = subject.build_mask(valid, n_slots, **rules)
            got = subject.masked_attention(q, k, v, mask)
            for b, span in enumerate(spans):
                _assert_close(got[b : b + 1, :, span], _attend_alone(alone[b], rules))


@pytest.mark.symptom("Several texts packed into one row are answered differently from one by one.")
def test_packed_documents_attend_as_they_would_alone(subject: Any, seed: int) -> None:
    """A document in a packed row gets the attention that it gets in a row of its own."""
    lengths = [2, 4, 1, 3]
    texts = [
        [_randn(seed + 3 * i + j, 1, 2, n, 4) for j in range(3)] for i, n in enumerate(lengths)
    ]
    q, k, v = (torch.cat([text[j] for text in texts], dim=2) for j in range(3))
    ids = torch.tensor([[7] * 2 + [3] * 4 + [7] + [0] * 3])
    for rules in ({}, {"window": 2, "n_sink": 1}, {"chunk": 2}):
        mask = subject.build_mask(torch.ones(1, 10, dtype=torch.bool), 10, segment_ids=ids, **rules)
        got = subject.masked_attention(q, k, v, mask)
        for text, part in zip(texts, got.split(lengths, dim=2), strict=True):
            _assert_close(part, _attend_alone(text, rules))


# ----- a batch at work


@pytest.mark.symptom("A model that mixes local and global layers forgets the start of a long text.")
def test_every_so_many_layers_one_is_global(subject: Any) -> None:
    """Of so many layers in a row the last one sees everything, others as the local spec says."""
    local = {"window": 4, "chunk": 8, "n_sink": 1}
    spec = subject.MaskSpec(**local)
    for n_layers, every in [(7, 3), (6, 6), (5, 6), (4, 1), (6, 2)]:
        specs = subject.layer_specs(n_layers, spec, global_every=every)
        everything = {"window": None, "chunk": None, "n_sink": 0}
        want = ([local] * (every - 1) + [everything]) * n_layers
        assert [subject.fields(each) for each in specs] == want[:n_layers]


@pytest.mark.symptom("Generated text gets worse with every word, though prompts are read well.")
def test_steps_of_a_batch_see_what_came_before(subject: Any, seed: int) -> None:
    """In chunks of prompts and in decoding, ragged or not, each step has the mask of its tokens."""
    rng = random.Random(seed)
    specs: list[dict[str, Any]] = [{}, {"window": 3}, {"window": 2, "n_sink": 1}, {"chunk": 3}]
    steps = [
        [[False, True, True, True], [True, True, True, True], [False, False, False, True]],
        [[True, True], [True, False], [False, True]],
        [[True], [False], [True]],
        [[rng.randrange(2) > 0 for _ in range(2)] for _ in range(3)],
        [[True], [True], [True]],
    ]
    prefixes = [2, 5, 1]
    for prefixed in (False, True):
        how = {"prefix_len": torch.tensor(prefixes)} if prefixed else {}
        masks = subject.BatchMasks(torch.tensor(steps[0]), **how)
        slots: list[list[bool]] = [[], [], []]
        for i, step in enumerate(steps):
            if i > 0:
                masks.append(torch.tensor(step))
            q_len = len(step[0])
            slots = [old + new for old, new in zip(slots, step, strict=True)]
            places = [_places(row) for row in slots]
            for spec in specs:
                limits = prefixes if prefixed else [0, 0, 0]
                rows = zip(places, limits, strict=True)
                want = [_seen(row, q_len, prefix=limit, **spec) for row, limit in rows]
                _assert_mask(masks.mask(subject.MaskSpec(**spec)), want)
            lengths, positions = masks.lengths, masks.positions
            assert (lengths.dtype, positions.dtype) == (torch.int64, torch.int64)
            assert lengths.tolist() == [sum(row) for row in slots]
            want_positions = [[p[1] if p else -1 for p in row[-q_len:]] for row in places]
            assert positions.tolist() == want_positions
            assert (masks.q_len, masks.valid.tolist()) == (q_len, slots)


@pytest.mark.symptom(
    "When requests finish or beams are reordered, others go on with a wrong context."
)
def test_rows_take_their_slots_and_prefixes_along(subject: Any) -> None:
    """Rows that move, repeat or leave keep what they were, in this step and in the next."""
    valid = [[False, False, True, True], [True, True, True, True], [False, True, True, True]]
    prefixes, rows = [0, 3, 2], [2, 0, 0, 1]
    spec = {"window": 2}
    for limits in (prefixes, None):
        given = None if limits is None else torch.tensor(limits)
        masks = subject.BatchMasks(torch.tensor(valid), prefix_len=given)
        masks.mask(subject.MaskSpec(**spec))
        slots, kept = list(valid), list(limits or [0, 0, 0])
        for selected in (rows, [1, 3, 0], [2]):
            masks.select_rows(selected)
            slots, kept = [slots[i] for i in selected], [kept[i] for i in selected]
            assert masks.lengths.tolist() == [sum(row) for row in slots]
            pairs = zip(slots, kept, strict=True)
            want = [_seen(_places(row), masks.q_len, prefix=n, **spec) for row, n in pairs]
            _assert_mask(masks.mask(subject.MaskSpec(**spec)), want)
            masks.append(torch.ones(len(selected), 1, dtype=torch.bool))
            slots = [[*row, True] for row in slots]
            want = [_seen(_places(row), 1, **spec) for row in slots]
            assert masks.mask(subject.MaskSpec(**spec)).tolist() == [[row] for row in want]


# ----- what kernels take


@pytest.mark.symptom("In float16 some answers are nothing but NaN.")
def test_a_bias_is_finite(subject: Any, seed: int) -> None:
    """Visible keys get 0, hidden ones the lowest finite number of the dtype that was asked for."""
    mask = _randn(seed, 2, 1, 3, 5) > 0
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        for each in (mask, mask[0, 0]):
            bias = subject.to_additive(each, dtype)
            assert subject.mutated == ()
            assert (bias.dtype, bias.shape) == (dtype, each.shape)
            lowest = torch.finfo(dtype).min
            assert torch.equal(bias == 0.0, each)
            assert set(bias[~each].tolist()) == {lowest}


@pytest.mark.symptom("A tiled kernel leaves out parts of a text, or shows what should be hidden.")
def test_tiles_are_skipped_only_where_nothing_is_seen(subject: Any, seed: int) -> None:
    """A tile is skipped, full or partial by what it shows; those over the edge are never full."""
    rng = random.Random(seed)
    for q_len, kv_len, block_q, block_k in [(6, 8, 2, 4), (5, 7, 2, 3), (4, 4, 1, 1), (3, 5, 4, 8)]:
        near = [[[k <= q + kv_len - q_len for k in range(kv_len)] for q in range(q_len)]]
        rows = [[[q < 4 for _ in range(kv_len)] for q in range(q_len)]]
        noise = [[[rng.randrange(4) > 0 for _ in range(kv_len)] for _ in range(q_len)]]
        mask = near + rows + noise + [[[True] * kv_len] * q_len]
        got = subject.tile_kinds(torch.tensor(mask)[:, None], block_q, block_k)
        want = [
            [
                [
                    _tile(
                        [row[k : k + block_k] for row in each[q : q + block_q]], block_q * block_k
                    )
                    for k in range(0, kv_len, block_k)
                ]
                for q in range(0, q_len, block_q)
            ]
            for each in mask
        ]
        assert (got.dtype, got.tolist()) == (torch.int64, want)
    assert (subject.SKIP, subject.PARTIAL, subject.FULL) == (0, 1, 2)


def _tile(rows: list[list[bool]], size: int) -> int:
    n_seen = sum(map(sum, rows))
    return 0 if n_seen == 0 else 2 if n_seen == size else 1


# ----- attention


@pytest.mark.symptom("Attention spends weight on words that do not exist.")
def test_weights_are_a_softmax_over_what_is_seen(subject: Any, seed: int) -> None:
    """Visible keys share a weight of one, hidden ones get none; with nothing in sight all is 0."""
    mask = _randn(seed + 1, 2, 1, 4, 6) > 0
    mask[..., 0] = True
    mask[0, 0, 2] = mask[1, 0, 0] = False
    # Large scores leave the range of an exponential, large hidden ones must not matter.
    for dtype, size in [(torch.float32, 1.0), (torch.float32, 300.0), (torch.bfloat16, 3.0)]:
        scores = (size * _randn(seed, 2, 3, 4, 6)).to(dtype)
        hidden = ~mask.expand_as(scores)
        got = subject.masked_softmax(scores.masked_fill(hidden, math.nan), mask)
        assert subject.mutated == ()
        assert got.shape == scores.shape
        want = torch.zeros(2, 3, 4, 6, dtype=torch.float64)
        for b, h, i in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 4))).tolist():
            seen = mask[b, 0, i]
            exact = scores[b, h, i, seen].double()
            want[b, h, i, seen] = torch.exp(exact - exact.logsumexp(dim=0)) if seen.any() else 0
        _assert_close(got, want)
        assert not got[hidden].any()


@pytest.mark.symptom("A model with grouped-query attention talks nonsense from the first word.")
def test_attention_is_exact(subject: Any, seed: int) -> None:
    """For one, some and all heads, any scale and any value width it is attention under the mask."""
    for n_heads, n_kv_heads, q_len, scale in [
        (6, 2, 5, None),
        (6, 3, 1, 0.5),
        (4, 1, 3, 1.5),
        (3, 3, 5, None),
    ]:
        q = _randn(seed, 2, n_heads, q_len, 4)
        k, v = _randn(seed + 1, 2, n_kv_heads, 7, 4), _randn(seed + 2, 2, n_kv_heads, 7, 3)
        mask = _randn(seed + 3, 2, 1, q_len, 7) > 0
        mask[..., 2] = True
        got = subject.masked_attention(q, k, v, mask, scale)
        assert subject.mutated == ()
        _assert_close(got, _attend(q, k, v, mask, scale))


@pytest.mark.symptom("Now and then a whole batch turns into NaN.")
def test_a_query_that_sees_nothing_gives_zeros(subject: Any, seed: int) -> None:
    """Its result is exactly zero, and what lies in slots that no query sees does not matter."""
    q, k, v = (_randn(seed + i, 2, 2, 4, 4) for i in range(3))
    mask = torch.ones(4, 4, dtype=torch.bool).tril().repeat(2, 1, 1, 1)
    mask[0, 0, 2] = False
    mask[1, 0, :, 1] = False
    want = _attend(q, k, v, mask)
    for rubbish in (math.nan, math.inf, -math.inf):
        k[1, :, 1], v[1, :, 1] = rubbish, rubbish
        got = subject.masked_attention(q, k, v, mask)
        _assert_close(got, want)
        assert not got[0, :, 2].any()
    got = subject.masked_attention(q, k, v, torch.zeros_like(mask))
    assert got.tolist() == torch.zeros(2, 2, 4, 4).tolist()


@pytest.mark.symptom("In bfloat16 and float16 answers are worse than the format explains.")
def test_low_precision_costs_little(subject: Any, seed: int) -> None:
    """With 16-bit inputs the result has their dtype and the error of one rounding."""
    for dtype in (torch.bfloat16, torch.float16):
        eps = torch.finfo(dtype).eps
        q = (2.0 * _randn(seed, 2, 4, 9, 8)).to(dtype)
        k, v = (_randn(seed + i, 2, 2, 9, 8).to(dtype) for i in (1, 2))
        mask = torch.ones(2, 1, 9, 9, dtype=torch.bool).tril()
        got = subject.masked_attention(q, k, v, mask)
        assert got.dtype == dtype
        want = _attend(q, k, v, mask)
        torch.testing.assert_close(got.double(), want, rtol=0.6 * eps, atol=0.1 * eps)


@pytest.mark.symptom("For some inputs a 16-bit model answers with nothing but NaN.")
def test_large_scores_do_no_harm(subject: Any) -> None:
    """Scores beyond what float16 or an exponential can hold give the right weights all the same."""
    generator = torch.Generator().manual_seed(0)
    for dtype, size in [(torch.float16, 64), (torch.float32, 32)]:
        # Small integers times a power of two: scores are exact, so that ties stay ties.
        q, k, v = (
            (torch.randint(-8, 9, (2, heads, 6, 4), generator=generator) * factor).to(dtype)
            for heads, factor in [(4, size), (2, size), (2, 1)]
        )
        mask = torch.ones(2, 1, 6, 6, dtype=torch.bool).tril()
        got = subject.masked_attention(q, k, v, mask)
        want = _attend(q, k, v, mask)
        torch.testing.assert_close(got.double(), want, rtol=1e-3, atol=1e-3)


# ----- the rest


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """A different default device changes nothing for inputs that lie where they lie."""
    ids, prefixes = torch.tensor([[0, 0, 0, 1, 1], [4, 4, 5, 5, 5]]), torch.tensor([2, 0])
    q, k, v = _randn(seed, 3, 2, 2, 5, 4)
    try:
        with subject.accelerator():
            valid = subject.padding_mask(torch.tensor([5, 3]), 5)
            right = subject.padding_mask(torch.tensor([5, 3]), 5, side="right")
            mask = subject.build_mask(
                valid, 5, window=2, chunk=3, n_sink=1, segment_ids=ids, prefix_len=prefixes
            )
            plain = subject.build_mask(right, 5)
            out = subject.masked_attention(q, k, v, mask)
            bias = subject.to_additive(mask, torch.float32)
            tiles = subject.tile_kinds(mask, 2, 2)
            masks = subject.BatchMasks(valid, prefix_len=prefixes)
            masks.append(torch.ones(2, 1, dtype=torch.bool))
            masks.select_rows([1, 0])
            step = masks.mask(subject.MaskSpec(window=4))
            positions, lengths = masks.positions, masks.lengths
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    slots = [[True] * 5, [False] * 2 + [True] * 3]
    rules: dict[str, Any] = {"window": 2, "chunk": 3, "n_sink": 1}
    rows = zip(slots, ids.tolist(), [2, 0], strict=True)
    _assert_mask(mask, [_seen(_places(s, i), 5, prefix=n, **rules) for s, i, n in rows])
    _assert_mask(plain, [_seen(_places(s), 5) for s in ([True] * 5, [True] * 3 + [False] * 2)])
    _assert_mask(step, [_seen(_places([*s, True]), 1, window=4) for s in slots[::-1]])
    assert (positions.tolist(), lengths.tolist()) == ([[3], [5]], [4, 6])
    _assert_close(out, _attend(q, k, v, mask))
    assert torch.equal(bias == 0, mask)
    assert torch.equal(tiles > 0, subject.tile_kinds(mask, 2, 2) > 0)


@pytest.mark.symptom("A mistake in a configuration goes unnoticed until answers are garbage.")
def test_misuse_is_refused(subject: Any) -> None:
    """Sizes out of range, masks of numbers and shapes that do not fit raise ValueError."""
    valid, positions = torch.ones(2, 4, dtype=torch.bool), torch.zeros(1, 3, dtype=torch.long)
    specs = [subject.MaskSpec()]
    q = torch.ones(2, 3, 4, 5)
    masks = subject.BatchMasks(valid)
    mistakes: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (subject.padding_mask, (torch.tensor([1]), 4), {"side": "centre"}),
        (subject.padding_mask, (torch.tensor([1, 5, 2]), 4), {}),
        (subject.padding_mask, (torch.tensor([1, -1, 2]), 4), {"side": "right"}),
        (subject.position_ids, (valid.long(),), {}),
        (subject.causal_window_mask, (positions, positions), {"window": 0}),
        (subject.causal_window_mask, (positions, positions), {"chunk": 0}),
        (subject.causal_window_mask, (positions, positions), {"n_sink": -1}),
        (subject.build_mask, (valid, 0), {}),
        (subject.build_mask, (valid, 5), {}),
        (subject.build_mask, (valid, 4), {"window": -1}),
        (subject.build_mask, (valid, 4), {"segment_ids": valid.long()[:, :3]}),
        (subject.build_mask, (valid, 4), {"segment_ids": valid.long()[:1]}),
        (subject.build_mask, (valid, 4), {"segment_ids": valid.long().repeat(1, 2)}),
        (subject.layer_specs, (4, specs[0]), {"global_every": 0}),
        (masks.append, (valid[:1],), {}),
        (masks.append, (valid[:, :0],), {}),
        (masks.append, (valid[:, 0],), {}),
        (masks.append, (valid[:, :, None],), {}),
        (masks.append, (valid.repeat(2, 1),), {}),
        (masks.mask, (subject.MaskSpec(window=0),), {}),
        (subject.to_additive, (valid, torch.int64), {}),
        (subject.tile_kinds, (valid[:, None, None], 0, 1), {}),
        (subject.tile_kinds, (valid[:, None, None], 1, 0), {}),
        (subject.masked_attention, (q, q[:, :2], q[:, :2], valid[:, None, None, :]), {}),
    ]
    for function, arguments, how in mistakes:
        with pytest.raises(ValueError, match=r"."):
            function(*arguments, **how)
    assert masks.valid.tolist() == valid.tolist()
    assert subject.padding_mask(torch.tensor([0, 4]), 4).sum() == 4
