"""Masks against transformers and torch, and their promises against rewrites and wrong files."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor

NAME = "attention_masks"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = str(SOURCE)
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers


@pytest.mark.parametrize("q_len", [9, 4, 1])
@pytest.mark.parametrize(
    "rules",
    [{}, {"window": 3}, {"chunk": 4}, {"prefix": True}, {"window": 2, "prefix": True}],
    ids=str,
)
def test_left_padded_batches_have_the_masks_of_transformers(
    rules: dict[str, Any], q_len: int
) -> None:
    """Its padded queries see what no one asks for, so that only those of tokens are compared."""
    theirs = pytest.importorskip("transformers.masking_utils")
    module = load(NAME, SOURCE)
    lengths = torch.tensor([9, 5, 1, 7])
    valid = module.padding_mask(lengths, 9)
    prefix_len = torch.tensor([4, 2, 1, 0])
    function = theirs.causal_mask_function
    if "window" in rules:
        function = theirs.sliding_window_causal_mask_function(rules["window"])
    if "chunk" in rules:
        function = theirs.chunked_causal_mask_function(rules["chunk"], 9 - lengths)
    if "prefix" in rules:
        slot = torch.arange(9)
        inside = (slot >= 9 - lengths[:, None]) & (
            slot < 9 - lengths[:, None] + prefix_len[:, None]
        )
        blocks = theirs.blockwise_overlay(torch.where(inside, 0, -1))
        function = theirs.or_masks(function, blocks)
    want = theirs.sdpa_mask(
        4,
        q_len,
        9,
        q_offset=9 - q_len,
        mask_function=function,
        attention_mask=valid,
        allow_is_causal_skip=False,
    )

    got = module.build_mask(
        valid,
        q_len,
        window=rules.get("window"),
        chunk=rules.get("chunk"),
        prefix_len=prefix_len if "prefix" in rules else None,
    )
    asked = valid[:, None, 9 - q_len :]
    assert got[asked].tolist() == want[asked].tolist()
    assert not got[~asked].any()


@pytest.mark.parametrize("window", [None, 3])
def test_packed_rows_have_the_masks_of_transformers(window: int | None) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = pytest.importorskip("transformers.masking_utils")
    module = load(NAME, SOURCE)
    config = transformers.MistralConfig(sliding_window=window, attn_implementation="sdpa")
    make = theirs.create_sliding_window_causal_mask if window else theirs.create_causal_mask
    rng = random.Random(0)
    for _ in range(5):
        ids = torch.tensor([[rng.choice([1, 1, 1, 2]) for _ in range(12)] for _ in range(3)])
        valid = torch.ones(3, 12, dtype=torch.bool)
        documents = module.document_index(ids)
        positions = module.position_ids(valid, documents)
        assert torch.equal(theirs.find_packed_sequence_indices(positions), documents)
        want = make(config, torch.zeros(3, 12, 4), None, None, position_ids=positions)
        got = module.build_mask(valid, 12, window=window, segment_ids=ids)
        assert torch.equal(got, want)


@pytest.mark.parametrize(("n_layers", "global_every"), [(26, 6), (7, 3), (4, 5)])
def test_layers_alternate_as_in_gemma_3(n_layers: int, global_every: int) -> None:
    transformers = pytest.importorskip("transformers")
    module = load(NAME, SOURCE)
    config = transformers.Gemma3TextConfig(
        num_hidden_layers=n_layers, sliding_window_pattern=global_every
    )
    local = module.MaskSpec(window=config.sliding_window)
    specs = module.layer_specs(n_layers, local, global_every=global_every)
    assert [spec.window is not None for spec in specs] == [
        layer == "sliding_attention" for layer in config.layer_types
    ]


# ----- against torch


def test_tiles_are_those_of_flex_attention() -> None:
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    module = load(NAME, SOURCE)
    valid = module.padding_mask(torch.tensor([13, 9]), 13, side="right")
    mask = module.build_mask(valid, 11, window=6)

    def mask_mod(b: Tensor, _h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        seen: Tensor = mask[b, 0, q, k]
        return seen

    blocks = flex.create_block_mask(mask_mod, 2, 1, 11, 13, device="cpu", BLOCK_SIZE=(2, 3))
    want = torch.zeros(2, 6, 5, dtype=torch.long)
    for kind, counts, columns in [
        (module.PARTIAL, blocks.kv_num_blocks, blocks.kv_indices),
        (module.FULL, blocks.full_kv_num_blocks, blocks.full_kv_indices),
    ]:
        for b, i in torch.cartesian_prod(torch.arange(2), torch.arange(6)).tolist():
            want[b, i, columns[b, 0, i, : counts[b, 0, i]].long()] = kind
    assert torch.equal(module.tile_kinds(mask, 2, 3), want)
    assert set(want.flatten().tolist()) == {module.SKIP, module.PARTIAL, module.FULL}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_decoding_agrees_with_scaled_dot_product_attention(dtype: torch.dtype) -> None:
    """A ragged batch takes a prompt, a chunk and tokens, under the masks of two kinds of layer."""
    module = load(NAME, SOURCE)
    generator = torch.Generator().manual_seed(0)
    masks = module.BatchMasks(module.padding_mask(torch.tensor([5, 2, 4]), 5))
    k, v = torch.randn(2, 3, 2, 10, 8, generator=generator).to(dtype)
    for n_new in (0, 3, 1, 1):
        if n_new:
            masks.append(torch.rand(3, n_new, generator=generator) > 0.3)
        q = torch.randn(3, 6, masks.q_len, 8, generator=generator).to(dtype)
        n_slots = masks.valid.shape[1]
        keys, values = k[:, :, :n_slots], v[:, :, :n_slots]
        for spec in (module.MaskSpec(), module.MaskSpec(window=3, n_sink=1)):
            mask = masks.mask(spec)
            bias = module.to_additive(mask, torch.float32)
            got = module.masked_attention(q, keys, values, mask)
            want = F.scaled_dot_product_attention(
                q.float(), keys.float(), values.float(), attn_mask=bias, enable_gqa=True
            )
            asked = mask.any(dim=-1)[:, 0, :, None].expand(3, -1, 8)
            tolerance = 1e-5 if dtype == torch.float32 else 1e-2
            for head in range(6):
                torch.testing.assert_close(
                    got[:, head][asked].float(),
                    want[:, head][asked],
                    rtol=tolerance,
                    atol=tolerance,
                )
                assert not got[:, head][~asked].any()


# ----- rewrites


BY_DISTANCE = (
    (
        "    causal = key <= query\n"
        "    near = torch.ones_like(causal)\n"
        "    if window is not None:\n"
        "        near = near & (query - key < window)\n"
        "    if chunk is not None:\n"
        "        near = near & (query // chunk == key // chunk)\n"
        "    sink = key < n_sink\n"
        "    return (key != PADDING) & causal & (near | sink)\n",
        "    oldest = torch.zeros_like(query)\n"
        "    if window is not None:\n"
        "        oldest = torch.maximum(oldest, query - (window - 1))\n"
        "    if chunk is not None:\n"
        "        oldest = torch.maximum(oldest, query - query % chunk)\n"
        "    hidden = (key > query) | ((key < oldest) & (key >= n_sink))\n"
        "    return ~(hidden | (key < 0) | (query < 0))\n",
    ),
    (
        "    q_inside = (q_pos != PADDING) & (q_pos < limit)\n"
        "    k_inside = (k_pos != PADDING) & (k_pos < limit)\n"
        "    return q_inside[:, :, None] & k_inside[:, None, :]\n",
        "    last = torch.maximum(q_pos[:, :, None], k_pos[:, None, :])\n"
        "    first = torch.minimum(q_pos[:, :, None], k_pos[:, None, :])\n"
        "    return (first >= 0) & (last < limit[:, :, None])\n",
    ),
)
PAIR_BY_PAIR = (
    (
        "    places = valid.long().cumsum(dim=-1) - 1\n    if documents is not None:\n",
        "    if documents is None:\n"
        "        documents = torch.zeros_like(valid)\n"
        "    earlier = torch.ones(2 * valid.shape[1:], device=valid.device).tril(-1).bool()\n"
        "    same = documents[:, :, None] == documents[:, None, :]\n"
        "    places = (earlier & same & valid[:, None, :]).sum(dim=-1)\n"
        "    if False:\n",
    ),
)
RUNNING_MAXIMUM = (
    (
        "        first = torch.searchsorted(documents, documents)\n"
        "        ahead = valid.long().cumsum(dim=-1) - valid.long()\n"
        "        places = places - ahead.gather(-1, first)\n",
        "        starts = F.pad(documents.diff(dim=-1) != 0, (1, 0), value=True)\n"
        "        ahead = valid.long().cumsum(dim=-1) - valid.long()\n"
        "        places -= ahead.masked_fill(~starts, 0).cummax(dim=-1).values\n",
    ),
    (
        "    is_new = segment_ids[:, 1:] != segment_ids[:, :-1]\n"
        "    return F.pad(is_new.long().cumsum(dim=-1), (1, 0))\n",
        "    rows = [row.unique_consecutive(return_inverse=True)[1] for row in segment_ids]\n"
        "    return torch.stack(rows)\n",
    ),
    (
        '    if side == "left":\n'
        "        return slot >= kv_len - n_tokens\n"
        "    return slot < n_tokens\n",
        '    mask = slot < n_tokens\n    return mask.flip(-1) if side == "left" else mask\n',
    ),
)
SOFTMAX_BY_HAND = (
    (
        '    weights = scores.float().masked_fill(hidden, float("-inf")).softmax(dim=-1)\n'
        "    return weights.masked_fill(hidden, 0.0)\n",
        '    shown = torch.where(hidden, float("-inf"), scores.float())\n'
        "    peak = shown.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).min)\n"
        "    weights = torch.exp(shown - peak)\n"
        "    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-30)\n",
    ),
    (
        "    k = k.float().repeat_interleave(n_shared, dim=1)\n"
        "    v = v.float().masked_fill(unseen, 0.0).repeat_interleave(n_shared, dim=1)\n"
        "    scores = q.float() @ k.transpose(-1, -2) * scale\n"
        "    weights = masked_softmax(scores, mask)\n"
        "    return (weights @ v).to(q.dtype)\n",
        "    v = torch.where(unseen, 0.0, v.float())\n"
        "    grouped = q.float().unflatten(1, (n_kv_heads, n_shared))\n"
        '    scores = scale * torch.einsum("bgrqd,bgkd->bgrqk", grouped, k.float())\n'
        "    weights = masked_softmax(scores, mask[:, None])\n"
        '    return torch.einsum("bgrqk,bgkd->bgrqd", weights, v).flatten(1, 2).to(q.dtype)\n',
    ),
    (
        "    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)\n"
        "    return bias.masked_fill(~mask, torch.finfo(dtype).min)\n",
        "    bias = torch.full_like(mask, torch.finfo(dtype).min, dtype=dtype)\n"
        "    bias[mask] = 0.0\n"
        "    return bias\n",
    ),
)
TILE_BY_TILE = (
    (
        "    padded = F.pad(",
        "    kinds = [\n"
        "        [\n"
        "            (n_seen > 0).long() + (n_seen == block_q * block_k).long()\n"
        "            for tile in row.split(block_k, dim=2)\n"
        "            for n_seen in [tile.sum(dim=(1, 2))]\n"
        "        ]\n"
        "        for row in mask[:, 0].split(block_q, dim=1)\n"
        "    ]\n"
        "    return torch.stack([torch.stack(row, dim=-1) for row in kinds], dim=1)\n"
        "    padded = F.pad(",
    ),
    (
        "        if spec not in self._masks:\n            self._masks[spec] = build_mask(",
        "        if True:\n            self._masks[spec] = build_mask(",
    ),
    (
        "        self.valid = self.valid[index]\n",
        "        self.valid = torch.stack([self.valid[i] for i in index])\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(BY_DISTANCE, id="the oldest visible position"),
        pytest.param(PAIR_BY_PAIR, id="positions pair by pair"),
        pytest.param(RUNNING_MAXIMUM, id="running maximum"),
        pytest.param(SOFTMAX_BY_HAND, id="softmax by hand and heads in groups"),
        pytest.param(TILE_BY_TILE, id="tile by tile and no shared masks"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("function", "result", "promise"),
    [
        ("masked_attention", "out * 0", "test_attention_is_exact"),
        ("masked_attention", "args[0]", "test_packed_documents_attend_as_they_would_alone"),
        ("masked_attention", 'out * float("nan")', "test_a_query_that_sees_nothing_gives_zeros"),
        ("masked_attention", "out * 1.001", "test_a_padded_row_attends_as_it_would_alone"),
        ("masked_attention", "out.double()", "test_low_precision_costs_little"),
        ("masked_attention", "out[None]", "test_attention_is_exact"),
        ("masked_softmax", "out.half()", "test_weights_are_a_softmax_over_what_is_seen"),
        ("build_mask", "out.long()", "test_rules_together_are_the_rules_one_by_one"),
        ("build_mask", "~out", "test_queries_are_the_last_slots"),
        ("build_mask", "out[:, 0]", "test_steps_of_a_batch_see_what_came_before"),
        ("to_additive", "out.clamp(min=-1e4)", "test_a_bias_is_finite"),
        ("document_index", "args[0]", "test_every_run_of_equal_ids_is_a_document"),
    ],
)
def test_a_wrong_result_breaks_a_promise(function: str, result: str, promise: str) -> None:
    wrong = (
        f"\n\n_{function} = {function}\n\n\n"
        f"def {function}(*args, **kwargs):\n"
        f"    out = _{function}(*args, **kwargs)\n"
        f"    return {result}\n"
    )
    assert breaks(NAME, SOURCE + wrong, promise, seed=0)


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            ("causal = key <= query", "causal = key < query"),
            "test_a_token_sees_itself_and_the_past",
            id="not itself",
        ),
        pytest.param(
            ("query // chunk == key // chunk", "query - key < chunk"),
            "test_chunks_do_not_see_each_other",
            id="chunks are windows",
        ),
        pytest.param(
            ("places = places - ahead.gather(-1, first)", "places = places - first"),
            "test_positions_begin_anew_in_every_document",
            id="slots of the document",
        ),
        pytest.param(
            ("        return slot >= kv_len - n_tokens\n", "        return slot < n_tokens\n"),
            "test_padding_stands_on_the_side_that_was_named",
            id="one side only",
        ),
        pytest.param(
            ("self.prefix_len = self.prefix_len[index]", "self.prefix_len[: len(index)]"),
            "test_rows_take_their_slots_and_prefixes_along",
            id="prefixes stay",
        ),
        pytest.param(
            ("(i + 1) % global_every == 0", "i % global_every == 0"),
            "test_every_so_many_layers_one_is_global",
            id="the first layer is global",
        ),
        pytest.param(
            ("every = tiles.all(dim=4).all(dim=2)", "every = some"),
            "test_tiles_are_skipped_only_where_nothing_is_seen",
            id="nothing is partial",
        ),
        pytest.param(
            ("torch.arange(kv_len, device=lengths.device)", "torch.arange(kv_len)"),
            "test_tensors_are_made_where_the_inputs_are",
            id="slots on the default device",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
