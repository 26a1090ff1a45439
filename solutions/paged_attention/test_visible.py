"""A first look at attention over pages; run me with pytest."""

from __future__ import annotations

import torch
from paged_attention import PagedAttention, PagedKVStore, build_batch, slot_mapping


def test_a_short_prompt_lies_in_one_page() -> None:
    """Two tokens get two different slots of the pool."""
    slots = slot_mapping([0], 0, 2, page_size=4)

    assert len(set(slots)) == 2
    assert all(0 <= slot < 4 for slot in slots)


def test_a_prompt_and_the_token_after_it() -> None:
    """Both steps give one finite row per token, in the shape of the queries."""
    generator = torch.Generator().manual_seed(0)
    store = PagedKVStore(n_pages=2, page_size=4, n_kv_heads=1, head_dim=6)
    attention = PagedAttention(store, layer=0)

    for n_cached, n_new in [(0, 2), (2, 1)]:
        batch = build_batch([[0]], [n_cached], [n_new], page_size=4)
        q, k, v = torch.randn(3, n_new, 1, 6, generator=generator)
        out = attention(q, k, v, batch)
        assert out.shape == (n_new, 1, 6)
        assert bool(torch.isfinite(out).all())
