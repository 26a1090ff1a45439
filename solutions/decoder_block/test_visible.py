"""A first look at the decoder block; run me with pytest."""

from __future__ import annotations

import torch
from decoder_block import Decoder, DecoderConfig, RMSNorm

CONFIG = DecoderConfig(
    vocab_size=9, dim=8, hidden_dim=12, n_layers=2, n_heads=2, n_kv_heads=1, head_dim=4
)


def test_a_norm_keeps_the_shape() -> None:
    """Alone and with a residual, a norm gives finite values in the shape of its input."""
    x, residual = torch.ones(2, 3, 8), torch.ones(2, 3, 8)
    norm = RMSNorm(8)

    for out in (norm(x), *norm(x, residual)):
        assert out.shape == x.shape
        assert bool(torch.isfinite(out).all())


def test_two_texts_of_one_length() -> None:
    """There is one row of logits per text and one log-probability per token."""
    model = Decoder(CONFIG)
    tokens = torch.tensor([[3, 1, 4, 1], [5, 2, 6, 5]])
    logits = model(tokens)
    logprobs = model.token_logprobs(tokens, torch.tensor([4, 4]))

    assert logits.shape == (2, 9)
    assert bool(torch.isfinite(logits).all())
    assert logprobs.shape == (2, 4)
    assert bool((logprobs <= 0).all())
