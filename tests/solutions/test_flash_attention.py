"""Flash attention against other implementations, and its promises against rewrites."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor

NAME = "flash_attention"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = str(SOURCE)
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def _qkv(q_len: int, kv_len: int, n_heads: int = 6, n_kv_heads: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(q_len * 100 + kv_len)
    shapes = [(2, n_heads, q_len, 8), (2, n_kv_heads, kv_len, 8), (2, n_kv_heads, kv_len, 8)]
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("seed", leading(2, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against torch and transformers


@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize(("q_len", "kv_len"), [(150, 150), (1, 200), (70, 133)])
def test_it_agrees_with_scaled_dot_product_attention(
    q_len: int, kv_len: int, window: int | None
) -> None:
    q, k, v = _qkv(q_len, kv_len)
    positions = torch.arange(kv_len)
    distance = positions[kv_len - q_len :, None] - positions
    visible = (distance >= 0) & (distance < (window or kv_len))

    out, _ = load(NAME, SOURCE).flash_attention(q, k, v, window=window)

    want = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, enable_gqa=True)
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)


def test_lse_is_that_of_torch() -> None:
    q, k, v = _qkv(70, 70, 2, 2)

    out, lse = load(NAME, SOURCE).flash_attention(q, k, v, block_q=32, block_k=16)

    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    want_out, want_lse = flash(q, k, v, 0.0, True)
    torch.testing.assert_close(out, want_out, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(lse, want_lse, rtol=1e-5, atol=1e-5)


def test_softcaps_are_those_of_gemma() -> None:
    gemma = pytest.importorskip("transformers.models.gemma2.modeling_gemma2")
    q, k, v = _qkv(9, 9)
    mask = torch.full((9, 9), float("-inf")).triu(1)
    module = SimpleNamespace(num_key_value_groups=3, training=False)

    want, _ = gemma.eager_attention_forward(module, q, k, v, mask, scaling=0.7, softcap=1.5)
    out, _ = load(NAME, SOURCE).flash_attention(q, k, v, scale=0.7, softcap=1.5, block_k=4)

    torch.testing.assert_close(out, want.transpose(1, 2), rtol=1e-5, atol=1e-5)


def test_sinks_are_those_of_gpt_oss() -> None:
    gpt_oss = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")
    sink = torch.randn(6, generator=torch.Generator().manual_seed(0))
    q, k, v = _qkv(9, 9)
    mask = torch.full((9, 9), float("-inf")).triu(1)
    module = SimpleNamespace(num_key_value_groups=3, training=False, sinks=sink)

    want, _ = gpt_oss.eager_attention_forward(module, q, k, v, mask, scaling=8**-0.5)
    want = want.transpose(1, 2)
    ours: Any = load(NAME, SOURCE)

    out, _ = ours.flash_attention(q, k, v, sink=sink, block_k=4)
    torch.testing.assert_close(out, want, rtol=1e-5, atol=1e-5)
    out, _ = ours.split_kv_decode(q[:, :, -1:], k, v, 4, sink=sink)
    torch.testing.assert_close(out, want[:, :, -1:], rtol=1e-5, atol=1e-5)


# ----- rewrites


FULL_MATRIX = (
    (
        "    for b in range(n_seqs):\n",
        "    for b in range(n_seqs):\n"
        "        n_keys = lens[b]\n"
        "        keys = k[b, :, :n_keys].float().repeat_interleave(groups, dim=0)\n"
        "        values = v[b, :, :n_keys].float().repeat_interleave(groups, dim=0)\n"
        "        positions = torch.arange(n_keys - q_len, n_keys, device=q.device)\n"
        "        key_positions = torch.arange(n_keys, device=q.device)\n"
        "        seen = tile_mask(positions, key_positions, causal=causal, window=window)\n"
        "        scores = tile_scores(q[b], keys, scale, softcap)\n"
        "        scores = torch.where(seen, scores, NEG_INF)\n"
        "        lse[b] = torch.logsumexp(scores, dim=-1)\n"
        "        out[b] = torch.nan_to_num(torch.exp(scores - lse[b, ..., None])) @ values\n"
        "        continue\n",
    ),
)
IN_PLACE_AND_GUARDED = (
    (
        "        shift = new_max.masked_fill(new_max == NEG_INF, 0.0)\n"
        "        correction = torch.exp(self.running_max - shift)\n"
        "        weights = torch.exp(scores - shift[..., None])\n"
        "        self.normalizer = self.normalizer * correction + weights.sum(dim=-1)\n"
        "        self.accumulator = self.accumulator * correction[..., None]"
        " + weights @ v.float()\n",
        "        correction = torch.exp(self.running_max - new_max).nan_to_num(0.0)\n"
        "        weights = torch.exp(scores - new_max[..., None]).nan_to_num(0.0)\n"
        "        self.normalizer.mul_(correction).add_(weights.sum(dim=-1))\n"
        "        self.accumulator.mul_(correction[..., None]).add_(weights @ v.float())\n",
    ),
)
HEADS_IN_GROUPS = (
    (
        "                k_tile = k[b, :, k_start:k_stop].repeat_interleave(groups, dim=0)\n"
        "                v_tile = v[b, :, k_start:k_stop].repeat_interleave(groups, dim=0)\n",
        "                head = torch.arange(n_heads, device=q.device) // groups\n"
        "                k_tile = k[b, head, k_start:k_stop]\n"
        "                v_tile = v[b][head][:, k_start:k_stop]\n",
    ),
    (
        "    scores = (q.float() @ k.float().transpose(-1, -2)) * scale\n",
        '    scores = torch.einsum("...qd,...kd->...qk", q.float() * scale, k.float())\n',
    ),
)
MERGE_BY_SHARES = (
    (
        "    top = lses.amax(dim=0)\n"
        "    shift = top.masked_fill(top == NEG_INF, 0.0)\n"
        "    weights = torch.exp(lses - shift)\n"
        "    weighted = (weights[..., None] * outs.float()).sum(dim=0)\n"
        "    out, lse = _normalize(weighted, weights.sum(dim=0), shift)\n"
        "    return out.to(outs.dtype), lse\n",
        "    out, lse = outs[0].float(), lses[0]\n"
        "    for part, part_lse in zip(outs[1:], lses[1:], strict=True):\n"
        "        total = torch.logaddexp(lse, part_lse)\n"
        "        old = torch.exp(lse - total).nan_to_num(0.0)[..., None]\n"
        "        new = torch.exp(part_lse - total).nan_to_num(0.0)[..., None]\n"
        "        out, lse = old * out + new * part.float(), total\n"
        "    return out.to(outs.dtype), lse\n",
    ),
)
OTHER_IDIOMS = (
    ("return -(-a // b)", "return (a + b - 1) // b"),
    (
        "    visible = torch.ones_like(distance, dtype=torch.bool)\n"
        "    if causal:\n"
        "        visible = visible & (distance >= 0)\n"
        "    if window is not None:\n"
        "        visible = visible & (distance < window)\n"
        "    return visible\n",
        "    hidden = (distance < 0) & causal\n"
        "    if window is not None:\n"
        "        hidden = hidden | (window <= distance)\n"
        "    return torch.logical_not(hidden)\n",
    ),
    (
        "    split = cdiv(kv_len, n_splits)\n",
        "    split = max(cdiv(kv_len, n_splits), 2)\n",
    ),
    (
        "    prefix = prefix.reshape(n_heads, n_seqs, q_len, -1).transpose(0, 1)\n",
        "    prefix = prefix[0].unflatten(1, (n_seqs, q_len)).permute(1, 0, 2, 3)\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(FULL_MATRIX, id="the full matrix"),
        pytest.param(IN_PLACE_AND_GUARDED, id="in place, NaN removed"),
        pytest.param(HEADS_IN_GROUPS, id="heads looked up"),
        pytest.param(MERGE_BY_SHARES, id="merged two by two"),
        pytest.param(OTHER_IDIOMS, id="other idioms"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


PROMISE_OF = {
    "flash_attention": "test_the_result_does_not_depend_on_the_tiles",
    "merge_partials": "test_partial_results_merge_into_the_whole",
    "split_kv_decode": "test_split_decoding_is_decoding",
    "shared_prefix_attention": "test_a_shared_prefix_counts_for_every_row",
}


@pytest.mark.parametrize(
    "result",
    [
        pytest.param("out * 0, lse", id="zeros"),
        pytest.param("out, lse * 0", id="no lse"),
        pytest.param('out * float("nan"), lse', id="nan"),
        pytest.param("out * 1.001, lse", id="a little too large"),
        pytest.param("out.double(), lse", id="another dtype"),
        pytest.param("out[None], lse[None]", id="one dimension more"),
        pytest.param("args[0], lse", id="the first argument"),
    ],
)
@pytest.mark.parametrize("function", PROMISE_OF)
def test_a_wrong_result_breaks_a_promise(function: str, result: str) -> None:
    wrong = (
        f"\n\n_{function} = {function}\n\n\n"
        f"def {function}(*args, **kwargs):\n"
        f"    out, lse = _{function}(*args, **kwargs)\n"
        f"    return {result}\n"
    )
    assert breaks(NAME, SOURCE + wrong, PROMISE_OF[function], seed=0)


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            ("    return start // block_k * block_k, stop", "    return 0, kv_len"),
            "test_the_range_of_keys_covers_what_queries_see",
            id="always the whole range",
        ),
        pytest.param(
            ("    return visible\n", "    return torch.ones_like(visible)\n"),
            "test_a_window_without_causality_bounds_the_past_alone",
            id="nothing is masked",
        ),
        pytest.param(
            ("        self.running_max = new_max\n", "        self.running_max = shift\n"),
            "test_scores_may_grow_and_shrink_from_tile_to_tile",
            id="an empty tile counts as a score of zero",
        ),
        pytest.param(
            (
                "v.shape[-1], dtype=torch.float32, device=q.device)\n    lse",
                "v.shape[-1], dtype=q.dtype, device=q.device)\n    lse",
            ),
            "test_parts_that_nearly_cancel_leave_an_exact_rest",
            id="parts are rounded before they are merged",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
