"""A first look at the block manager; run me with pytest."""

from __future__ import annotations

from block_manager import BlockManager


def test_a_prompt_gets_a_block_table() -> None:
    """A prompt of three tokens fits into one block of the pool."""
    manager = BlockManager(n_blocks=6, block_size=4)

    assert manager.can_allocate([5, 6, 7])
    assert manager.allocate("a", [5, 6, 7]) == 0
    assert len(manager.table("a")) == 1
    assert 0 <= manager.table("a")[0] < 6


def test_a_second_token_goes_into_the_same_block() -> None:
    """One more token needs no other block and no copy while there is room."""
    manager = BlockManager(n_blocks=6, block_size=4)
    manager.allocate("a", [5, 6])
    manager.commit("a", 2)

    assert manager.append("a", 7) is None
    assert len(manager.table("a")) == 1


def test_two_prompts_have_blocks_of_their_own() -> None:
    """Different short prompts do not share a block."""
    manager = BlockManager(n_blocks=6, block_size=4)
    manager.allocate("a", [5, 6])
    manager.allocate("b", [7, 8])

    assert manager.table("a") != manager.table("b")
