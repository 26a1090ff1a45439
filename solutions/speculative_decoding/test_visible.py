"""A first look at speculative decoding; run me with pytest."""

from __future__ import annotations

import torch
from speculative_decoding import (
    CachedModel,
    NGramDrafter,
    SpeculativeConfig,
    SpeculativeDecoder,
    to_probs,
)
from torch import Tensor


def _always_the_same(tokens: list[int], _start: int) -> Tensor:
    """A model that has made up its mind: token 2, whatever comes before."""
    return torch.tensor([-4.0, 0.0, 4.0, -1.0]).expand(len(tokens), 4)


def test_a_prompt_gets_a_continuation() -> None:
    """A decoder is called with a prompt and returns a list of tokens."""
    decoder = SpeculativeDecoder(
        CachedModel(_always_the_same), NGramDrafter(3), SpeculativeConfig(temperature=0.0)
    )

    tokens = decoder.generate([1], 4, eos_id=2)

    assert isinstance(tokens, list)
    assert all(isinstance(token, int) for token in tokens)


def test_a_short_text_has_no_earlier_occurrence() -> None:
    """Nothing is guessed from a text shorter than the n-gram."""
    assert list(NGramDrafter(3).propose([1, 2], 4).tokens) == []


def test_probabilities_have_the_shape_of_the_logits() -> None:
    """Logits of two positions become two finite distributions."""
    probs = to_probs(torch.tensor([[0.5, 1.0, -1.0], [0.0, 2.0, 1.0]]), 1.0)

    assert probs.shape == (2, 3)
    assert bool(torch.isfinite(probs).all())
