"""A first look at prefill without padding; run me with pytest."""

from __future__ import annotations

import torch
from varlen_prefill import chunked_prefill, pack, unpack, varlen_attention


def test_packed_tokens_can_be_unpacked() -> None:
    """Two sequences of one token each take two rows."""
    batch = pack([torch.tensor([5]), torch.tensor([7])])

    assert batch.n_seqs == 2
    assert [len(part) for part in unpack(batch.tokens, batch.cu)] == [1, 1]


def test_attention_over_one_sequence() -> None:
    """The result is finite and in the shape of the queries."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 3, 2, 4, generator=generator)
    cu = torch.tensor([0, 3])

    out = varlen_attention(q, k, v, cu, cu)
    assert out.shape == (3, 2, 4)
    assert bool(torch.isfinite(out).all())


def test_prefill_in_one_step() -> None:
    """Each sequence gets one finite row per token."""
    table = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))

    def embed(tokens: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return table[tokens] + positions[:, None]

    def qkv(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return x.view(-1, 2, 4), x.view(-1, 2, 4), x.view(-1, 2, 4)

    (out,) = chunked_prefill(embed, qkv, [torch.tensor([1, 2, 3])], budget=3)
    assert out.shape == (3, 2, 4)
    assert bool(torch.isfinite(out).all())
