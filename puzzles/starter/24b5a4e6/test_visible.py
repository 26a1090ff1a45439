"""A first look at the token sampler; run me with pytest."""

from __future__ import annotations

import math

import torch
from token_sampler import BatchSampler, SamplingParams, TokenSampler, sample_token


def test_one_token_from_a_list_of_logits() -> None:
    """A token comes back with one probability for every logit."""
    token_id, probs = sample_token([0.3, 2.0, -1.0], seed=1)

    assert 0 <= token_id < 3
    assert len(probs) == 3
    assert all(math.isfinite(prob) for prob in probs)


def test_a_sampler_is_called_once_per_step() -> None:
    """A call gives a token of the vocabulary and a finite score."""
    token_id, logprob = TokenSampler(seed=1)([0.3, 2.0, -1.0])

    assert 0 <= token_id < 3
    assert math.isfinite(logprob)


def test_a_batch_of_one_request() -> None:
    """One request gets one token, its log-probability and its rank."""
    sampler = BatchSampler([SamplingParams(seed=1)], vocab_size=5)

    out = sampler.sample(torch.tensor([[0.1, 1.5, -0.4, 0.8, -2.0]]), [[3, 1]], [[]], 2)

    assert out.token_ids.shape == (1,)
    assert 0 <= int(out.token_ids) < 5
    assert out.top_ids.shape == (1, 2)
    assert bool(torch.isfinite(out.logprobs).all())
