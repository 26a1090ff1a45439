"""A first look at the batch sampler; run me with pytest."""

from __future__ import annotations

import torch
from batch_sampler import BatchSampler, SamplingParams, prompt_logprobs


def test_one_request_gets_a_token_per_step() -> None:
    """Every step adds a token of the vocabulary and a report to the request."""
    sampler = BatchSampler(max_requests=2, vocab_size=5)
    sampler.add("a", SamplingParams(seed=1, n_logprobs=2), [3, 1])
    logits = torch.tensor([[0.1, 1.5, -0.4, 0.8, -2.0]])

    for _ in range(2):
        out = sampler.sample(logits)
        assert out.token_ids.shape == (1,)
        assert out.top_ids.shape == (1, 2)
        assert bool(torch.isfinite(out.logprobs).all())
    request = sampler.remove("a")

    assert len(request.output) == len(request.reports) == 2
    assert all(0 <= token_id < 5 for token_id in request.output)
    assert sampler.request_ids == []


def test_scores_of_two_requests() -> None:
    """Two requests have a row of scores each, with room for every token."""
    sampler = BatchSampler(max_requests=2, vocab_size=3)
    for request_id in ("a", "b"):
        sampler.add(request_id, SamplingParams(), [0])

    assert sampler.process(torch.zeros(2, 3)).shape == (2, 3)


def test_a_prompt_has_a_report_for_all_tokens_but_the_first() -> None:
    """Three tokens give two finite log-probabilities."""
    report = prompt_logprobs(torch.zeros(3, 4), [1, 0, 2], 1)

    assert report.logprobs.shape == (2,)
    assert bool(torch.isfinite(report.logprobs).all())
