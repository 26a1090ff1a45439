"""A first look at the beam search; run me with pytest."""

from __future__ import annotations

import torch
from beam_search import BeamConfig, Hypotheses, beam_search, select_candidates
from torch import Tensor

State = tuple[Tensor, ...]


def _nothing_to_say(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
    """A model that would end every text at once, with token 0."""
    logits = torch.tensor([4.0, 0.0, -3.0, -1.0, 1.0])
    return logits.expand(token_ids.shape[0], 5), state


def test_a_prompt_gets_an_answer() -> None:
    """One prompt gets one sequence with a finite score."""
    config = BeamConfig(num_beams=1, max_new_tokens=4, eos_id=0, early_stopping=True)

    out = beam_search(_nothing_to_say, torch.tensor([[3]]), config)

    assert out.sequences.shape[:2] == (1, 1)
    assert out.lengths.shape == (1, 1)
    assert bool(torch.isfinite(out.scores).all())


def test_a_finished_hypothesis_is_listed() -> None:
    """A hypothesis of one token goes into an empty list."""
    hypotheses = Hypotheses(BeamConfig(num_beams=2))

    hypotheses.add([3], -0.5)

    assert len(hypotheses.items) == 1
    assert hypotheses.items[0].tokens == [3]


def test_candidates_have_their_shape() -> None:
    """One beam offers as many extensions as were asked for."""
    candidates = select_candidates(torch.zeros(2, 1, 5), torch.zeros(2, 1), 3)

    assert candidates.scores.shape == (2, 3)
    assert candidates.beams.shape == (2, 3)
    assert candidates.tokens.shape == (2, 3)
