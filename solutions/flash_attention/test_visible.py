"""A first look at attention by tiles; run me with pytest."""

from __future__ import annotations

import torch
from flash_attention import flash_attention, split_kv_decode


def test_one_small_sequence() -> None:
    """Three tokens and one head give an output and a normaliser for every query."""
    q, k, v = torch.randn(3, 1, 1, 3, 4, generator=torch.Generator().manual_seed(0))

    out, lse = flash_attention(q, k, v)

    assert out.shape == (1, 1, 3, 4)
    assert lse.shape == (1, 1, 3)
    assert bool(torch.isfinite(out).all())


def test_decoding_in_one_piece() -> None:
    """One query over all keys gives one finite row."""
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(1, 1, 1, 4, generator=generator)
    k, v = torch.randn(2, 1, 1, 3, 4, generator=generator)

    out, lse = split_kv_decode(q, k, v, 1)

    assert out.shape == (1, 1, 1, 4)
    assert lse.shape == (1, 1, 1)
    assert bool(torch.isfinite(out).all())
