"""The sliding-window decoder agrees with other people's code, and its promises judge it fairly."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
import torch
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache, MistralConfig, MistralForCausalLM
from transformers.models.mistral import modeling_mistral

SOURCE = source_of("sliding_window_decoder")
decoder: Any = load("sliding_window_decoder", SOURCE)

# In an order that leaves no name half renamed.
THEIR_NAMES = {
    "embedding": "model.embed_tokens",
    "layers.": "model.layers.",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.w": "self_attn.w",
    "wq": "q_proj",
    "wk": "k_proj",
    "wv": "v_proj",
    "wo": "o_proj",
    "w_gate": "mlp.gate_proj",
    "w_up": "mlp.up_proj",
    "w_down": "mlp.down_proj",
}


def _pair(window: int) -> tuple[Any, Any]:
    """Build our decoder and a Mistral with the same drawn weights."""
    config = decoder.DecoderConfig(
        vocab_size=31,
        dim=12,
        hidden_dim=20,
        n_layers=3,
        n_heads=6,
        n_kv_heads=2,
        head_dim=8,
        window=window,
        rope_base=500.0,
        norm_eps=1e-3,
    )
    settings: dict[str, Any] = {
        "vocab_size": 31,
        "hidden_size": 12,
        "intermediate_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": window,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0},
        "rms_norm_eps": 1e-3,
        "bos_token_id": None,
        "eos_token_id": None,
        "attn_implementation": "eager",
    }
    theirs: Any = MistralForCausalLM(MistralConfig(**settings))
    theirs.eval()
    ours = decoder.SlidingWindowDecoder(config)
    generator = torch.Generator().manual_seed(window)
    weights: dict[str, Tensor] = {}
    for name, old in ours.state_dict().items():
        drawn = torch.randn(old.shape, generator=generator) / old.shape[-1] ** 0.5
        weights[name] = 1 + drawn if old.dim() == 1 else 2 * drawn
    ours.load_state_dict(weights)
    renamed = {}
    for name, weight in weights.items():
        their_name = "model.norm.weight" if name == "norm.weight" else name
        for our_part, their_part in THEIR_NAMES.items():
            their_name = their_name.replace(our_part, their_part)
        renamed[their_name] = weight
    theirs.load_state_dict(renamed)
    return ours, theirs


def _tokens(*shape: int) -> Tensor:
    return torch.randint(0, 31, shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("window", [1, 4, 17, 40])
@torch.no_grad()
def test_logits_equal_mistrals(window: int) -> None:
    ours, theirs = _pair(window)
    tokens = _tokens(3, 17)
    expected = theirs(tokens).logits
    for size in (17, 5, 3):
        cache = ours.new_cache(3)
        pieces = [ours(chunk, cache) for chunk in torch.split(tokens, size, dim=1)]

        torch.testing.assert_close(torch.cat(pieces, dim=1), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_decoding_equals_mistrals_with_its_own_cache() -> None:
    ours, theirs = _pair(4)
    tokens = _tokens(2, 14)
    cache, their_cache = ours.new_cache(2), DynamicCache(config=theirs.config)
    ours(tokens[:, :6], cache)
    theirs(tokens[:, :6], past_key_values=their_cache)
    for token in tokens[:, 6:].unbind(dim=1):
        logits = ours.decode(token, cache, torch.tensor([True, True]))
        expected = theirs(token[:, None], past_key_values=their_cache).logits[:, 0]

        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_ragged_prompts_equal_mistrals_left_padded_batch() -> None:
    ours, theirs = _pair(4)
    lengths = torch.tensor([9, 2, 6])
    tokens = _tokens(3, 9)
    last = ours.prefill(tokens, lengths, ours.new_cache(3), chunk_size=4)
    real = torch.arange(9) >= 9 - lengths[:, None]
    padded = torch.zeros_like(tokens)
    for row, length in enumerate(lengths.tolist()):
        padded[row, 9 - length :] = tokens[row, :length]
    positions = (real.long().cumsum(-1) - 1).clamp(min=0)
    expected = theirs(padded, attention_mask=real.long(), position_ids=positions).logits[:, -1]

    torch.testing.assert_close(last, expected, rtol=1e-4, atol=1e-4)


def test_generated_tokens_equal_mistrals() -> None:
    ours, theirs = _pair(4)
    prompts = [_tokens(11).tolist(), [5, 6], [30]]
    answers = decoder.generate(ours, prompts, max_new_tokens=12, chunk_size=4)
    for prompt, answer in zip(prompts, answers, strict=True):
        given = torch.tensor([prompt])
        whole = theirs.generate(
            given,
            attention_mask=torch.ones_like(given),
            max_new_tokens=12,
            do_sample=False,
            pad_token_id=0,
        )

        assert [*prompt, *answer] == whole[0].tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_rms_norm_equals_mistrals_and_torchs(dtype: torch.dtype) -> None:
    x = torch.randn(3, 5, 12, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.linspace(0.5, 2.0, 12)
    ours, theirs = decoder.RMSNorm(12, 1e-3), modeling_mistral.MistralRMSNorm(12, 1e-3)
    for norm in (ours, theirs):
        norm.load_state_dict({"weight": weight})

    torch.testing.assert_close(ours(x), F.rms_norm(x.float(), (12,), weight, 1e-3).to(dtype))
    torch.testing.assert_close(ours(x), theirs(x).to(dtype))


def test_rotation_equals_mistrals() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 3, 6, 5, 8, generator=generator).unbind()
    positions = torch.tensor([[0, 1, 2, 3, 4], [9, 4, 200, 7, 1], [5, 5, 5, 6, 6]])
    config = MistralConfig(
        head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 500.0}
    )
    their_cos, their_sin = modeling_mistral.MistralRotaryEmbedding(config)(q, positions)
    expected_q, expected_k = modeling_mistral.apply_rotary_pos_emb(q, k, their_cos, their_sin)
    cos, sin = decoder.rope_tables(positions, 8, 500.0)

    torch.testing.assert_close(decoder.apply_rope(q, cos, sin), expected_q)
    torch.testing.assert_close(decoder.apply_rope(k, cos, sin), expected_k)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 6])
def test_attention_equals_torchs(n_kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 6, 4, 8, generator=generator)
    k, v = torch.randn(2, 2, n_kv_heads, 9, 8, generator=generator).unbind()
    allowed = torch.rand(2, 4, 9, generator=generator) < 0.5
    allowed[..., 0] = True
    expected = F.scaled_dot_product_attention(q, k, v, allowed[:, None], enable_gqa=True)

    torch.testing.assert_close(decoder.grouped_attention(q, k, v, allowed), expected)


# Correct files by other ways: each text takes the place of the definition that it names.
REWRITES = {
    "attention by einsum over groups, softmax by hand": {
        "grouped_attention": """
            def grouped_attention(q, k, v, allowed):
                batch, n_heads, q_len, size = q.shape
                if n_heads % k.shape[1] != 0:
                    raise ValueError(n_heads)
                q = q.double().reshape(batch, k.shape[1], -1, q_len, size) / size**0.5
                scores = torch.einsum("bgrsd,bgkd->bgrsk", q, k.double())
                mask = allowed[:, None, None]
                scores = torch.where(mask, scores, -torch.inf)
                top = scores.amax(-1, keepdim=True).nan_to_num(neginf=0.0)
                weight = (scores - top).exp()
                total = weight.sum(-1, keepdim=True).clamp(min=1e-300)
                clean = v.double().nan_to_num()
                out = torch.einsum("bgrsk,bgkd->bgrsd", weight / total, clean)
                return out.reshape(batch, n_heads, q_len, size).to(v.dtype)
        """
    },
    "attention by torch's own, head by head": {
        "grouped_attention": """
            def grouped_attention(q, k, v, allowed):
                share, rest = divmod(q.shape[1], k.shape[1])
                if rest:
                    raise ValueError(rest)
                out = torch.zeros_like(q)
                for row in range(len(q)):
                    for column in range(q.shape[2]):
                        index = allowed[row, column].nonzero()[:, 0]
                        for head in range(q.shape[1] if len(index) else 0):
                            out[row, head, column] = F.scaled_dot_product_attention(
                                q[row, head, column][None].float(),
                                k[row, head // share, index].float(),
                                v[row, head // share, index].float(),
                            )[0].to(q.dtype)
                return out
        """
    },
    "visibility by loops, as numbers": {
        "visible": """
            def visible(q_pos, k_pos, *, window, n_sink=0):
                out = q_pos.new_zeros(*q_pos.shape, k_pos.shape[1], dtype=torch.bool)
                for row in range(len(q_pos)):
                    for i, query in enumerate(q_pos[row].tolist()):
                        first = max(0, query - window + 1)
                        seen = {*range(first, query + 1), *range(min(n_sink, query + 1))}
                        for j, key in enumerate(k_pos[row].tolist()):
                            out[row, i, j] = key in seen
                return out
        """
    },
    "rotation by complex numbers, tables in float64": {
        "rope_tables": """
            def rope_tables(positions, head_dim, base):
                pair = torch.arange(head_dim, device=positions.device) % (head_dim // 2)
                frequency = torch.full_like(pair, base).double() ** (-2 * pair / head_dim)
                angle = positions[..., None].double() * frequency
                return angle.cos().float(), angle.sin().float()
        """,
        "apply_rope": """
            def apply_rope(x, cos, sin):
                half = x.shape[-1] // 2
                z = torch.complex(x[..., :half].double(), x[..., half:].double())
                turn = torch.complex(cos[..., :half].double(), sin[..., :half].double())
                z = z * turn.unsqueeze(1)
                out = torch.empty_like(x)
                out[..., :half] = z.real
                out[..., half:] = z.imag
                return out
        """,
    },
    "norm by length": {
        "RMSNorm.forward": """
            def forward(self, x):
                wide = x.to(torch.float64)
                size = (torch.linalg.vector_norm(wide, dim=-1) ** 2 / x.shape[-1] + self.eps) ** 0.5
                wide /= size.unsqueeze(-1)
                return wide.mul_(self.weight).to(x.dtype)
        """
    },
    "storage token by token in a ring of another order": {
        "RollingKVCache.slot_of": """
            def slot_of(self, positions):
                ring = self.n_sink + (positions - self.n_sink) % self.window
                return torch.where(positions < self.n_sink, positions, ring)
        """,
        "RollingKVCache.store": """
            def store(self, layer, k, v, plan):
                new = zip(plan.rows.tolist(), plan.columns.tolist(), plan.slots.tolist())
                for row, column, slot in new:
                    self.k[layer, row, :, slot].copy_(k[row, :, column])
                    self.v[layer, row, :, slot].copy_(v[row, :, column])
        """,
        "RollingKVCache.snapshot": """
            def snapshot(self, layer, row):
                held = sorted((p, i) for i, p in enumerate(self.positions[row].tolist()) if p >= 0)
                slots = [slot for _, slot in held]
                return (
                    self.positions[row].clone()[slots],
                    self.k[layer, row].index_select(1, self.positions.new_tensor(slots)),
                    self.v[layer, row].index_select(1, self.positions.new_tensor(slots)),
                )
        """,
    },
    "rows changed in place and one by one": {
        "RollingKVCache.rollback": """
            def rollback(self, n_tokens):
                for n, length in zip(n_tokens.tolist(), self.lengths.tolist()):
                    if not 0 <= n <= length or (n and length > self.n_sink + self.window):
                        raise ValueError(n)
                self.lengths -= n_tokens
                for row, length in enumerate(self.lengths.tolist()):
                    self.positions[row][self.positions[row] >= length] = EMPTY
        """,
        "RollingKVCache.reset_rows": """
            def reset_rows(self, rows):
                for row in rows:
                    self.k[:, row].zero_()
                    self.v[:, row].zero_()
                    self.positions[row].fill_(EMPTY)
                    self.lengths[row] = 0
        """,
        "RollingKVCache.select_rows": """
            def select_rows(self, rows):
                self.k = torch.stack([self.k[:, row] for row in rows], dim=1)
                self.v = torch.stack([self.v[:, row] for row in rows], dim=1)
                self.positions = torch.stack([self.positions[row] for row in rows])
                self.lengths = torch.stack([self.lengths[row] for row in rows])
        """,
    },
    "a step planned by lists": {
        "RollingKVCache.plan": """
            def plan(self, q_len, n_new=None):
                before = self.lengths.tolist()
                added = [q_len] * len(before) if n_new is None else n_new.tolist()
                if len(added) != len(before) or not all(0 <= n <= q_len for n in added):
                    raise ValueError(added)
                positions = self.lengths.new_full((len(before), q_len), EMPTY)
                stored = []
                for row, (length, n) in enumerate(zip(before, added)):
                    for column in range(n):
                        position = length + column
                        positions[row, column] = position
                        if position < self.n_sink:
                            stored.append((row, column, position))
                        elif position >= length + n - self.window:
                            stored.append((row, column, self.n_sink + position % self.window))
                stored = self.lengths.new_tensor(stored).view(-1, 3)
                keys = torch.cat([self.positions, positions], dim=-1)
                allowed = visible(positions, keys, window=self.window, n_sink=self.n_sink)
                lengths = self.lengths + self.lengths.new_tensor(added)
                return StepPlan(positions, allowed, lengths, *stored.unbind(dim=1))
        """
    },
    "every prompt generated alone, token by token": {
        "generate": """
            def generate(model, prompts, *, max_new_tokens, eos_id=None, chunk_size=256):
                known = range(model.config.vocab_size)
                if max_new_tokens < 0:
                    raise ValueError(max_new_tokens)
                if any(not prompt or any(t not in known for t in prompt) for prompt in prompts):
                    raise ValueError(prompts)
                answers = []
                for prompt in prompts:
                    cache, answer = model.new_cache(1), []
                    ids = model.embedding.weight.new_tensor(prompt).long()
                    for token in ids:
                        logits = model(token.view(1, 1), cache)
                    while len(answer) < max_new_tokens and eos_id not in answer[-1:]:
                        answer.append(logits[0, -1].argmax().item())
                        logits = model(logits[:, -1:].argmax(-1), cache)
                    answers.append(answer)
                return answers
        """,
        "SlidingWindowDecoder.prefill": """
            def prefill(self, tokens, lengths, cache, *, chunk_size):
                if chunk_size <= 0:
                    raise ValueError(chunk_size)
                last = [None] * len(tokens)
                for column in range(int(lengths.max())):
                    active = lengths > column
                    logits = self.decode(tokens[:, column], cache, active)
                    for row in active.nonzero()[:, 0].tolist():
                        last[row] = logits[row]
                return torch.stack(last)
        """,
    },
}


def _rewritten(replacements: dict[str, str]) -> str:
    """Return the file with some definitions, named as `function` or `Class.method`, replaced."""
    lines = SOURCE.splitlines()
    found = {}
    for node in ast.parse(SOURCE).body:
        found[getattr(node, "name", "")] = node
        if isinstance(node, ast.ClassDef):
            found.update({f"{node.name}.{getattr(m, 'name', '')}": m for m in node.body})
    for name in sorted(replacements, key=lambda name: -found[name].lineno):
        node = found[name]
        text = textwrap.indent(textwrap.dedent(replacements[name]), " " * node.col_offset)
        lines[node.lineno - 1 : node.end_lineno] = text.splitlines()
    return "\n".join(lines)


@pytest.mark.parametrize("name", REWRITES)
def test_a_correct_file_by_another_way_keeps_every_promise(name: str) -> None:
    rewritten = _rewritten(REWRITES[name])

    assert rewritten != SOURCE
    assert broken_promises("sliding_window_decoder", rewritten, seed=1) == {}


@pytest.mark.parametrize("seed", leading(2, range(5)))
def test_the_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises("sliding_window_decoder", seed=seed) == {}


SPOILERS = {
    "zeros": "torch.zeros_like(out)",
    "nan": "torch.full_like(out, torch.nan)",
    "slightly larger": "out * 1.001",
    "float64": "out.double()",
    "echo": "args[0]",
}
SPOILED = [
    *((name, how) for name in ("grouped_attention", "apply_rope") for how in SPOILERS),
    *(("SlidingWindowDecoder.forward", how) for how in SPOILERS if how != "echo"),
    *(("WindowAttention.forward", how) for how in ("zeros", "nan", "slightly larger")),
    *(("RMSNorm.forward", how) for how in ("zeros", "slightly larger", "float64")),
    ("SlidingWindowDecoder.prefill", "zeros"),
    ("SlidingWindowDecoder.decode", "slightly larger"),
    ("visible", "zeros"),
    ("RollingKVCache.slot_of", "zeros"),
]


@pytest.mark.parametrize(("name", "how"), SPOILED)
def test_a_file_that_returns_something_else_breaks_promises(name: str, how: str) -> None:
    spoiled = f"""{SOURCE}

def _spoil(function):
    def call(*args, **kwargs):
        out = function(*args, **kwargs)
        return {SPOILERS[how]}
    return call

{name} = _spoil({name})
"""

    assert breaks("sliding_window_decoder", spoiled, seed=3)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("RollingKVCache.commit", "test_decoding_equals_the_whole_sequence"),
        ("RollingKVCache.store", "test_the_cache_holds_the_sinks_and_the_last_tokens"),
        ("RollingKVCache.reset_rows", "test_a_reset_row_starts_empty"),
        ("RollingKVCache.rollback", "test_rolled_back_tokens_never_were"),
        ("RollingKVCache.select_rows", "test_rows_can_move_and_leave"),
    ],
)
def test_a_step_that_does_nothing_breaks_its_promise(name: str, left_out: str) -> None:
    idle = f"{SOURCE}\n\n{name} = lambda *args: None\n"

    assert breaks("sliding_window_decoder", idle, left_out, seed=3)


def test_hidden_scores_that_are_only_large_numbers_below_zero_break_their_promise() -> None:
    low = SOURCE.replace('masked_fill(blocked, float("-inf"))', "masked_fill(blocked, -1e4)")
    promise = "test_a_key_out_of_sight_has_no_weight_however_low_the_rest"

    assert low != SOURCE
    assert breaks("sliding_window_decoder", low, promise, seed=0)
