"""Decide which blocks of a paged KV cache belong to which sequence.

The manager keeps the books and never touches a key or a value: block tables say where the KV of
each token lies, reference counts let sequences share blocks, and full blocks are found again by
what they hold, so that a prompt that was seen before is not computed twice.

References: PagedAttention, Kwon et al., arXiv:2309.06180; RadixAttention (reuse of prefixes across
requests), Zheng et al., arXiv:2312.07104.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

ROOT_HASH = b""


class OutOfBlocks(RuntimeError):
    """The pool cannot serve this call now; the manager's state is what it was before."""


@dataclass(slots=True)
class Block:
    """One block of the pool, which holds the KV of `block_size` consecutive tokens."""

    block_id: int
    ref_count: int = 0  # how many block tables name it
    block_hash: bytes | None = None  # what it is found by; None while it cannot be found


@dataclass(slots=True)
class SequenceState:
    """What the manager knows of one sequence."""

    tokens: list[int]
    adapter: str | None
    block_table: list[int] = field(default_factory=list)  # block of each run of block_size tokens
    block_hashes: list[bytes] = field(default_factory=list)  # of its leading, computed blocks


@dataclass(frozen=True, slots=True)
class PrefixCacheStats:
    """How much of the admitted prompts was found in the cache, in tokens."""

    queries: int = 0
    hits: int = 0

    @property
    def hit_rate(self) -> float:
        """Return the share of prompt tokens that needed no computation; 0 before any prompt."""
        return self.hits / self.queries if self.queries else 0.0


def cdiv(a: int, b: int) -> int:
    """Return how many pieces of size b hold a things."""
    return -(-a // b)


def hash_block(parent_hash: bytes, tokens: Sequence[int], adapter: str | None = None) -> bytes:
    """Return the identity of a full block.

    KV depends on the tokens of the block, on everything before them (`parent_hash`, the identity
    of the block before, or ROOT_HASH) and on the adapter that the model ran with.
    """
    identity = (parent_hash, tuple(tokens), adapter)
    return hashlib.sha256(repr(identity).encode()).digest()


class BlockPool:
    """A fixed number of blocks, each in use or in the queue of free ones.

    A free block can still be found by its hash until it is handed out for other content; the least
    recently freed one goes first.
    """

    def __init__(self, n_blocks: int) -> None:
        self.blocks = [Block(block_id) for block_id in range(n_blocks)]
        self.free_queue: OrderedDict[int, None] = OrderedDict.fromkeys(range(n_blocks))
        self.cached: dict[bytes, int] = {}  # block hash -> block id

    def take(self) -> int:
        """Hand out a free block for new content."""
        block_id, _ = self.free_queue.popitem(last=False)
        block = self.blocks[block_id]
        self.forget(block)
        block.ref_count = 1
        return block_id

    def share(self, block_id: int) -> None:
        """Add an owner to a block, which may be free."""
        block = self.blocks[block_id]
        if block.ref_count == 0:
            del self.free_queue[block_id]
        block.ref_count += 1

    def release(self, block_id: int) -> None:
        """Take an owner from a block; without any it is free."""
        block = self.blocks[block_id]
        assert block.ref_count > 0, f"block {block_id} has no owner"
        block.ref_count -= 1
        if block.ref_count == 0:
            self.free_queue[block_id] = None

    def register(self, block_id: int, block_hash: bytes) -> None:
        """Let a block be found by its hash, unless another block of equal content already is."""
        if block_hash not in self.cached:
            self.cached[block_hash] = block_id
            self.blocks[block_id].block_hash = block_hash

    def forget(self, block: Block) -> None:
        """Let a block, whose content is about to change, no longer be found."""
        if block.block_hash is not None:
            del self.cached[block.block_hash]
            block.block_hash = None


class BlockManager:
    """Block tables of all running sequences, over one pool.

    A sequence lives through `allocate`, then, step by step, `append` and `commit`, and at last
    `free`. `fork` splits it for parallel samples, `truncate` takes drafted tokens back.

    With blocks of 4 tokens, a pool of 8, and the prompt [0..9] of "a" committed:

        manager.table("a")                            # [0, 1, 2]
        manager.allocate("b", [*range(8), 50, 51])    # 8: two blocks need no computation
        manager.table("b")                            # [0, 1, 3]
        manager.fork("b", "c")
        manager.append("c", 52)                       # (3, 4): copy block 3 to block 4 first
        manager.table("c")                            # [0, 1, 4]
    """

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        *,
        prefix_caching: bool = True,
        watermark_blocks: int = 0,
    ) -> None:
        """Make an empty pool.

        `watermark_blocks` free blocks are beyond the reach of new sequences, so that those already
        running can grow.
        """
        if n_blocks < 1 or block_size < 1:
            raise ValueError(f"{n_blocks} blocks of {block_size} tokens are no pool")
        if not 0 <= watermark_blocks < n_blocks:
            raise ValueError(f"watermark_blocks {watermark_blocks} is not in [0, {n_blocks})")
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self.watermark_blocks = watermark_blocks
        self.pool = BlockPool(n_blocks)
        self.sequences: dict[Hashable, SequenceState] = {}
        self.stats = PrefixCacheStats()

    @property
    def n_free(self) -> int:
        """Return how many blocks belong to no sequence."""
        return len(self.pool.free_queue)

    @property
    def usage(self) -> float:
        """Return the share of blocks that belong to a sequence."""
        return 1.0 - self.n_free / len(self.pool.blocks)

    def table(self, seq_id: Hashable) -> list[int]:
        """Return the block table of a sequence: entry i holds tokens from i * block_size on."""
        return list(self._sequence(seq_id).block_table)

    def slots(self, seq_id: Hashable, start: int, stop: int) -> list[int]:
        """Return where the KV of the tokens in [start, stop) lies in the flat pool.

        Slot s is place s % block_size of block s // block_size.
        """
        seq = self._sequence(seq_id)
        if not 0 <= start <= stop <= len(seq.tokens):
            raise ValueError(f"[{start}, {stop}) is not within {len(seq.tokens)} tokens")
        size = self.block_size
        return [seq.block_table[i // size] * size + i % size for i in range(start, stop)]

    def n_common_blocks(self, seq_ids: Sequence[Hashable]) -> int:
        """Return how many leading blocks all the sequences share, as cascade attention asks."""
        tables = [self._sequence(seq_id).block_table for seq_id in seq_ids]
        n_common = 0
        for column in zip(*tables, strict=False):
            if len(set(column)) > 1:
                break
            n_common += 1
        return n_common

    # Admission.

    def match_prefix(self, tokens: Sequence[int], adapter: str | None = None) -> list[int]:
        """Return the cached blocks with which a prompt begins.

        The prompt's last token is never among the cached ones: the first output needs its logits.
        """
        matched: list[int] = []
        parent_hash = ROOT_HASH
        for index in range((len(tokens) - 1) // self.block_size):
            parent_hash = hash_block(parent_hash, self._chunk(tokens, index), adapter)
            block_id = self.pool.cached.get(parent_hash)
            if block_id is None:
                break
            matched.append(block_id)
        return matched

    def can_allocate(self, tokens: Sequence[int], adapter: str | None = None) -> bool:
        """Say whether `allocate` would find room for a prompt."""
        return self._fits(tokens, self.match_prefix(tokens, adapter))

    def allocate(self, seq_id: Hashable, tokens: Sequence[int], adapter: str | None = None) -> int:
        """Admit a prompt and return how many of its leading tokens are already computed."""
        if seq_id in self.sequences:
            raise ValueError(f"sequence {seq_id!r} is already running")
        if not tokens:
            raise ValueError(f"sequence {seq_id!r} has no token")
        matched = self.match_prefix(tokens, adapter)
        if not self._fits(tokens, matched):
            raise OutOfBlocks(f"no room for {len(tokens)} tokens in {self.n_free} free blocks")
        # A matched block may be free, and then it may be the next one to be handed out.
        for block_id in matched:
            self.pool.share(block_id)
        n_new = cdiv(len(tokens), self.block_size) - len(matched)
        seq = SequenceState(list(tokens), adapter)
        seq.block_table = matched + [self.pool.take() for _ in range(n_new)]
        self.sequences[seq_id] = seq
        n_cached = len(matched) * self.block_size
        self.stats = PrefixCacheStats(
            queries=self.stats.queries + len(tokens), hits=self.stats.hits + n_cached
        )
        return n_cached

    def _fits(self, tokens: Sequence[int], matched: Sequence[int]) -> bool:
        n_new = cdiv(len(tokens), self.block_size) - len(matched)
        n_revived = sum(self.pool.blocks[block_id].ref_count == 0 for block_id in matched)
        return n_new + n_revived <= self.n_free - self.watermark_blocks

    # Growth.

    def commit(self, seq_id: Hashable, n_computed: int) -> None:
        """Note that the KV of the first n_computed tokens exists, and offer it for reuse.

        Only full blocks are offered: the content of others is still to change.
        """
        seq = self._sequence(seq_id)
        if not 0 <= n_computed <= len(seq.tokens):
            raise ValueError(f"n_computed {n_computed} is not in [0, {len(seq.tokens)}]")
        if not self.prefix_caching:
            return
        for index in range(len(seq.block_hashes), n_computed // self.block_size):
            parent_hash = seq.block_hashes[-1] if seq.block_hashes else ROOT_HASH
            chunk = self._chunk(seq.tokens, index)
            block_hash = hash_block(parent_hash, chunk, seq.adapter)
            seq.block_hashes.append(block_hash)
            self.pool.register(seq.block_table[index], block_hash)

    def can_append(self, seq_id: Hashable) -> bool:
        """Say whether `append` would find room for one more token."""
        seq = self._sequence(seq_id)
        return self.n_free > 0 or not self._needs_block(seq)

    def append(self, seq_id: Hashable, token: int) -> tuple[int, int] | None:
        """Make room for one more token of a sequence.

        Returns (src, dst) where the caller must copy the KV of block src to block dst before the
        next forward pass.
        """
        seq = self._sequence(seq_id)
        if self.n_free == 0 and self._needs_block(seq):
            raise OutOfBlocks(f"no free block for token {len(seq.tokens)} of {seq_id!r}")
        copy = None
        if len(seq.tokens) % self.block_size == 0:
            seq.block_table.append(self.pool.take())
        elif self._is_shared(seq.block_table[-1]):
            src, dst = seq.block_table[-1], self.pool.take()
            self.pool.release(src)
            seq.block_table[-1] = dst
            copy = (src, dst)
        else:
            self.pool.forget(self.pool.blocks[seq.block_table[-1]])
        seq.tokens.append(token)
        return copy

    def _needs_block(self, seq: SequenceState) -> bool:
        return len(seq.tokens) % self.block_size == 0 or self._is_shared(seq.block_table[-1])

    def _is_shared(self, block_id: int) -> bool:
        return self.pool.blocks[block_id].ref_count > 1

    # Splitting, taking back, letting go.

    def fork(self, parent_id: Hashable, child_id: Hashable) -> None:
        """Start a sequence with the parent's history, in the parent's blocks."""
        parent = self._sequence(parent_id)
        if child_id in self.sequences:
            raise ValueError(f"sequence {child_id!r} is already running")
        for block_id in parent.block_table:
            self.pool.share(block_id)
        self.sequences[child_id] = SequenceState(
            list(parent.tokens),
            parent.adapter,
            list(parent.block_table),
            list(parent.block_hashes),
        )

    def truncate(self, seq_id: Hashable, n_tokens: int) -> None:
        """Keep the first n_tokens tokens of a sequence, as when drafted ones are rejected."""
        seq = self._sequence(seq_id)
        if not 1 <= n_tokens <= len(seq.tokens):
            raise ValueError(f"n_tokens {n_tokens} is not in [1, {len(seq.tokens)}]")
        while len(seq.block_table) > cdiv(n_tokens, self.block_size):
            self.pool.release(seq.block_table.pop())
        del seq.tokens[n_tokens:]
        del seq.block_hashes[n_tokens // self.block_size :]

    def free(self, seq_id: Hashable) -> None:
        """End a sequence.

        The end of its text becomes evictable before the beginning, which others are more likely to
        share and without which the end cannot be matched.
        """
        seq = self._sequence(seq_id)
        for block_id in reversed(seq.block_table):
            self.pool.release(block_id)
        del self.sequences[seq_id]

    def _sequence(self, seq_id: Hashable) -> SequenceState:
        if seq_id not in self.sequences:
            raise ValueError(f"no sequence {seq_id!r} is running")
        return self.sequences[seq_id]

    def _chunk(self, tokens: Sequence[int], index: int) -> Sequence[int]:
        """Return the tokens of full block `index`."""
        return tokens[index * self.block_size : (index + 1) * self.block_size]
