"""The block manager against transformers, and its promises against rewrites and wrong files."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading

NAME = "block_manager"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers, and against its own books


@pytest.mark.parametrize("block_size", [1, 2, 4])
def test_prefixes_are_reused_as_in_transformers(block_size: int) -> None:
    """Prompts over two tokens, so that many begin alike; no block is evicted."""
    pytest.importorskip("transformers")
    allocators = pytest.importorskip("transformers.generation.continuous_batching.cache_allocators")
    import torch
    from transformers import LlamaConfig

    config = LlamaConfig(hidden_size=8, num_attention_heads=1, num_key_value_heads=1)
    theirs: Any = allocators.FullAttentionCacheAllocator(
        index=0,
        config=config,
        num_key_value_heads=1,
        cache_dtype=torch.float32,
        page_size=block_size,
        layer_indices=[0],
        allow_block_sharing=True,
    )
    theirs.pool = SimpleNamespace(free_blocks=lambda *_: None)
    ours = load(NAME, SOURCE).BlockManager(4000, block_size)
    rng = random.Random(block_size)
    fresh = iter(range(10_000))
    hits = 0

    for step in range(120):
        tokens = [rng.randrange(2) for _ in range(rng.randrange(1, 20))]
        matched = theirs.match_prefix_blocks(tokens)
        n_cached = ours.allocate(step, tokens)
        assert n_cached == len(matched) * block_size
        theirs.acquire_prefix_blocks(step, n_cached, matched)
        n_blocks = len(ours.table(step))
        theirs.block_table[step] += [next(fresh) for _ in range(n_blocks - len(matched))]
        if rng.random() < 0.7:
            ours.commit(step, len(tokens))
            theirs.mark_complete_blocks(step, tokens, len(tokens) // block_size - len(matched))
        hits += n_cached
    assert ours.stats.hits == hits > 0


def _check_books(manager: Any) -> None:
    """Compare every count with what the block tables say."""
    owners = [0] * len(manager.pool.blocks)
    for seq in manager.sequences.values():
        assert len(seq.block_table) == -(-len(seq.tokens) // manager.block_size)
        assert len(set(seq.block_table)) == len(seq.block_table)
        for block_id in seq.block_table:
            owners[block_id] += 1
    assert [block.ref_count for block in manager.pool.blocks] == owners
    assert sorted(manager.pool.free_queue) == [i for i, n in enumerate(owners) if n == 0]
    found = {block.block_hash: block.block_id for block in manager.pool.blocks if block.block_hash}
    assert manager.pool.cached == found


@pytest.mark.parametrize("seed", range(12))
def test_random_traffic_keeps_books_and_texts_straight(seed: int) -> None:
    """A dictionary plays the KV pool: every slot keeps the history of the token written there."""
    rng = random.Random(seed)
    size = rng.choice([1, 2, 3])
    module = load(NAME, SOURCE)
    manager = module.BlockManager(9, size, watermark_blocks=seed % 2)
    kv: dict[int, tuple[int, ...]] = {}
    texts: dict[int, list[int]] = {}

    def write(seq_id: int, start: int) -> None:
        tokens = texts[seq_id]
        slots = manager.slots(seq_id, start, len(tokens))
        kv.update({s: tuple(tokens[: start + i + 1]) for i, s in enumerate(slots)})
        manager.commit(seq_id, len(tokens))

    for step in range(150):
        seq_id = rng.choice([*texts, step])
        if seq_id == step:
            tokens = [rng.randrange(2) for _ in range(rng.randrange(1, 9))]
            try:
                n_cached = manager.allocate(step, tokens)
            except module.OutOfBlocks:
                assert not manager.can_allocate(tokens)
                continue
            texts[step] = tokens
            write(step, n_cached)
        elif rng.random() < 0.6:
            if manager.can_append(seq_id):
                for src, dst in filter(None, [manager.append(seq_id, token := rng.randrange(2))]):
                    kv.update({dst * size + i: kv.get(src * size + i, ()) for i in range(size)})
                texts[seq_id].append(token)
                write(seq_id, len(texts[seq_id]) - 1)
        elif rng.random() < 0.4:
            n_tokens = rng.randrange(1, len(texts[seq_id]) + 1)
            manager.truncate(seq_id, n_tokens)
            del texts[seq_id][n_tokens:]
        elif rng.random() < 0.5:
            manager.fork(seq_id, step)
            texts[step] = list(texts[seq_id])
        else:
            manager.free(seq_id)
            del texts[seq_id]
        _check_books(manager)
        for name, tokens in texts.items():
            slots = manager.slots(name, 0, len(tokens))
            assert [kv[s] for s in slots] == [tuple(tokens[: i + 1]) for i in range(len(tokens))]


# ----- rewrites


IDENTITY_BY_CONTENT = (
    (
        "    identity = (parent_hash, tuple(tokens), adapter)\n"
        "    return hashlib.sha256(repr(identity).encode()).digest()",
        "    digest = hashlib.blake2b(parent_hash, digest_size=16, key=(adapter or '').encode())\n"
        "    digest.update(b'-' if adapter is None else b'+')\n"
        "    for token in tokens:\n"
        "        digest.update(int(token).to_bytes(8, 'little'))\n"
        "    return digest.digest()",
    ),
)
FREE_LIST = (
    (
        "OrderedDict[int, None] = OrderedDict.fromkeys(range(n_blocks))",
        "list[int] = [*range(n_blocks)]",
    ),
    ("block_id, _ = self.free_queue.popitem(last=False)", "block_id = self.free_queue.pop(0)"),
    ("del self.free_queue[block_id]", "self.free_queue.remove(block_id)"),
    ("self.free_queue[block_id] = None", "self.free_queue.append(block_id)"),
)
COPIES_RATHER_THAN_FORGETS = (
    (
        "return self.pool.blocks[block_id].ref_count > 1",
        "block = self.pool.blocks[block_id]\n"
        "        return block.ref_count > 1 or block.block_hash is not None",
    ),
    (
        "        else:\n            self.pool.forget(self.pool.blocks[seq.block_table[-1]])\n",
        "",
    ),
)
REGISTERS_FROM_THE_START = (
    (
        "        for index in range(len(seq.block_hashes), n_computed // self.block_size):\n"
        "            parent_hash = seq.block_hashes[-1] if seq.block_hashes else ROOT_HASH\n",
        "        seq.block_hashes = []\n"
        "        for index in range(n_computed // self.block_size):\n"
        "            parent_hash = ([ROOT_HASH] + seq.block_hashes)[-1]\n",
    ),
)
OTHER_IDIOMS = (
    ("return -(-a // b)", "return (a + b - 1) // b"),
    (
        "        for block_id in reversed(seq.block_table):\n"
        "            self.pool.release(block_id)\n"
        "        del self.sequences[seq_id]",
        "        self.sequences.pop(seq_id)\n"
        "        while seq.block_table:\n"
        "            self.pool.release(seq.block_table.pop())",
    ),
    (
        "        return [seq.block_table[i // size] * size + i % size for i in range(start, stop)]",
        "        flat = [block * size + i for block in seq.block_table for i in range(size)]\n"
        "        return flat[start:stop]",
    ),
    (
        "            src, dst = seq.block_table[-1], self.pool.take()\n"
        "            self.pool.release(src)\n"
        "            seq.block_table[-1] = dst\n",
        "            src = seq.block_table.pop()\n"
        "            dst = self.pool.take()\n"
        "            seq.block_table = [*seq.block_table, dst]\n"
        "            self.pool.release(src)\n",
    ),
    (
        "return 1.0 - self.n_free / len(self.pool.blocks)",
        "owned = [block for block in self.pool.blocks if block.ref_count]\n"
        "        return len(owned) / len(self.pool.blocks)",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(IDENTITY_BY_CONTENT, id="another hash"),
        pytest.param(FREE_LIST, id="a plain list of free blocks"),
        pytest.param(COPIES_RATHER_THAN_FORGETS, id="cached blocks are never written"),
        pytest.param(REGISTERS_FROM_THE_START, id="duplicates step in for evicted blocks"),
        pytest.param(OTHER_IDIOMS, id="other idioms"),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_correct_rewrite_keeps_every_promise(
    edits: tuple[tuple[str, str], ...], seed: int
) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=seed) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            ("return n_cached", "return 0"),
            "test_a_prompt_seen_before_is_reused_up_to_its_last_token",
            id="claims no hit",
        ),
        pytest.param(
            ("return n_cached", "return len(tokens)"),
            "test_a_prompt_seen_before_is_reused_up_to_its_last_token",
            id="echoes the length",
        ),
        pytest.param(
            ("return list(self._sequence(seq_id).block_table)", "return [0]"),
            "test_a_sequence_takes_a_block_when_its_last_one_is_full",
            id="one table for all",
        ),
        pytest.param(
            ("        return copy", "        return None"),
            "test_a_shared_block_is_copied_before_it_is_written",
            id="never says what to copy",
        ),
        pytest.param(
            ("return self._fits(tokens, self.match_prefix(tokens, adapter))", "return True"),
            "test_a_prompt_needs_room_only_for_what_it_does_not_share",
            id="always room",
        ),
        pytest.param(
            ("return len(self.pool.free_queue)", "return len(self.pool.blocks)"),
            "test_no_block_is_lost",
            id="a constant number of free blocks",
        ),
        pytest.param(
            ("        return matched", "        return []"),
            "test_generated_tokens_are_reused",
            id="finds nothing",
        ),
        pytest.param(
            ("return self.hits / self.queries if self.queries else 0.0", 'return float("nan")'),
            "test_statistics_count_tokens_of_admitted_prompts",
            id="not a number",
        ),
        pytest.param(
            ("        return n_common", "        return 0"),
            "test_common_blocks_are_those_all_sequences_start_with",
            id="nothing in common",
        ),
        pytest.param(
            ("for i in range(start, stop)]", "for i in range(0, stop)]"),
            "test_slots_follow_the_block_table",
            id="slots from the start",
        ),
        pytest.param(
            ("return self.n_free > 0 or not self._needs_block(seq)", "return False"),
            "test_growth_without_room_is_refused",
            id="never room to grow",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
