"""A first look at static batch generation; run me with pytest."""

from __future__ import annotations

import math

import torch
from static_batch_generate import (
    GenerationConfig,
    GenerationRequest,
    StaticBatchGenerator,
    left_pad,
)
from torch import Tensor

Past = tuple[Tensor, ...]


def _nothing_to_say(
    ids: Tensor, _mask: Tensor, _positions: Tensor, past: Past
) -> tuple[Tensor, Past]:
    """A model that would end every answer at once, with token 2."""
    logits = torch.tensor([-3.0, 0.0, 4.0, -1.0, 1.0])
    return logits.expand(*ids.shape, 5), past


def test_a_prompt_is_answered() -> None:
    """One request gets an answer with a finite score per token."""
    generator = StaticBatchGenerator(_nothing_to_say, GenerationConfig(pad_id=0, eos_ids=(2,)))

    results = generator.generate([GenerationRequest(torch.tensor([3]), max_new_tokens=4)])

    assert len(results) == 1
    assert len(results[0].logprobs) == len(results[0].tokens)
    assert all(math.isfinite(logprob) for logprob in results[0].logprobs)


def test_prompts_become_a_rectangle() -> None:
    """Two prompts of one length give ids and a mask of that width."""
    ids, mask = left_pad([torch.tensor([3, 1]), torch.tensor([2, 4])], 0)

    assert ids.shape == (2, 2)
    assert mask.shape == (2, 2)


def test_nothing_to_do() -> None:
    """No requests, no answers."""
    generator = StaticBatchGenerator(_nothing_to_say, GenerationConfig(pad_id=0))

    assert generator.generate([]) == []
