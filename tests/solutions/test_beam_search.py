"""The beam search against transformers, and its promises against rewrites and wrong files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor

NAME = "beam_search"
SOURCE = source_of(NAME)
State = tuple[Tensor, ...]


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
        vocab_size=13,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.9,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    return transformers.LlamaForCausalLM(config).eval()


def _step_with_cache(model: Any) -> Any:
    """Give the model the shape of a step function: its KV cache is the state."""
    from transformers import DynamicCache

    def step(token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        pairs = list(zip(state[::2], state[1::2], strict=True))
        past = DynamicCache(pairs) if pairs else DynamicCache()
        out = model(input_ids=token_ids, past_key_values=past, use_cache=True)
        layers: list[Any] = past.layers
        flat = tuple(t for layer in layers for t in (layer.keys, layer.values))
        return out.logits[:, -1], flat

    return step


@pytest.mark.parametrize(
    ("num_beams", "length_penalty", "early", "least", "ngram"),
    [
        (1, 1.0, True, 0, 0),
        (2, 1.0, False, 0, 0),
        (3, 0.5, False, 2, 0),
        (4, 2.0, False, 0, 2),
        (3, 1.0, True, 1, 3),
        (4, 1.0, True, 0, 0),
    ],
)
def test_transformers_finds_the_same(
    num_beams: int, length_penalty: float, early: bool, least: int, ngram: int
) -> None:
    from transformers import GenerationConfig

    for seed in range(2):
        model = _tiny_llama(seed)
        prompt = torch.randint(1, 13, (3, 4), generator=torch.Generator().manual_seed(seed))
        theirs = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                num_beams=num_beams,
                num_return_sequences=num_beams,
                max_new_tokens=7,
                length_penalty=length_penalty,
                early_stopping=True if early else "never",
                min_new_tokens=least or None,
                no_repeat_ngram_size=ngram or None,
                eos_token_id=5,
                pad_token_id=0,
                do_sample=False,
                return_dict_in_generate=True,
                output_scores=True,
            ),
        )
        subject: Any = load(NAME, SOURCE)
        config = subject.BeamConfig(
            num_beams=num_beams,
            num_return=num_beams,
            max_new_tokens=7,
            eos_id=5,
            length_penalty=length_penalty,
            early_stopping=early,
            min_new_tokens=least,
            no_repeat_ngram_size=ngram,
        )

        ours = subject.beam_search(_step_with_cache(model), prompt, config)

        want = theirs.sequences[:, 4:].unflatten(0, (3, num_beams))
        beyond = torch.arange(want.shape[2]) >= ours.lengths[:, :, None]
        assert ours.sequences.tolist() == want.masked_fill(beyond, 0).tolist()
        if num_beams > 1:
            scores = theirs.sequences_scores.unflatten(0, (3, num_beams))
            torch.testing.assert_close(ours.scores, scores, rtol=1e-4, atol=1e-5)


# ----- correct rewrites

SORTED_SELECTION = (
    """    scores, flat = totals.topk(min(n, totals.shape[1]), dim=-1)
    return Candidates(scores, flat // vocab_size, flat % vocab_size)
""",
    """    flat = totals.argsort(dim=-1, descending=True)[:, :n]
    parents = torch.div(flat, vocab_size, rounding_mode="floor")
    return Candidates(totals.gather(1, flat), parents, flat - parents * vocab_size)
""",
)
HEAP_OF_HYPOTHESES = (
    """        self.items.append(Hypothesis(self.score(sum_logprob, len(tokens)), tokens))
        self.items.sort(key=lambda item: item.score, reverse=True)
        del self.items[self.config.num_beams :]
""",
    """        import heapq

        new = Hypothesis(self.score(sum_logprob, len(tokens)), list(tokens))
        self.items = heapq.nlargest(
            self.config.num_beams, [new, *self.items], key=lambda item: item.score
        )
""",
)
INDEXED_ROWS = (
    """    return tuple(tensor.repeat_interleave(num_beams, dim=0) for tensor in state)
""",
    """    copies = []
    for tensor in state:
        rows = torch.arange(tensor.shape[0] * num_beams, device=tensor.device) // num_beams
        copies.append(tensor[rows])
    return tuple(copies)
""",
)
FUNCTIONAL_FORBIDDING = (
    """    logprobs = logprobs.clone()
    if n_generated < config.min_new_tokens:
        logprobs[:, config.eos_id] = -math.inf
    if config.no_repeat_ngram_size > 0:
        for row, history in enumerate(tokens.tolist()):
            banned = banned_next_tokens(history, config.no_repeat_ngram_size)
            logprobs[row, banned] = -math.inf
    return logprobs
""",
    """    allowed = torch.ones_like(logprobs, dtype=torch.bool)
    ids = torch.arange(logprobs.shape[1], device=logprobs.device)
    if n_generated < config.min_new_tokens:
        allowed &= ids != config.eos_id
    for row in range(tokens.shape[0]) if config.no_repeat_ngram_size else ():
        for token in banned_next_tokens(tokens[row].tolist(), config.no_repeat_ngram_size):
            allowed[row] &= ids != token
    return torch.where(allowed, logprobs, torch.full_like(logprobs, -math.inf))
""",
)
NGRAMS_IN_A_DICTIONARY = (
    """    prefix = tokens[len(tokens) - n + 1 :]
    starts = range(len(tokens) - n + 1)
    return [tokens[i + n - 1] for i in starts if tokens[i : i + n - 1] == prefix]
""",
    """    followers: dict[tuple[int, ...], set[int]] = {}
    for end in range(n, len(tokens) + 1):
        followers.setdefault(tuple(tokens[end - n : end - 1]), set()).add(tokens[end - 1])
    if len(tokens) < n - 1:
        return []
    return sorted(followers.get(tuple(tokens[len(tokens) - n + 1 :]), set()))
""",
)
NO_EARLY_CERTAINTY = (
    """        final = self.config.max_new_tokens
        if self.config.length_penalty < 0:
            final = min(length + 1, final)
        return self.worst() >= self.score(best_running, final)
""",
    """        last = self.config.max_new_tokens
        ends = range(min(length + 1, last), last + 1)
        return all(self.score(best_running, end) <= self.worst() for end in ends)
""",
)
VIEWS_FOR_ROWS = (
    """        rows = (first_rows + next_beams).flatten()
        self.beam_scores = next_scores
        self.tokens = torch.cat([self.tokens[rows], next_tokens.view(-1, 1)], dim=1)
""",
    """        rows = (first_rows + next_beams).flatten()
        self.beam_scores = next_scores
        width = self.tokens.shape[1]
        grouped = self.tokens.view(batch_size, num_beams, width)
        parents = next_beams[:, :, None].expand(-1, -1, width)
        grown = torch.cat([grouped.gather(1, parents), next_tokens[:, :, None]], dim=2)
        self.tokens = grown.view(-1, width + 1)
""",
)


@pytest.mark.parametrize(
    "edit",
    [
        SORTED_SELECTION,
        HEAP_OF_HYPOTHESES,
        INDEXED_ROWS,
        FUNCTIONAL_FORBIDDING,
        NGRAMS_IN_A_DICTIONARY,
        NO_EARLY_CERTAINTY,
        VIEWS_FOR_ROWS,
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edit: tuple[str, str]) -> None:
    for seed in range(2):
        assert broken_promises(NAME, _edited(edit), seed=seed) == {}


# ----- degenerate files

END = "    return BeamSearch(step_fn, prompt, config).run()\n"
SELECT_END = "    return Candidates(scores, flat // vocab_size, flat % vocab_size)\n"


def _output(change: str) -> str:
    return _edited((END, f"    out = BeamSearch(step_fn, prompt, config).run()\n    {change}\n"))


@pytest.mark.parametrize(
    "source",
    [
        _output("return BeamOutput(*(torch.zeros_like(t) for t in out))"),
        _output("return out._replace(scores=out.scores * float('nan'))"),
        _output("return out._replace(scores=out.scores * 1.001)"),
        _output("return out._replace(scores=out.scores.double())"),
        _output("return out._replace(lengths=out.lengths.int())"),
        _output("return BeamOutput(*(t[None] for t in out))"),
        _output("return out._replace(sequences=prompt[:, None])"),
    ],
)
def test_a_degenerate_result_breaks_many_promises(source: str) -> None:
    assert len(broken_promises(NAME, source, seed=1)) >= (1 if "int()" in source else 4)


@pytest.mark.parametrize(
    "edit",
    [
        (SELECT_END, SELECT_END.replace("scores,", "scores * 1.001,")),
        (SELECT_END, SELECT_END.replace("scores,", "scores[None],")),
        (SELECT_END, SELECT_END.replace("scores,", "beam_scores,")),
        (
            "        return sum_logprob / divisor\n",
            "        return sum_logprob + divisor * 0.0\n",
        ),
        ("        return sum_logprob / divisor\n", "        return float('nan') * divisor\n"),
        ("if tokens[i : i + n - 1] == prefix]", "if prefix is tokens]"),
        ("    logprobs = logprobs.clone()\n", ""),
    ],
)
def test_a_degenerate_function_breaks_a_promise(edit: tuple[str, str]) -> None:
    assert breaks(NAME, _edited(edit), seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_length_that_counts_the_prompt_breaks_a_promise(seed: int) -> None:
    edit = ("is_done(best_running[b], self.n_generated)", "is_done(best_running[b], self.width)")
    width = "\n\nBeamSearch.width = property(lambda self: self.tokens.shape[1])\n"
    promise = "test_short_answers_are_favoured_by_a_negative_penalty"

    assert breaks(NAME, _edited(edit) + width, promise, seed=seed)
