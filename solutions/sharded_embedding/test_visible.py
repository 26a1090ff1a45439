"""A first look at the sharded embedding; run me with pytest."""

from __future__ import annotations

import torch
from sharded_embedding import ShardedEmbedding


def test_tokens_become_vectors() -> None:
    """Every token gets one finite vector in the table's dtype."""
    weight = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    embedding = ShardedEmbedding(weight)
    vectors = embedding.embed(torch.tensor([[5, 1, 7], [3, 3, 0]]))

    assert len(embedding.workers) == 4
    assert vectors.shape == (2, 3, 4)
    assert vectors.dtype == weight.dtype
    assert bool(torch.isfinite(vectors).all())


def test_hidden_states_become_scores() -> None:
    """The whole vocabulary is scored, and the best of it can be asked for."""
    weight = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    embedding = ShardedEmbedding(weight)
    hidden = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))

    assert embedding.logits(hidden).shape == (3, 8)
    scores, ids = embedding.topk(hidden, 1)
    assert scores.shape == ids.shape == (3, 1)
    assert embedding.log_probs(hidden, torch.tensor([1, 3, 5])).shape == (3,)
