"""The decoder block against other people's code; its promises against rewrites and wrong files."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.llama import modeling_llama

NAME = "decoder_block"
SOURCE = source_of(NAME)
decoder: Any = load(NAME, SOURCE)


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers and torch

FAMILIES: dict[str, tuple[Any, Any, dict[str, Any], dict[str, Any]]] = {
    "Llama": (LlamaConfig, LlamaForCausalLM, {}, {"qk_norm": False, "tie_embeddings": False}),
    "Mistral": (
        MistralConfig,
        MistralForCausalLM,
        {"sliding_window": None, "tie_word_embeddings": True},
        {"qk_norm": False},
    ),
    "Qwen3": (Qwen3Config, Qwen3ForCausalLM, {"tie_word_embeddings": True}, {}),
    "Gemma": (
        GemmaConfig,
        GemmaForCausalLM,
        {"hidden_act": "silu"},
        {"qk_norm": False, "zero_centered_norms": True, "scale_embeddings": True},
    ),
}


def _pair(family: str) -> tuple[Any, Any]:
    """Build our decoder and one of transformers' with the same drawn weights."""
    their_config, their_model, their_settings, our_settings = FAMILIES[family]
    config = decoder.DecoderConfig(
        vocab_size=31,
        dim=12,
        hidden_dim=20,
        n_layers=3,
        n_heads=6,
        n_kv_heads=2,
        head_dim=8,
        rope_base=500.0,
        norm_eps=1e-3,
        **our_settings,
    )
    settings = {
        "vocab_size": 31,
        "hidden_size": 12,
        "intermediate_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "rms_norm_eps": 1e-3,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "eager",
        **their_settings,
    }
    theirs = their_model(their_config(**settings)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in theirs.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.add_(0.2 * drawn)
            else:
                parameter.copy_(2 * drawn / parameter.shape[-1] ** 0.5)
    ours = decoder.Decoder(config)
    ours.load_state_dict(decoder.from_checkpoint(theirs.state_dict(), config))
    return ours, theirs


def _tokens(*shape: int) -> Tensor:
    return torch.randint(0, 31, shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_logits_equal_those_of_transformers(family: str) -> None:
    ours, theirs = _pair(family)
    tokens = _tokens(3, 9)
    lengths = torch.tensor([9, 2, 6])
    expected = theirs(tokens).logits
    logits = ours.logits(ours.hidden_states(tokens, torch.tensor([9, 9, 9])))

    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        ours(tokens, lengths), expected[[0, 1, 2], lengths - 1], rtol=1e-4, atol=1e-4
    )
    logprobs = -F.cross_entropy(expected[:, :-1].transpose(1, 2), tokens[:, 1:], reduction="none")
    given = torch.tensor([4, 1, 6])
    spans = zip(given.tolist(), lengths.tolist(), strict=True)
    scores = [logprobs[b, g - 1 : n - 1].sum() for b, (g, n) in enumerate(spans)]
    torch.testing.assert_close(
        ours.score(tokens, lengths, given), torch.stack(scores), rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_a_block_equals_a_decoder_layer_of_llama() -> None:
    ours, theirs = _pair("Llama")
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(0))
    positions = torch.arange(5)[None].expand(2, -1)
    mask = torch.full((5, 5), -torch.inf).triu(1)[None, None]
    expected = theirs.model.layers[1](
        x, attention_mask=mask, position_embeddings=theirs.model.rotary_emb(x, positions)
    )
    rotary = decoder.rotary_tables(torch.arange(5), 8, 500.0)
    visible = decoder.visible_keys(torch.tensor([5, 5]), 5)
    for first, second in [(x, None), (0.25 * x, 0.75 * x)]:
        branch, stream = ours.blocks[1](first, second, rotary, visible)

        torch.testing.assert_close(branch + stream, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@torch.no_grad()
def test_norms_equal_those_of_torch_and_transformers(dtype: torch.dtype) -> None:
    x, residual = torch.randn(2, 3, 5, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.linspace(-0.5, 2.0, 12)
    plain, centered = decoder.RMSNorm(12, 1e-3), decoder.RMSNorm(12, 1e-3, zero_centered=True)
    theirs = modeling_gemma2.Gemma2RMSNorm(12, 1e-3)
    for norm in (plain, centered, theirs):
        norm.load_state_dict({"weight": weight})
    normed, stream = plain(x, residual)
    whole = x.float() + residual.float()

    torch.testing.assert_close(plain(x), F.rms_norm(x.float(), (12,), weight, 1e-3).to(dtype))
    torch.testing.assert_close(centered(x), theirs(x))
    torch.testing.assert_close(normed, F.rms_norm(whole, (12,), weight, 1e-3).to(dtype))
    torch.testing.assert_close(stream, x + residual)


@pytest.mark.parametrize("cap", [None, 0.8])
@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_attention_equals_torchs_and_gemmas(n_kv_heads: int, cap: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 6, 4, 8, generator=generator)
    k, v = torch.randn(2, 2, n_kv_heads, 9, 8, generator=generator).unbind()
    visible = torch.rand(2, 4, 9, generator=generator) < 0.5
    visible[..., 0] = True
    out = decoder.attend(q, k, v, visible, cap)
    gemma = torch.nn.Module()
    gemma.num_key_value_groups = 6 // n_kv_heads  # type: ignore[assignment]
    mask = torch.zeros(2, 1, 4, 9).masked_fill(~visible[:, None], -torch.inf)
    expected, _ = modeling_gemma2.eager_attention_forward(
        gemma.eval(), q, k, v, mask, scaling=8**-0.5, softcap=cap
    )

    torch.testing.assert_close(out.transpose(1, 2), expected)
    if cap is None:
        sdpa = F.scaled_dot_product_attention(q, k, v, visible[:, None], enable_gqa=True)
        torch.testing.assert_close(out, sdpa)


def test_rotation_equals_llamas() -> None:
    q, k = torch.randn(2, 3, 6, 5, 8, generator=torch.Generator().manual_seed(0)).unbind()
    positions = torch.tensor([9, 4, 200, 7, 1])
    config = LlamaConfig(head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    tables = modeling_llama.LlamaRotaryEmbedding(config)(q, positions[None])
    expected_q, expected_k = modeling_llama.apply_rotary_pos_emb(q, k, *tables)
    rotary = decoder.rotary_tables(positions, 8, 500.0)

    torch.testing.assert_close(decoder.apply_rotary(q, *rotary), expected_q)
    torch.testing.assert_close(decoder.apply_rotary(k, *rotary), expected_k)


# ----- rewrites: each text takes the place of the definition that it names

REWRITES = {
    "norms by length, rotation by complex numbers, masks by loops": {
        "RMSNorm.forward": """
            def forward(self, x, residual=None):
                stream = x if residual is None else (x.double() + residual).to(residual.dtype)
                wide = stream.to(torch.float64, copy=True)
                length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
                wide /= (length**2 / x.shape[-1] + self.eps) ** 0.5
                wide *= self.weight.double() + (1 if self.zero_centered else 0)
                return wide.to(x.dtype) if residual is None else (wide.to(x.dtype), stream)
        """,
        "rotary_tables": """
            def rotary_tables(positions, head_dim, base):
                pair = torch.arange(head_dim // 2, device=positions.device).double()
                frequency = torch.exp(-2 * pair / head_dim * torch.log(torch.full_like(pair, base)))
                angle = positions.double()[:, None] * frequency
                return angle.cos().float(), angle.sin().float()
        """,
        "apply_rotary": """
            def apply_rotary(x, cos, sin):
                z = torch.complex(*x.double().unflatten(-1, (2, -1)).unbind(-2))
                z = z * torch.complex(cos, sin)
                out = torch.empty_like(x)
                out[..., : x.shape[-1] // 2] = z.real
                out[..., x.shape[-1] // 2 :] = z.imag
                return out
        """,
        "real_columns": """
            def real_columns(lengths, n_columns):
                real = lengths.new_zeros(len(lengths), n_columns)
                for row, length in enumerate(lengths.tolist()):
                    real[row, :length] = 1
                return real.bool()
        """,
        "visible_keys": """
            def visible_keys(lengths, n_columns):
                every = lengths.new_ones(len(lengths), n_columns, n_columns).tril()
                return (every * real_columns(lengths, n_columns)[:, None, :]).bool()
        """,
        "last_hidden": """
            def last_hidden(hidden, lengths):
                _check_lengths(lengths, hidden)
                rows = [row[n - 1] for row, n in zip(hidden, lengths.tolist())]
                return torch.stack(rows)
        """,
    },
    "attention by einsum over groups, feed-forward by slices": {
        "attend": """
            def attend(q, k, v, visible, cap=None):
                share, rest = divmod(q.shape[1], k.shape[1])
                if rest:
                    raise ValueError(rest)
                grouped = q.double().unflatten(1, (k.shape[1], share)) / q.shape[-1] ** 0.5
                scores = torch.einsum("bgrsd,bgkd->bgrsk", grouped, k.double())
                if cap is not None:
                    scores = softcap(scores, cap)
                scores = torch.where(visible[:, None, None], scores, -torch.inf)
                scores = scores - scores.logsumexp(dim=-1, keepdim=True)
                out = torch.einsum("bgrsk,bgkd->bgrsd", scores.exp(), v.double())
                return out.flatten(1, 2).to(q.dtype)
        """,
        "softcap": """
            def softcap(x, cap):
                if cap is None:
                    return x.clone()
                if not cap > 0:
                    raise ValueError(cap)
                return (2 * torch.sigmoid(2 * x.double() / cap) - 1).mul(cap).to(x.dtype)
        """,
        "GatedMLP.forward": """
            def forward(self, x):
                both = self.gate_up(x)
                half = both.shape[-1] // 2
                out = both[..., half:] * both[..., :half] * torch.sigmoid(both[..., :half])
                return torch.matmul(out, self.down.weight.T)
        """,
        "Attention.forward": """
            def forward(self, x, rotary, visible):
                heads = torch.einsum("bsm,nm->bsn", x, self.wqkv.weight)
                heads = heads.unflatten(-1, (-1, self.head_dim)).permute(0, 2, 1, 3)
                h, g, _ = self.head_counts
                q, k, v = heads[:, :h], heads[:, h : h + g], heads[:, h + g :]
                q = apply_rotary(self.q_norm(q.contiguous()), *rotary)
                k = apply_rotary(self.k_norm(k.contiguous()), *rotary)
                out = attend(q, k, v, visible, self.cap)
                return self.wo(out.permute(0, 2, 1, 3).flatten(2, 3))
        """,
    },
    "attention by torch's own": {
        "attend": """
            def attend(q, k, v, visible, cap=None):
                n_repeats, rest = divmod(q.shape[1], k.shape[1])
                if rest:
                    raise ValueError(rest)
                k, v = repeat_kv(k.float(), n_repeats), repeat_kv(v.float(), n_repeats)
                if cap is None:
                    out = F.scaled_dot_product_attention(q.float(), k, v, visible.unsqueeze(1))
                    return out.to(q.dtype)
                scores = softcap(torch.matmul(q.float(), k.mT) / q.shape[-1] ** 0.5, cap)
                scores += torch.zeros_like(scores).masked_fill_(visible[:, None] == 0, -1e30)
                return torch.softmax(scores, -1).matmul(v).to(q.dtype)
        """,
        "repeat_kv": """
            def repeat_kv(x, n_repeats):
                return torch.repeat_interleave(x, n_repeats, dim=1)
        """,
    },
    "the stream written out": {
        "DecoderBlock.forward": """
            def forward(self, hidden, residual, rotary, visible):
                stream = hidden.clone() if residual is None else hidden + residual
                branch = self.attention(self.attention_norm(stream), rotary, visible)
                stream += branch
                return self.mlp(self.mlp_norm(stream)), stream
        """,
        "Decoder.hidden_states": """
            def hidden_states(self, tokens, lengths):
                _check_lengths(lengths, tokens)
                rotary = rotary_tables(
                    torch.arange(tokens.shape[1], device=tokens.device),
                    self.config.head_dim,
                    self.config.rope_base,
                )
                visible = visible_keys(lengths, tokens.shape[1])
                known = torch.where(real_columns(lengths, tokens.shape[1]), tokens, 0)
                stream = self.embedding.weight[known]
                if self.config.scale_embeddings:
                    stream = stream.mul(self.config.dim**0.5)
                branch = torch.zeros_like(stream)
                for block in self.blocks:
                    branch, stream = block(branch, stream, rotary, visible)
                return self.norm(stream + branch)
        """,
        "Decoder.token_logprobs": """
            @torch.no_grad()
            def token_logprobs(self, tokens, lengths, *, chunk_size=256):
                if chunk_size <= 0:
                    raise ValueError(chunk_size)
                hidden = self.hidden_states(tokens, lengths)
                out = torch.zeros_like(tokens, dtype=torch.float32)
                for row, length in enumerate(lengths.tolist()):
                    for i in range(1, length):
                        logits = self.logits(hidden[row, i - 1])
                        out[row, i] = logits[tokens[row, i]] - logits.logsumexp(-1)
                return out
        """,
        "Decoder.score": """
            def score(self, tokens, lengths, n_prompt):
                if len(n_prompt) != len(lengths):
                    raise ValueError(n_prompt)
                for given, length in zip(n_prompt.tolist(), lengths.tolist()):
                    if not 1 <= given <= length:
                        raise ValueError(given)
                rows = zip(self.token_logprobs(tokens, lengths), n_prompt.tolist())
                return torch.stack([row[given:].sum() for row, given in rows])
        """,
    },
}


def _rewritten(replacements: dict[str, str]) -> str:
    """Return the file with some definitions, named as `function` or `Class.method`, replaced."""
    lines = SOURCE.splitlines()
    found: dict[str, Any] = {}
    for node in ast.parse(SOURCE).body:
        found[getattr(node, "name", "")] = node
        if isinstance(node, ast.ClassDef):
            found.update({f"{node.name}.{getattr(m, 'name', '')}": m for m in node.body})
    for name in sorted(replacements, key=lambda name: -found[name].lineno):
        node = found[name]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        text = textwrap.indent(textwrap.dedent(replacements[name]), " " * node.col_offset)
        lines[first - 1 : node.end_lineno] = text.splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("name", REWRITES)
def test_a_correct_file_by_another_way_keeps_every_promise(name: str) -> None:
    rewritten = _rewritten(REWRITES[name])

    assert rewritten != SOURCE
    assert broken_promises(NAME, rewritten, seed=1) == {}


# ----- wrong files

SPOILERS = {
    "zeros": "torch.zeros_like(out)",
    "nan": "torch.full_like(out, torch.nan)",
    "slightly larger": "out * 1.001",
    "float64": "out.double()",
    "its first argument": "next(x for x in args if isinstance(x, torch.Tensor))",
}
SPOILED = [
    ("softcap", "slightly larger", "test_a_cap_bounds_smoothly"),
    ("apply_rotary", "its first argument", "test_positions_turn_pairs_of_dimensions"),
    ("attend", "float64", "test_attention_in_16_bit_costs_one_rounding"),
    ("GatedMLP.forward", "zeros", "test_the_feed_forward_is_swiglu_with_the_gate_first"),
    ("Decoder.token_logprobs", "nan", "test_each_token_is_predicted_from_those_before_it"),
    ("Decoder.score", "slightly larger", "test_a_continuation_is_scored_without_its_prompt"),
]


@pytest.mark.parametrize(("name", "how", "promise"), SPOILED)
def test_a_wrong_result_breaks_its_promise(name: str, how: str, promise: str) -> None:
    spoiled = f"""{SOURCE}

def _spoil(function):
    def call(*args, **kwargs):
        out = function(*args, **kwargs)
        return {SPOILERS[how]}
    return call

{name} = _spoil({name})
"""

    assert breaks(NAME, spoiled, promise, seed=3)


WRONG = {
    "a hidden key beats one with a very low score": (
        'masked_fill(~visible[:, None], float("-inf"))',
        "masked_fill(~visible[:, None], -1e4)",
        "test_attention_in_16_bit_costs_one_rounding",
    ),
    "squares in 16 bit": (
        "        stream = x.float()\n",
        "        stream = x\n",
        "test_norms_of_16_bit_values_are_as_accurate_as_16_bits_can_be",
    ),
    "normed values carried on": (
        "(normed, stream.to(residual.dtype))",
        "(normed, normed.to(residual.dtype))",
        "test_a_norm_adds_the_residual_first_and_hands_the_sum_on",
    ),
    "keys normed as queries": (
        "apply_rotary(self.k_norm(k), *rotary)",
        "apply_rotary(self.q_norm(k), *rotary)",
        "test_a_block_adds_each_branch_to_the_stream_once",
    ),
    "lengths on the host": (
        "torch.full((len(tokens),), tokens.shape[1], device=tokens.device)",
        "torch.full((len(tokens),), tokens.shape[1])",
        "test_tensors_are_made_where_the_inputs_are",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_line_breaks_its_promise(name: str) -> None:
    old, new, promise = WRONG[name]
    assert SOURCE.count(old) == 1
    broken = broken_promises(NAME, SOURCE.replace(old, new), seed=0)

    assert promise in broken
