"""What the block manager promises: `subject` is the file under test, `seed` differs between runs.

Where it matters what lies in a block, a dictionary plays the KV pool: each slot keeps the whole
history of the token that was written there, which is what its KV depends on.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

_Pool = dict[tuple[int, int], tuple[int, ...]]  # (block, place) -> tokens up to and with this one


def _words(seed: int, n: int) -> list[int]:
    """Return n different tokens."""
    return random.Random(seed).sample(range(1, 50_000), n)


def _write(pool: _Pool, table: list[int], tokens: list[int], start: int, size: int) -> None:
    assert len(table) == math.ceil(len(tokens) / size)
    for i in range(start, len(tokens)):
        pool[table[i // size], i % size] = tuple(tokens[: i + 1])


def _copy(pool: _Pool, pair: tuple[int, int] | None, size: int) -> None:
    for place in range(size if pair else 0):
        src, dst = pair or (0, 0)
        pool[dst, place] = pool.get((src, place), ())


def _read(pool: _Pool, table: list[int], n: int, size: int) -> list[tuple[int, ...]]:
    """Return the histories in the first n slots of a sequence."""
    assert len(table) == math.ceil(n / size)
    return [pool.get((table[i // size], i % size), ()) for i in range(n)]


def _history(tokens: list[int]) -> list[tuple[int, ...]]:
    return [tuple(tokens[: i + 1]) for i in range(len(tokens))]


def _admit(manager: Any, seq_id: str, tokens: list[int], adapter: str | None = None) -> int:
    """Allocate a prompt and compute it; return how many tokens came from the cache."""
    n_cached: int = manager.allocate(seq_id, tokens, adapter)
    manager.commit(seq_id, len(tokens))
    return n_cached


# ----- tables and counts


@pytest.mark.symptom("Under load, answers continue other people's texts.")
def test_every_sequence_reads_back_its_own_history(subject: Any) -> None:
    """In mixed traffic on a small pool every slot of a table holds its own sequence's history."""
    size, rng = 2, random.Random(7)
    manager = subject.BlockManager(8, size)
    pool: _Pool = {}
    texts: dict[str, list[int]] = {}

    for step in range(22):
        roll = rng.random()
        if len(texts) < 2 or (roll < 0.2 and len(texts) < 4):
            seq_id, tokens = f"r{step}", [rng.randrange(2) for _ in range(rng.choice([3, 4, 5]))]
            if not manager.can_allocate(tokens):
                with pytest.raises(subject.OutOfBlocks):
                    manager.allocate(seq_id, tokens)
                continue
            n_cached = manager.allocate(seq_id, tokens)
            _write(pool, manager.table(seq_id), tokens, n_cached, size)
            manager.commit(seq_id, len(tokens))
            texts[seq_id] = tokens
        elif roll < 0.35:
            parent = rng.choice(sorted(texts))
            manager.fork(parent, f"f{step}")
            texts[f"f{step}"] = list(texts[parent])
        elif roll < 0.55:
            seq_id = rng.choice(sorted(texts))
            manager.free(seq_id)
            del texts[seq_id]
        else:
            seq_id, token = rng.choice(sorted(texts)), rng.randrange(2)
            if manager.can_append(seq_id):
                _copy(pool, manager.append(seq_id, token), size)
                texts[seq_id].append(token)
                _write(pool, manager.table(seq_id), texts[seq_id], len(texts[seq_id]) - 1, size)
                manager.commit(seq_id, len(texts[seq_id]))
            else:
                with pytest.raises(subject.OutOfBlocks):
                    manager.append(seq_id, token)
    tables = {seq_id: manager.table(seq_id) for seq_id in texts}

    for seq_id, tokens in texts.items():
        assert _read(pool, tables[seq_id], len(tokens), size) == _history(tokens)
    assert manager.n_free == 8 - len({block for table in tables.values() for block in table})


@pytest.mark.symptom("After some hours the server has no room left although nothing is running.")
def test_no_block_is_lost(subject: Any) -> None:
    """Blocks in some table are not free, all others are, and free ones can all be used again."""
    manager = subject.BlockManager(5, 4)

    assert (manager.n_free, manager.usage) == (5, 0.0)
    manager.allocate("a", [1, 2, 3, 4, 5])
    manager.allocate("b", [6] * 8)
    assert sorted(manager.table("a") + manager.table("b")) == sorted(
        {*manager.table("a"), *manager.table("b")}
    )
    assert (manager.n_free, round(manager.usage, 6)) == (1, 0.8)
    manager.fork("a", "c")
    assert manager.n_free == 1
    manager.free("a")
    assert manager.n_free == 1
    manager.free("b")
    assert manager.n_free == 3
    manager.free("c")
    assert (manager.n_free, manager.usage) == (5, 0.0)
    manager.allocate("d", [*range(20)])
    assert sorted(manager.table("d")) == [0, 1, 2, 3, 4]
    assert (manager.n_free, manager.usage) == (0, 1.0)


@pytest.mark.symptom("Texts go wrong when they grow past certain lengths.")
def test_a_sequence_takes_a_block_when_its_last_one_is_full(subject: Any) -> None:
    """A table has as many blocks as its tokens need, from the first token past a full block."""
    for n_prompt in (1, 2):
        manager = subject.BlockManager(3, 2)
        manager.allocate("a", [*range(n_prompt)])
        for n in range(n_prompt, 6):
            assert len(manager.table("a")) == math.ceil(n / 2)
            manager.append("a", 100 + n)
        assert sorted(manager.table("a")) == [0, 1, 2]


@pytest.mark.symptom("Keys and values of some tokens are written over those of others.")
def test_slots_follow_the_block_table(subject: Any, seed: int) -> None:
    """Token i lies in block table[i // block_size], place i % block_size, for any range."""
    manager = subject.BlockManager(7, 3)
    manager.allocate("other", _words(seed, 4))
    manager.allocate("a", _words(seed + 1, 5))
    manager.free("other")
    for token in (1, 2, 3, 4):
        manager.append("a", token)
    table = manager.table("a")

    for start, stop in [(0, 9), (2, 7), (3, 3), (6, 9)]:
        want = [table[i // 3] * 3 + i % 3 for i in range(start, stop)]
        assert list(manager.slots("a", start, stop)) == want


# ----- reuse of prefixes


@pytest.mark.symptom("A prompt that was just answered is slow again, or fails the second time.")
def test_a_prompt_seen_before_is_reused_up_to_its_last_token(subject: Any, seed: int) -> None:
    """A repeated prompt reuses every full block, but leaves at least its last token to compute."""
    tokens = _words(seed, 9)
    manager = subject.BlockManager(8, 4)
    assert _admit(manager, "a", tokens) == 0
    table = manager.table("a")

    for n, n_found in [(9, 2), (8, 1), (7, 1), (5, 1), (4, 0), (3, 0), (1, 0)]:
        assert manager.match_prefix(tokens[:n]) == table[:n_found]
    for n, n_cached, n_free in [(9, 8, 4), (8, 4, 3)]:
        assert manager.allocate(n, tokens[:n]) == n_cached
        assert manager.n_free == n_free
        assert manager.table(n)[: n_cached // 4] == table[: n_cached // 4]


@pytest.mark.symptom("A question gets an answer that fits another user's beginning.")
def test_blocks_are_reused_only_after_the_same_text(subject: Any, seed: int) -> None:
    """A block is reused only if all tokens in it and all tokens before it are the same."""
    x = _words(seed, 9)
    other = 60_000
    prompts = {
        "first token differs": ([other, *x[1:]], 0),
        "last of the first block differs": ([*x[:3], other, *x[4:]], 0),
        "first of the second block differs": ([*x[:4], other, *x[5:]], 4),
        "last of the second block differs": ([*x[:7], other, x[8]], 4),
        "starts with the second block": ([*x[4:8], *x[4:8], 1], 0),
        "blocks swapped": ([*x[4:8], *x[:4], 1], 0),
        "second block elsewhere": ([*x[:4], *[other] * 4, *x[4:8], 1], 4),
        "order within a block": ([x[1], x[0], *x[2:]], 0),
        "longer": ([*x[:8], *x[:8]], 8),
    }
    manager = subject.BlockManager(8, 4)
    _admit(manager, "a", x)

    for tokens, n_cached in prompts.values():
        assert manager.allocate("b", tokens) == n_cached
        manager.free("b")
    manager = subject.BlockManager(8, 4)
    _admit(manager, "a", [*x[:8], *x[:5]])
    for place in range(12):
        tokens = [*x[:8], *x[:5]]
        tokens[place] = other
        assert manager.allocate("b", tokens) == place // 4 * 4
        manager.free("b")


@pytest.mark.symptom("Requests with a fine-tuned adapter sound like the base model.")
def test_adapters_do_not_share_blocks(subject: Any, seed: int) -> None:
    """The same prompt under another adapter is computed anew; under the same one it is reused."""
    tokens = _words(seed, 9)
    manager = subject.BlockManager(12, 4)
    for seq_id, adapter in [("none", None), ("one", "one"), ("two", "two")]:
        assert _admit(manager, seq_id, tokens, adapter) == 0
    for seq_id, adapter in [("none", None), ("one", "one"), ("two", "two")]:
        assert manager.match_prefix(tokens, adapter) == manager.table(seq_id)[:2]
    assert manager.n_free == 3

    manager.fork("one", "child")
    for token in (1, 2, 3):
        manager.append("child", token)
    manager.commit("child", 12)
    longer = [*tokens, 1, 2, 3, 4]
    assert len(manager.match_prefix(longer, "one")) == 3
    assert len(manager.match_prefix(longer)) == 2
    manager = subject.BlockManager(4, 4)
    _admit(manager, "one", tokens, "one")
    fits = [manager.can_allocate(tokens, adapter) for adapter in (None, "one", "two")]
    assert fits == [False, True, False]


@pytest.mark.symptom("Two users who send the same prompt at once: the second gets nonsense.")
def test_blocks_that_are_not_computed_or_not_full_are_not_reused(subject: Any, seed: int) -> None:
    """Only full blocks whose KV exists already are found, chunk after chunk of a long prompt."""
    tokens = _words(seed, 13)
    manager = subject.BlockManager(16, 4)
    manager.allocate("a", tokens)
    table = manager.table("a")

    for n_computed, n_found in [(0, 0), (3, 0), (4, 1), (11, 2), (12, 3), (13, 3), (5, 3)]:
        manager.commit("a", n_computed)
        assert manager.match_prefix([*tokens, 1]) == table[:n_found]


@pytest.mark.symptom("A follow-up question in a chat computes the whole conversation again.")
def test_generated_tokens_are_reused(subject: Any, seed: int) -> None:
    """The next turn of a chat reuses the blocks of prompt and answer, also one by one committed."""
    tokens = _words(seed, 9)
    manager = subject.BlockManager(8, 3)
    _admit(manager, "a", tokens[:5])
    for n in range(5, 9):
        manager.append("a", tokens[n])
        manager.commit("a", n + 1)
    table = manager.table("a")
    manager.free("a")

    assert manager.allocate("b", [*tokens, 1]) == 9
    assert manager.table("b")[:3] == table


@pytest.mark.symptom("A finished conversation is forgotten at once although there is room.")
def test_a_freed_block_is_reusable_until_it_is_handed_out_again(subject: Any, seed: int) -> None:
    """Reviving a freed block takes it off the free ones; with new content it is found no more."""
    x, y = _words(seed, 9), [60_000 + i for i in range(16)]
    manager = subject.BlockManager(4, 4)
    _admit(manager, "a", x)
    table = manager.table("a")
    manager.free("a")
    assert manager.n_free == 4

    assert manager.allocate("b", x) == 8
    assert manager.table("b")[:2] == table[:2]
    assert manager.n_free == 1
    manager.free("b")
    assert _admit(manager, "c", y) == 0
    assert manager.match_prefix(x) == []
    first = manager.table("c")[0]
    manager.free("c")
    assert manager.allocate("d", x) == 0
    assert manager.match_prefix(y) == [first]


@pytest.mark.symptom("Frequently used prompts are thrown out while stale ones stay.")
def test_least_recently_freed_blocks_go_first(subject: Any, seed: int) -> None:
    """Blocks are evicted in the order they were freed, of one sequence the end before the start."""
    words = _words(seed, 8)
    texts = {"a": words[:4], "b": words[4:]}
    manager = subject.BlockManager(4, 2)
    for seq_id, tokens in texts.items():
        _admit(manager, seq_id, tokens)
    manager.free("b")
    manager.free("a")

    left = []
    for i in range(4):
        manager.allocate(i, [60_000 + i])
        left.append([len(manager.match_prefix([*texts[name], 1])) for name in "ba"])
    assert left == [[1, 2], [0, 2], [0, 1], [0, 0]]


@pytest.mark.symptom("The system prompt that every request uses is computed again and again.")
def test_reuse_makes_a_block_recent(subject: Any, seed: int) -> None:
    """A freed text that was used once more outlives one that was freed after its first use."""
    words = _words(seed, 12)
    manager = subject.BlockManager(6, 2)
    _admit(manager, "a", words[:6])
    _admit(manager, "b", words[6:])
    manager.free("a")
    manager.free("b")
    assert manager.allocate("c", [*words[:6], 1]) == 6
    assert len(set(manager.table("c"))) == 4
    assert manager.n_free == 2
    manager.free("c")

    manager.allocate("d", [60_000, 60_001, 60_002])
    assert len(manager.match_prefix([*words[:6], 1])) == 3
    assert len(manager.match_prefix([*words[6:], 1])) < 2


@pytest.mark.symptom("A prompt in use right now is suddenly computed again.")
def test_replacing_a_block_loses_only_its_own_text(subject: Any, seed: int) -> None:
    """A text that moved to another block is still found when its former block is used again."""
    x = _words(seed, 3)
    manager = subject.BlockManager(3, 2)
    _admit(manager, "a", x[:2])
    home = manager.table("a")
    manager.free("a")
    for i in range(3):
        manager.allocate(i, [60_000 + i])
    guest = next(i for i in range(3) if manager.table(i) == home)
    manager.free((guest + 1) % 3)
    assert _admit(manager, "b", x[:2]) == 0
    manager.free(guest)
    manager.allocate("c", [60_003])

    assert manager.table("c") == home
    assert manager.match_prefix(x) == manager.table("b")


@pytest.mark.symptom("Rarely, a prompt that several users sent at the same time breaks the server.")
def test_content_that_was_computed_twice_stays_consistent(subject: Any, seed: int) -> None:
    """Of two sequences with equal text in blocks of their own, either can go and be replaced."""
    x, y = _words(seed, 8), [60_000 + i for i in range(16)]
    for first, second in [("b", "a"), ("a", "b")]:
        manager = subject.BlockManager(6, 4)
        manager.allocate("a", x)
        manager.allocate("b", x)
        manager.commit("a", 8)
        manager.commit("b", 8)
        table = manager.table(second)
        manager.free(first)
        _admit(manager, "c", y)
        assert manager.match_prefix([*x, 1]) in ([table] if second == "a" else [table, []])
        assert manager.match_prefix([*y, 1]) == manager.table("c")
        manager.free(second)
        assert manager.allocate("d", [70_000 + i for i in range(8)]) == 0
        assert sorted(manager.table("d")) == sorted(table)
        assert manager.match_prefix([*x, 1]) == []


@pytest.mark.symptom("An answer continues a text whose beginning it never saw.")
def test_a_block_without_its_beginning_is_not_reused(subject: Any, seed: int) -> None:
    """When an early block of a text is gone, its later blocks are not used in the wrong place."""
    x = _words(seed, 4)
    manager = subject.BlockManager(4, 2)
    manager.allocate("a", x[:2])
    manager.allocate("b", x)
    manager.commit("a", 2)
    manager.commit("b", 4)
    manager.free("a")
    manager.allocate("c", [60_000, 60_001, 60_002])

    assert manager.match_prefix([*x, 1]) in ([], manager.table("b"))


# ----- room


@pytest.mark.symptom("The server crashes under memory pressure when a cached prompt comes back.")
def test_a_free_cached_block_is_not_counted_twice(subject: Any, seed: int) -> None:
    """A block both cached and free is a hit or room, never both; a refusal changes nothing."""
    tokens = _words(seed, 9)
    manager = subject.BlockManager(3, 4)
    _admit(manager, "a", tokens[:8])
    table = manager.table("a")
    manager.free("a")
    manager.allocate("b", [60_000])

    assert not manager.can_allocate(tokens)
    with pytest.raises(subject.OutOfBlocks):
        manager.allocate("c", tokens)
    assert manager.n_free == 2
    assert manager.match_prefix(tokens) == table
    assert manager.can_allocate(tokens[:8])
    assert manager.allocate("c", tokens[:8]) == 4
    assert manager.n_free == 0
    manager = subject.BlockManager(2, 4)
    _admit(manager, "a", tokens[:4])
    manager.free("a")
    manager.allocate("b", [60_000])
    assert [manager.can_allocate(tokens[:n]) for n in (4, 5)] == [True, False]


@pytest.mark.symptom("Requests wait although there is room for them.")
def test_a_prompt_needs_room_only_for_what_it_does_not_share(subject: Any, seed: int) -> None:
    """Blocks of a running sequence cost nothing; a prompt that exactly fits is admitted."""
    tokens = _words(seed, 9)
    manager = subject.BlockManager(4, 4)
    assert not manager.can_allocate([*range(17)])
    assert manager.can_allocate([*range(16)])
    _admit(manager, "a", tokens)

    assert not manager.can_allocate([60_000, *tokens[1:]])
    assert not manager.can_allocate([*tokens, 1, 2, 3, 4])
    assert manager.can_allocate(tokens)
    assert manager.allocate("b", tokens) == 8
    assert manager.table("b")[:2] == manager.table("a")[:2]
    assert manager.n_free == 0


@pytest.mark.symptom("Running answers are interrupted because new requests took the last block.")
def test_new_sequences_leave_the_watermark_free(subject: Any, seed: int) -> None:
    """Prompts cannot use the last watermark_blocks blocks, growing sequences can."""
    manager = subject.BlockManager(4, 2, watermark_blocks=1)
    tokens = _words(seed, 7)

    assert not manager.can_allocate(tokens)
    with pytest.raises(subject.OutOfBlocks):
        manager.allocate("a", tokens)
    assert manager.can_allocate(tokens[:6])
    manager.allocate("a", tokens[:6])
    assert not manager.can_allocate([1])
    assert manager.can_append("a")
    assert manager.append("a", 1) is None
    assert manager.n_free == 0


@pytest.mark.symptom("When memory is full, one request's text is damaged, or all of them stall.")
def test_growth_without_room_is_refused(subject: Any) -> None:
    """can_append tells the truth: a token fits into a started block of its own or a free one."""
    manager = subject.BlockManager(2, 3)
    manager.allocate("a", (1, 2))
    manager.allocate("b", (4, 5))
    manager.fork("b", "c")
    assert manager.n_free == 0

    assert [manager.can_append(name) for name in "abc"] == [True, False, False]
    with pytest.raises(subject.OutOfBlocks):
        manager.append("c", 6)
    assert manager.append("a", 3) is None
    assert not manager.can_append("a")
    with pytest.raises(subject.OutOfBlocks):
        manager.append("a", 4)
    assert len(manager.table("a")) == 1
    manager.free("b")
    assert manager.can_append("c")
    assert manager.append("c", 6) is None
    manager.free("c")
    assert manager.can_append("a")
    manager.append("a", 4)
    assert sorted(manager.table("a")) == [0, 1]
    manager = subject.BlockManager(3, 2)
    _admit(manager, "a", [1, 2, 3])
    assert manager.allocate("b", [1, 2, 4]) == 2
    assert (manager.n_free, manager.can_append("a")) == (0, True)
    assert manager.append("a", 5) is None


# ----- forks


@pytest.mark.symptom("With n=3 samples per prompt the samples get mixed up.")
def test_a_shared_block_is_copied_before_it_is_written(subject: Any, seed: int) -> None:
    """Forks share all blocks; each writer but the last gets a copy of a shared, unfinished one."""
    tokens = _words(seed, 6)
    manager = subject.BlockManager(8, 4)
    pool: _Pool = {}
    manager.allocate("a", tokens)
    _write(pool, manager.table("a"), tokens, 0, 4)
    manager.fork("a", "b")
    manager.fork("b", "c")
    head, tail = manager.table("a")
    assert manager.table("b") == manager.table("c") == [head, tail]
    assert manager.n_free == 6

    texts = {name: [*tokens, 60_000 + i] for i, name in enumerate("bac")}
    pairs = []
    for name in "bac":
        pair = manager.append(name, texts[name][-1])
        _copy(pool, pair, 4)
        _write(pool, manager.table(name), texts[name], 6, 4)
        pairs.append(pair)
    tables = {name: manager.table(name) for name in "abc"}
    assert [tables[name][0] for name in "abc"] == [head] * 3
    assert [tuple(pair) for pair in pairs[:2]] == [(tail, tables[n][1]) for n in "ba"]
    assert pairs[2] is None
    assert tables["c"][1] == tail
    assert len({tables[name][1] for name in "abc"}) == 3
    assert manager.n_free == 4
    for name, text in texts.items():
        assert _read(pool, tables[name], 7, 4) == _history(text)


@pytest.mark.symptom("One of several samples ends in the middle of another one's sentence.")
def test_forks_grow_apart(subject: Any, seed: int) -> None:
    """After a full shared block each fork takes its own, and each own text is found again."""
    tokens = _words(seed, 4)
    manager = subject.BlockManager(8, 4)
    _admit(manager, "a", tokens)
    manager.fork("a", "b")
    texts = {"b": [*tokens, 1, 2, 3, 4, 5], "a": [*tokens, 6, 7, 8, 9]}

    for name in "ba":
        assert [manager.append(name, token) for token in texts[name][4:]] == [None] * len(
            texts[name][4:]
        )
        manager.commit(name, len(texts[name]))
    assert (len(manager.table("a")), len(manager.table("b"))) == (2, 3)
    assert manager.n_free == 4
    assert manager.match_prefix([*texts["b"], 1]) == manager.table("b")[:2]
    assert manager.match_prefix([*texts["a"], 1]) == manager.table("a")


@pytest.mark.symptom("Attention over a shared prompt reads blocks that only some requests have.")
def test_common_blocks_are_those_all_sequences_start_with(subject: Any, seed: int) -> None:
    """The shared prefix of several block tables ends at the first column where they differ."""
    tokens = _words(seed, 8)
    manager = subject.BlockManager(12, 2)
    _admit(manager, "a", tokens)
    manager.allocate("b", [*tokens[:6], 1])
    manager.allocate("c", [*tokens[:2], 1])
    manager.fork("a", "d")
    manager.append("d", 1)

    names = [["a"], ["a", "d"], ["a", "b"], ["b", "a", "d"], ["a", "b", "c"], []]
    assert [manager.n_common_blocks(group) for group in names] == [4, 4, 3, 3, 1, 0]
    manager = subject.BlockManager(8, 2)
    manager.allocate("a", tokens[:4])
    manager.allocate("b", tokens[:4])
    manager.commit("a", 2)
    manager.commit("b", 4)
    manager.allocate("c", tokens[:5])
    assert manager.n_common_blocks(["b", "c"]) == 0


# ----- taking tokens back


@pytest.mark.symptom("With speculative decoding memory fills up, or texts repeat rejected words.")
def test_rejected_tokens_give_their_blocks_back(subject: Any, seed: int) -> None:
    """Truncation leaves the blocks that the kept tokens need, and growth goes on from there."""
    tokens = _words(seed, 6)
    manager = subject.BlockManager(8, 4)
    manager.allocate("a", tokens)
    manager.fork("a", "b")
    for token in (1, 2, 3):
        manager.append("a", token)
    assert len(manager.table("a")) == 3

    kept = manager.table("a")
    for n, n_blocks, n_free in [(9, 3, 4), (8, 2, 5), (5, 2, 5), (4, 1, 6), (1, 1, 6)]:
        manager.truncate("a", n)
        assert manager.table("a") == kept[:n_blocks]
        assert manager.n_free == n_free
    pair = manager.append("a", 7)
    assert pair is not None
    assert pair[0] == manager.table("b")[0]
    assert manager.append("a", 8) is None
    assert [manager.append("a", token) for token in (9, 10)] == [None] * 2
    assert len(manager.table("a")) == 2
    assert not set(manager.table("a")) & set(manager.table("b"))
    assert list(manager.slots("b", 4, 6)) == [manager.table("b")[1] * 4 + i for i in range(2)]


@pytest.mark.symptom("A prompt gets an answer to what a draft model had only guessed.")
def test_a_block_written_again_is_not_found_by_its_old_text(subject: Any, seed: int) -> None:
    """After truncation and other tokens only the new text is found, and sharers keep the old."""
    x = _words(seed, 9)
    old, new = x[:8], [*x[:6], 60_000, 60_001]
    pool: _Pool = {}
    manager = subject.BlockManager(8, 4)
    manager.allocate("a", old)
    _write(pool, manager.table("a"), old, 0, 4)
    manager.commit("a", 8)
    assert manager.allocate("b", x) == 8
    manager.truncate("a", 6)
    for n in (6, 7):
        _copy(pool, manager.append("a", new[n]), 4)
        _write(pool, manager.table("a"), new[: n + 1], n, 4)
    manager.commit("a", 8)

    assert manager.match_prefix([*old, 1]) == manager.table("b")[:2]
    assert manager.match_prefix([*new, 1]) == manager.table("a")
    assert _read(pool, manager.table("b")[:2], 8, 4) == _history(old)
    assert _read(pool, manager.table("a"), 8, 4) == _history(new)

    newer = [*new[:7], 60_002]
    manager.truncate("a", 7)
    _copy(pool, manager.append("a", newer[7]), 4)
    _write(pool, manager.table("a"), newer, 7, 4)
    manager.commit("a", 8)
    for text in (new, newer):
        found = manager.match_prefix([*text, 1])
        assert _read(pool, found, 4 * len(found), 4) == _history(text)[: 4 * len(found)]
    assert found == manager.table("a")


# ----- the rest


@pytest.mark.symptom("The dashboard shows an impossible hit rate.")
def test_statistics_count_tokens_of_admitted_prompts(subject: Any, seed: int) -> None:
    """Queries are all tokens of admitted prompts, hits those that needed no computation."""
    tokens = _words(seed, 10)
    manager = subject.BlockManager(4, 4)
    assert manager.stats.hit_rate == 0.0
    _admit(manager, "a", tokens[:9])
    manager.can_allocate(tokens)
    with pytest.raises(subject.OutOfBlocks):
        manager.allocate("b", [60_000, *tokens])
    manager.allocate("b", tokens)
    assert subject.fields(manager.stats) == {"queries": 19, "hits": 8}
    manager.free("b")
    manager.allocate("c", tokens[:7])

    assert subject.fields(manager.stats) == {"queries": 26, "hits": 12}
    assert math.isclose(manager.stats.hit_rate, 12 / 26)
    manager.free("c")
    manager.allocate("d", tokens[:7])
    assert subject.fields(manager.stats) == {"queries": 33, "hits": 16}


@pytest.mark.symptom("With the prefix cache switched off, requests still share their prompts.")
def test_without_prefix_caching_every_prompt_is_computed(subject: Any, seed: int) -> None:
    """Switched off, no block is ever found again; forks share and copy all the same."""
    tokens = _words(seed, 5)
    manager = subject.BlockManager(6, 2, prefix_caching=False)
    assert _admit(manager, "a", tokens) == 0
    assert manager.match_prefix(tokens) == []
    assert manager.allocate("b", tokens) == 0
    assert not set(manager.table("a")) & set(manager.table("b"))
    manager.free("b")

    manager.fork("a", "c")
    assert manager.table("c") == manager.table("a")
    assert tuple(manager.append("c", 1)) == (manager.table("a")[2], manager.table("c")[2])
    manager.commit("c", 6)
    assert manager.match_prefix([*tokens, 1, 2]) == []


@pytest.mark.symptom("A bug in the scheduler goes unnoticed until texts are mixed up.")
def test_misuse_is_refused(subject: Any) -> None:
    """Impossible pools, unknown or repeated sequences and counts out of range raise ValueError."""
    for n_blocks, block_size, watermark in [(0, 4, 0), (4, 0, 0), (4, 4, -1), (4, 8, 4), (4, 8, 5)]:
        with pytest.raises(ValueError, match=r"."):
            subject.BlockManager(n_blocks, block_size, watermark_blocks=watermark)
    assert subject.BlockManager(1, 1).can_allocate([7])
    manager = subject.BlockManager(4, 3, watermark_blocks=3)
    manager.allocate("a", [1, 2])
    manager.fork("a", "b")
    wrong: list[tuple[str, tuple[Any, ...]]] = [
        ("allocate", ("a", [7])),
        ("allocate", ("c", [])),
        ("fork", ("a", "b")),
        ("fork", ("c", "d")),
        ("commit", ("a", 3)),
        ("commit", ("a", -1)),
        ("truncate", ("a", 0)),
        ("truncate", ("a", 3)),
        ("slots", ("a", 0, 3)),
        ("slots", ("a", -1, 1)),
        ("slots", ("a", 2, 1)),
        ("n_common_blocks", (["a", "c"],)),
        ("append", ("c", 1)),
        *((name, ("c",)) for name in ("table", "can_append", "free")),
    ]
    for name, arguments in wrong:
        with pytest.raises(ValueError, match=r"."):
            getattr(manager, name)(*arguments)

    manager.free("a")
    assert manager.n_free == 3
    manager.free("b")
    assert manager.n_free == 4
    with pytest.raises(ValueError, match=r"."):
        manager.free("b")
