"""Static batch generation against transformers; its promises against rewrites and wrong files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor

NAME = "static_batch_generate"
SOURCE = source_of(NAME)
Past = tuple[Tensor, ...]


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


def _forward_with_past(model: Any) -> Any:
    from transformers import DynamicCache

    def forward(
        ids: Tensor, attention_mask: Tensor, positions: Tensor, past: Past
    ) -> tuple[Tensor, Past]:
        pairs = list(zip(past[::2], past[1::2], strict=True))
        out = model(
            input_ids=ids,
            attention_mask=attention_mask.long(),
            position_ids=positions,
            past_key_values=DynamicCache(pairs) if pairs else DynamicCache(),
            use_cache=True,
        )
        layers = out.past_key_values.layers
        return out.logits, tuple(t for layer in layers for t in (layer.keys, layer.values))

    return forward


@pytest.mark.parametrize("chunk", [None, 2])
def test_transformers_gives_each_prompt_the_same_answer(chunk: int | None) -> None:
    from transformers import GenerationConfig

    subject: Any = load(NAME, SOURCE)
    for seed in range(2):
        model = _tiny_llama(seed)
        gen = torch.Generator().manual_seed(seed)
        prompts = [torch.randint(0, 17, (n,), generator=gen) for n in (4, 1, 6, 3)]
        ours = subject.StaticBatchGenerator(
            _forward_with_past(model),
            subject.GenerationConfig(pad_id=5, eos_ids=(3, 8), batch_size=3, prefill_chunk=chunk),
        ).generate([subject.GenerationRequest(prompt, 8) for prompt in prompts], True)

        for result, prompt in zip(ours, prompts, strict=True):
            theirs = model.generate(
                prompt[None],
                attention_mask=torch.ones_like(prompt[None]),
                generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                    max_new_tokens=8, do_sample=False, eos_token_id=[3, 8], pad_token_id=5
                ),
            )[0]
            assert result.tokens == theirs[len(prompt) :].tolist()
            with torch.no_grad():
                logprobs = torch.log_softmax(model(theirs[None]).logits[0], dim=-1)
            scores = logprobs[:-1].gather(-1, theirs[1:, None])[:, 0]
            got = torch.tensor([*result.prompt_logprobs, *result.logprobs])
            torch.testing.assert_close(got, scores, rtol=1e-4, atol=1e-4)


def test_transformers_draws_from_the_same_distribution() -> None:
    transformers = pytest.importorskip("transformers")
    subject: Any = load(NAME, SOURCE)
    logits = torch.tensor([[2.0, 0.0, 1.0]])
    n = 3000
    streams = [torch.Generator().manual_seed(i) for i in range(n)]
    tokens, _ = subject.sample(logits.expand(n, 3), torch.full((n,), 0.7), streams)
    probs = torch.softmax(transformers.TemperatureLogitsWarper(0.7)(None, logits), dim=-1)[0]
    shares = torch.bincount(tokens, minlength=3) / n
    assert float((shares - probs).abs().max()) < 0.05


# ----- correct rewrites

PAD_BY_CONCATENATION = (
    """    ids = prompts[0].new_full((len(prompts), longest), pad_id)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    for b, prompt in enumerate(prompts):
        ids[b, longest - len(prompt) :] = prompt
        mask[b, longest - len(prompt) :] = True
    return ids, mask
""",
    """    rows = [torch.nn.functional.pad(p, (longest - len(p), 0), value=pad_id) for p in prompts]
    lengths = prompts[0].new_tensor([len(prompt) for prompt in prompts])
    columns = torch.arange(longest, device=lengths.device)
    return torch.stack(rows), columns >= longest - lengths[:, None]
""",
)
POSITIONS_BY_SUBTRACTION = (
    "    return (mask.long().cumsum(dim=-1) - 1).clamp(min=0)\n",
    """    width = mask.shape[-1]
    padding = width - mask.sum(dim=-1, keepdim=True)
    return (torch.arange(width, device=mask.device) - padding).clamp(min=0)
""",
)
SCORES_ROW_BY_ROW = (
    """    logprobs = torch.log_softmax(logits.float(), dim=-1)
    scores = logprobs[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    return [row[real].tolist() for row, real in zip(scores, mask[:, :-1], strict=True)]
""",
    """    scored = []
    for b in range(len(ids)):
        first = ids.shape[1] - int(mask[b].sum())
        real, targets = logits[b, first:-1].double(), ids[b, first + 1 :]
        chosen = real[torch.arange(len(targets), device=real.device), targets]
        scored.append((chosen - real.logsumexp(dim=-1)).tolist())
    return scored
""",
)
GREEDY_BATCHES = (
    """        if batches:
            rows = len(batches[-1]) + 1
            padded = rows * lengths[batches[-1][0]]
            if rows <= batch_size and (max_padded_tokens is None or padded <= max_padded_tokens):
                batches[-1].append(index)
                continue
        batches.append([index])
    return batches
""",
    """        open_batch = batches[-1] if batches else []
        most = batch_size
        if open_batch and max_padded_tokens is not None:
            most = min(most, max_padded_tokens // lengths[open_batch[0]])
        if open_batch and len(open_batch) < most:
            open_batch.append(index)
        else:
            batches.append([index])
    return batches
""",
)
GUMBEL_SAMPLE = (
    """    drawn = (probs / noise.to(probs.device)).argmax(dim=-1)
""",
    """    drawn = (probs.log() - noise.to(probs.device).log()).argmax(dim=-1)
""",
)
MULTINOMIAL_SAMPLE = (
    """    noise = torch.empty(probs.shape, dtype=torch.float32, device="cpu")
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    drawn = (probs / noise.to(probs.device)).argmax(dim=-1)
""",
    """    pairs = zip(probs.cpu(), generators, strict=True)
    drawn = torch.cat([torch.multinomial(row, 1, generator=own) for row, own in pairs])
    drawn = drawn.to(probs.device)
""",
)
MASKED_SELECTION = (
    """        index = torch.tensor(keep, dtype=torch.long, device=self.mask.device)
""",
    """        index = torch.zeros(len(self.rows), dtype=torch.bool, device=self.mask.device)
        index[keep] = True
        index = index.nonzero().squeeze(-1)
""",
)
TWO_PASS_RETIREMENT = (
    """        finished: dict[int, GenerationResult] = {}
        keep: list[int] = []
        for b, row in enumerate(batch.rows):
            reason = row.finish_reason(self.config.eos_ids)
            if reason is None:
                keep.append(b)
            else:
                finished[row.index] = GenerationResult(
                    row.tokens, row.logprobs, row.prompt_logprobs, reason
                )
        if finished:
            batch.select(keep)
        return finished
""",
    """        reasons = [row.finish_reason(self.config.eos_ids) for row in batch.rows]
        finished = {
            row.index: GenerationResult(
                list(row.tokens), list(row.logprobs), list(row.prompt_logprobs), reason
            )
            for row, reason in zip(batch.rows, reasons, strict=True)
            if reason is not None
        }
        batch.select([b for b, reason in enumerate(reasons) if reason is None])
        return finished
""",
)


@pytest.mark.parametrize(
    "edit",
    [
        PAD_BY_CONCATENATION,
        POSITIONS_BY_SUBTRACTION,
        SCORES_ROW_BY_ROW,
        GREEDY_BATCHES,
        GUMBEL_SAMPLE,
        MULTINOMIAL_SAMPLE,
        MASKED_SELECTION,
        TWO_PASS_RETIREMENT,
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edit: tuple[str, str]) -> None:
    for seed in range(2):
        assert broken_promises(NAME, _edited(edit), seed=seed) == {}


# ----- degenerate files

ANSWERS = "        return [done[index] for index in sorted(done)]\n"
PADDED = "    return ids, mask\n"
POSITIONS = POSITIONS_BY_SUBTRACTION[0]
SCORES = SCORES_ROW_BY_ROW[0].splitlines(keepends=True)[-1]
SAMPLED = "    return tokens, logprobs\n"


@pytest.mark.parametrize(
    "edit",
    [
        (ANSWERS, "        return list(done.values())\n"),
        (ANSWERS, ANSWERS.replace("done[index]", 'GenerationResult([], [], [], "length")')),
        (PADDED, "    return ids * 0, mask\n"),
        (PADDED, "    return ids, mask.long()\n"),
        (PADDED, "    return ids[None], mask[None]\n"),
        (PADDED, "    return ids.int(), mask\n"),
        (POSITIONS, "    return torch.zeros_like(mask).long()\n"),
        (POSITIONS, POSITIONS.replace("mask.long()", "mask.float()")),
        (POSITIONS, "    return mask.long()\n"),
        (SCORES, SCORES.replace("row[real]", "(row[real] * 1.001)")),
        (SCORES, SCORES.replace("row[real]", "(row[real] * float('nan'))")),
        (SCORES, "    return [[0.0] * int(real.sum() - 1) for real in mask]\n"),
        (SAMPLED, "    return tokens * 0, logprobs\n"),
        (SAMPLED, "    return tokens, logprobs * 1.001\n"),
        (SAMPLED, "    return tokens, logprobs.double()\n"),
        (SAMPLED, "    return tokens.int(), logprobs\n"),
        (SAMPLED, "    return tokens, logprobs * float('nan')\n"),
    ],
)
def test_a_degenerate_function_breaks_a_promise(edit: tuple[str, str]) -> None:
    assert breaks(NAME, _edited(edit), seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_that_begins_anew_at_every_step_breaks_its_promise(seed: int) -> None:
    edit = ("[row.generator for", "[row.generator.manual_seed(row.request.seed) for")

    assert breaks(NAME, _edited(edit), "test_every_step_of_an_answer_draws_anew", seed=seed)
