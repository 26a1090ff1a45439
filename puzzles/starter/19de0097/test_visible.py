"""A first look at the sliding-window decoder; run with pytest in this folder."""

import torch
from sliding_window_decoder import DecoderConfig, SlidingWindowDecoder, generate


def _model() -> SlidingWindowDecoder:
    config = DecoderConfig(
        vocab_size=11,
        dim=8,
        hidden_dim=12,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        head_dim=4,
        window=8,
    )
    return SlidingWindowDecoder(config)


def test_a_prompt_gets_logits() -> None:
    """A short prompt gets one finite score per token of the vocabulary."""
    model = _model()
    logits = model(torch.tensor([[1, 5, 2]]), model.new_cache(1))
    assert logits.shape == (1, 3, 11)
    assert bool(logits.isfinite().all())


def test_a_token_can_follow_a_prompt() -> None:
    """Decoding one token after a prompt gives finite scores."""
    model = _model()
    cache = model.new_cache(1)
    model(torch.tensor([[1, 5, 2]]), cache)
    logits = model.decode(torch.tensor([4]), cache, torch.tensor([True]))
    assert logits.shape == (1, 11)
    assert bool(logits.isfinite().all())


def test_generate_answers_with_token_ids() -> None:
    """One prompt gets one answer, made of token ids."""
    answers = generate(_model(), [[3, 1, 4]], max_new_tokens=4)
    assert len(answers) == 1
    assert all(0 <= token < 11 for token in answers[0])
