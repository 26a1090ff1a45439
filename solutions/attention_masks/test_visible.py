"""A first look at masks and attention under them; run me with pytest."""

from __future__ import annotations

import torch
from attention_masks import BatchMasks, MaskSpec, build_mask, masked_attention, padding_mask


def test_a_prompt_without_padding() -> None:
    """The mask of a prompt has a row for every query and a column for every key."""
    valid = padding_mask(torch.tensor([4, 4]), 4)

    mask = build_mask(valid, 4)
    assert mask.shape == (2, 1, 4, 4)
    assert bool(mask[:, :, 3, 1].all())


def test_attention_over_a_prompt() -> None:
    """The result is finite and in the shape of the queries."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 3, 4, generator=generator)
    masks = BatchMasks(torch.ones(1, 3, dtype=torch.bool))

    out = masked_attention(q, k, v, masks.mask(MaskSpec()))
    assert out.shape == (1, 2, 3, 4)
    assert bool(torch.isfinite(out).all())
