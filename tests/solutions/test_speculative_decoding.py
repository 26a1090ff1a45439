"""Speculative decoding against transformers, and its promises against rewrites and wrong files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor

NAME = "speculative_decoding"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = SOURCE
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("seed", leading(2, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers


def _tiny_llama(seed: int) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=17,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).eval()


def _near(model: Any, noise: float) -> Any:
    """Return a copy that mostly agrees with the model."""
    twin = _tiny_llama(0)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        twin.lm_head.weight.add_(torch.randn_like(twin.lm_head.weight) * noise)
    return twin


def _forward_with_cache(model: Any) -> Any:
    from transformers import DynamicCache

    cache = DynamicCache()

    def forward(tokens: list[int], start: int) -> Tensor:
        if rejected := cache.get_seq_length() - start:
            cache.crop(-rejected)
        logits: Tensor = model(
            input_ids=torch.tensor([tokens]), past_key_values=cache, use_cache=True
        ).logits[0]
        return logits

    return forward


@pytest.mark.parametrize("noise", [0.0, 0.15, 5.0])
def test_transformers_assisted_generation_says_the_same(noise: float) -> None:
    from transformers import GenerationConfig

    subject: Any = load(NAME, SOURCE)
    for seed in range(2):
        target = _tiny_llama(seed)
        draft = _near(target, noise)
        prompt = torch.randint(0, 17, (1, 5), generator=torch.Generator().manual_seed(seed))
        settings: dict[str, Any] = {
            "max_new_tokens": 12,
            "do_sample": False,
            "eos_token_id": 3,
            "pad_token_id": 0,
        }
        theirs = target.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            assistant_model=draft,
            generation_config=GenerationConfig(**settings),  # type: ignore[no-untyped-call]
        )
        for k in (1, 4):
            for drafter in (
                subject.CachedModel(_forward_with_cache(draft)),
                subject.NGramDrafter(1),
            ):
                decoder = subject.SpeculativeDecoder(
                    subject.CachedModel(_forward_with_cache(target)),
                    drafter,
                    subject.SpeculativeConfig(num_draft_tokens=k, temperature=0.0),
                )
                assert decoder.generate(prompt[0].tolist(), 12, 3) == theirs[0, 5:].tolist()


def test_transformers_filters_the_same_tokens() -> None:
    transformers = pytest.importorskip("transformers")
    subject: Any = load(NAME, SOURCE)
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(0)) * 3
    for temperature, k in ((0.5, 3), (2.0, 1), (1.0, 11)):
        scores = transformers.TemperatureLogitsWarper(temperature)(None, logits)
        scores = transformers.TopKLogitsWarper(k)(None, scores)
        torch.testing.assert_close(
            subject.to_probs(logits, temperature, k), torch.softmax(scores, dim=-1)
        )


# ----- correct rewrites

LOOP_VERIFICATION = (
    SOURCE[
        SOURCE.index("    device = target_probs.device\n    used =") : SOURCE.index(
            "class CachedModel"
        )
    ],
    """    rows: list[list[int]] = []
    counts: list[int] = []
    for b in range(batch_size):
        row: list[int] = []
        for s in range(int(n_draft[b])):
            token = int(draft_tokens[b, s])
            p, q = float(target_probs[b, s, token]), float(draft_probs[b, s, token])
            if float(torch.rand((), generator=generator, device="cpu")) * q >= p:
                break
            row.append(token)
        probs = target_probs[b, len(row)]
        if len(row) < int(n_draft[b]):
            probs = residual(probs, draft_probs[b, len(row)])
        counts.append(len(row))
        row.append(int(draw(probs, generator)))
        rows.append([*row, *[PLACEHOLDER] * (n_slots + 1 - len(row))])
    device = target_probs.device
    return Verified(torch.tensor(rows, device=device), torch.tensor(counts, device=device))


""",
)
FIRST_REJECTION_BY_ARGMIN = (
    "    n_accepted = accepted.long().cumprod(dim=-1).sum(dim=-1)\n",
    "    n_accepted = F.pad(accepted.long(), (0, 1)).argmin(dim=-1)\n",
)
MULTINOMIAL_DRAW = (
    """    noise = torch.empty(probs.shape, dtype=torch.float32, device="cpu")
    noise.exponential_(generator=generator)
    return (probs / noise.to(probs.device)).argmax(dim=-1)
""",
    """    flat = probs.reshape(-1, probs.shape[-1]).cpu()
    drawn = torch.multinomial(flat, 1, generator=generator)
    return drawn.reshape(probs.shape[:-1]).to(probs.device)
""",
)
GUMBEL_DRAW = (
    "    return (probs / noise.to(probs.device)).argmax(dim=-1)\n",
    "    return (probs.log() - noise.to(probs.device).log()).argmax(dim=-1)\n",
)
SORTING_PROBS = (
    """        kth_logit = logits.topk(top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth_logit, float("-inf"))
    return torch.softmax(logits / temperature, dim=-1)
""",
    """        ranked = logits.sort(dim=-1, descending=True)
        cut = ranked.values.clone()
        cut[..., top_k:] = float("-inf")
        logits = torch.full_like(logits, float("-inf")).scatter(-1, ranked.indices, cut)
    weights = ((logits - logits.amax(dim=-1, keepdim=True)) / temperature).exp()
    return weights / weights.sum(dim=-1, keepdim=True)
""",
)
RESIDUAL_IN_PLACE = (
    """    excess = (target - draft).clamp(min=0.0)
    total = excess.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, excess / total, target)
""",
    """    excess = torch.maximum(target, draft).sub_(draft)
    empty = excess.sum(dim=-1) <= 0
    excess[empty] = target[empty]
    return excess.div_(excess.sum(dim=-1, keepdim=True))
""",
)
FORWARD_SCAN = (
    """        for end in range(len(tokens) - 1, self.n - 1, -1):
            if tokens[end - self.n : end] == suffix:
                return Draft(tokens[end : end + k], None)
        return Draft([], None)
""",
    """        guesses: list[int] = []
        for start in range(len(tokens) - self.n):
            if tokens[start : start + self.n] == suffix:
                guesses = tokens[start + self.n :][:k]
        return Draft(guesses, None)
""",
)
CLOSED_FORM = (
    "    return sum(acceptance_rate**i for i in range(k + 1))\n",
    """    if acceptance_rate == 1:
        return float(k + 1)
    return (1 - acceptance_rate ** (k + 1)) / (1 - acceptance_rate)
""",
)


@pytest.mark.parametrize(
    "edit",
    [
        LOOP_VERIFICATION,
        FIRST_REJECTION_BY_ARGMIN,
        MULTINOMIAL_DRAW,
        GUMBEL_DRAW,
        SORTING_PROBS,
        RESIDUAL_IN_PLACE,
        FORWARD_SCAN,
        CLOSED_FORM,
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edit: tuple[str, str]) -> None:
    assert broken_promises(NAME, _edited(edit), seed=0) == {}


# ----- degenerate files

VERIFIED = "    return Verified(tokens.masked_fill(beyond, PLACEHOLDER), n_accepted)\n"
PROBS = "    return torch.softmax(logits / temperature, dim=-1)\n"
DRAWN = "    return (probs / noise.to(probs.device)).argmax(dim=-1)\n"
EXCESS = "    return torch.where(total > 0, excess / total, target)\n"
GENERATED = "        return tokens[len(prompt) :]\n"


@pytest.mark.parametrize(
    "edit",
    [
        (VERIFIED, "    return Verified(torch.zeros_like(tokens), n_accepted * 0)\n"),
        (VERIFIED, "    return Verified(F.pad(draft_tokens, (0, 1)), n_draft)\n"),
        (VERIFIED, VERIFIED.replace("n_accepted)", "n_accepted.int())")),
        (VERIFIED, VERIFIED.replace("n_accepted)", "n_accepted[None])")),
        (PROBS, PROBS.replace("dim=-1)", "dim=-1) * 1.001")),
        (PROBS, PROBS.replace("dim=-1)", "dim=-1).double()")),
        (PROBS, PROBS.replace("dim=-1)", "dim=-1) * float('nan')")),
        (PROBS, "    return logits\n"),
        (DRAWN, "    return (probs * noise).argmax(dim=-1) * 0\n"),
        (DRAWN, "    return probs.argmax(dim=-1)\n"),
        (DRAWN, DRAWN.replace("dim=-1)", "dim=-1)[None]")),
        (EXCESS, "    return target\n"),
        (EXCESS, "    return torch.zeros_like(target)\n"),
        (EXCESS, "    return torch.where(total > 0, excess / total, target) * 1.001\n"),
        (GENERATED, "        return tokens\n"),
        (GENERATED, "        return [0] * max_new_tokens\n"),
    ],
)
def test_a_degenerate_function_breaks_a_promise(edit: tuple[str, str]) -> None:
    assert breaks(NAME, _edited(edit), seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_guesses_that_were_not_drawn_break_a_promise(seed: int) -> None:
    """A drafter that always guesses its favourite, but reports a distribution, shifts the text."""
    edit = ("pending = [int(draw(probs, self.generator))]", "pending = [int(probs.argmax())]")

    assert breaks(NAME, _edited(edit), "test_sampled_text_follows_the_target", seed=seed)


@pytest.mark.parametrize(
    "edit",
    [
        ("draft_tokens.masked_fill(~used, 0)", "draft_tokens.masked_fill_(~used, 0)"),
        ("logits.masked_fill(logits < kth", "logits.masked_fill_(logits < kth"),
        ("(probs / noise.to(probs.device))", "probs.div_(noise.to(probs.device))"),
    ],
)
def test_a_function_that_writes_into_its_arguments_breaks_a_promise(edit: tuple[str, str]) -> None:
    promise = "test_a_round_leaves_the_tensors_that_it_is_given"

    assert breaks(NAME, _edited(edit), promise, seed=0)
