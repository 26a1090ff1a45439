"""Paged attention against torch, and its promises against rewrites and wrong files."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading

NAME = "paged_attention"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = str(SOURCE)
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize("seed", leading(2, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 5])
def test_random_traffic_agrees_with_scaled_dot_product_attention(
    window: int | None, dtype: torch.dtype
) -> None:
    """Three sequences grow step by step, in chunks and tokens, through pages that are shuffled."""
    module = load(NAME, SOURCE)
    rng = random.Random(0)
    generator = torch.Generator().manual_seed(0)
    page_size, n_heads, n_kv_heads, head_dim = 4, 6, 2, 8
    pages = rng.sample(range(30), 30)
    tables = [pages[10 * i : 10 * i + 10] for i in range(3)]
    store = module.PagedKVStore(30, page_size, n_kv_heads, head_dim, dtype=dtype)
    attention = module.PagedAttention(store, 0, window=window)
    past: list[list[torch.Tensor]] = [[], [], []]
    n_cached = [0, 0, 0]

    for step in range(12):
        n_new = [1] * 3 if step % 3 == 2 else [rng.randrange(5) for _ in range(3)]
        batch = module.build_batch(tables, n_cached, n_new, page_size, pad_to=sum(n_new) + step % 2)
        q, k, v = (
            torch.randn(batch.n_rows, heads, head_dim, generator=generator).to(dtype)
            for heads in (n_heads, n_kv_heads, n_kv_heads)
        )
        out = attention(q, k, v, batch)
        for i, (start, stop) in enumerate(zip(batch.cu_q[:-1], batch.cu_q[1:], strict=True)):
            past[i].append(torch.stack([k[start:stop], v[start:stop]]))
            keys, values = torch.cat(past[i], dim=1)
            length = len(keys)
            q_pos = torch.arange(length - int(stop - start), length)[:, None]
            distance = q_pos - torch.arange(length)
            visible = (distance >= 0) & (distance < (window or length))
            want = F.scaled_dot_product_attention(
                q[start:stop].transpose(0, 1).float(),
                keys.transpose(0, 1).repeat_interleave(3, dim=0).float(),
                values.transpose(0, 1).repeat_interleave(3, dim=0).float(),
                attn_mask=visible,
            ).transpose(0, 1)
            tolerance = 1e-5 if dtype == torch.float32 else 1e-2
            torch.testing.assert_close(
                out[start:stop].float(), want, rtol=tolerance, atol=tolerance
            )
        assert not out[batch.cu_q[-1] :].any()
        n_cached = batch.context_lens.tolist()


# ----- rewrites


GROUPED_HEADS = (
    (
        "    k = k.float().repeat_interleave(n_heads // n_kv_heads, dim=2)\n"
        "    v = v.float().repeat_interleave(n_heads // n_kv_heads, dim=2)\n"
        '    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), k) * scale\n',
        "    grouped = q.float().unflatten(2, (n_kv_heads, -1))\n"
        '    scores = torch.einsum("bqgrd,bkgd->bgrqk", grouped, k.float())\n'
        "    scores = scale * scores.flatten(1, 2)\n",
    ),
    (
        '    return torch.einsum("bhqk,bkhd->bqhd", probs, v).to(q.dtype)',
        "    shared = probs.unflatten(1, (n_kv_heads, -1))\n"
        '    out = torch.einsum("bgrqk,bkgd->bqgrd", shared, v.float())\n'
        "    return out.flatten(2, 3).to(q.dtype)",
    ),
)
SOFTMAX_BY_HAND = (
    (
        '    probs = scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)\n'
        "    probs = probs.masked_fill(hidden, 0.0)\n",
        '    scores = torch.where(hidden, float("-inf"), scores)\n'
        "    lse = torch.logsumexp(scores, dim=-1, keepdim=True)\n"
        "    probs = torch.where(hidden, 0.0, torch.exp(scores - lse))\n",
    ),
    (
        "    v = v.masked_fill(~used[:, :, None, None], 0.0)\n",
        "    v = torch.where(used[:, :, None, None], v, torch.zeros_like(v))\n",
    ),
)
SLOT_BY_SLOT = (
    (
        "        flat_k.index_copy_(0, slots[real], k[real].to(flat_k.dtype))\n"
        "        flat_v.index_copy_(0, slots[real], v[real].to(flat_v.dtype))\n",
        "        assert flat_k.shape == flat_v.shape\n"
        "        for row, slot in enumerate(slots.tolist()):\n"
        "            if real[row]:\n"
        "                page, place = divmod(slot, self.page_size)\n"
        "                self.k[layer, page, place] = k[row]\n"
        "                self.v[layer, page, place] = v[row]\n",
    ),
    (
        "    pages = block_table[: cdiv(length, store.page_size)]\n"
        "    k = store.k[layer, pages].flatten(0, 1)\n"
        "    v = store.v[layer, pages].flatten(0, 1)\n"
        "    return k[:length], v[:length]",
        "    i = torch.arange(length, device=block_table.device)\n"
        "    slots = block_table[i // store.page_size] * store.page_size + i % store.page_size\n"
        "    return store.k[layer].flatten(0, 1)[slots], store.v[layer].flatten(0, 1)[slots]",
    ),
)
ONE_BY_ONE = (
    (
        "    k = store.k[layer, pages].flatten(1, 2)\n",
        "    out = torch.zeros_like(q)\n"
        "    for i, length in enumerate(batch.context_lens.tolist()):\n"
        "        keys, values = gather_kv(store, pages[i], length, layer=layer)\n"
        "        k_pos = torch.arange(length, device=q.device)\n"
        "        seen = visible_keys(q_pos[i : i + 1], k_pos, window)[None]\n"
        "        out[i] = attend(q[None, i : i + 1], keys[None], values[None], seen, scale)[0, 0]\n"
        "    return out\n"
        "    k = store.k[layer, pages].flatten(1, 2)\n",
    ),
)
OTHER_IDIOMS = (
    ("return -(-a // b)", "return (a + b - 1) // b"),
    (
        "    return [block_table[i // page_size] * page_size + i % page_size"
        " for i in range(start, stop)]",
        "    slots = []\n"
        "    for i in range(start, stop):\n"
        "        index, place = divmod(i, page_size)\n"
        "        slots.append(block_table[index] * page_size + place)\n"
        "    return slots",
    ),
    (
        "            self.k[:, dst] = self.k[:, src]\n"
        "            self.v[:, dst] = self.v[:, src]\n",
        "            for pool in (self.v, self.k):\n"
        "                pool[:, dst].copy_(pool[:, src])\n",
    ),
    (
        "    return torch.where(ends > starts, ends - 1, SKIP)",
        "    return (ends - 1).masked_fill(starts == ends, SKIP)",
    ),
    (
        "    visible = distance >= 0\n"
        "    if window is not None:\n"
        "        visible = visible & (distance < window)\n"
        "    return visible",
        "    limit = distance.amax() + 1 if window is None and distance.numel() else window or 1\n"
        "    return ((distance >= 0) & (distance < limit)).to(torch.uint8).bool()",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(GROUPED_HEADS, id="heads in groups"),
        pytest.param(SOFTMAX_BY_HAND, id="softmax by hand"),
        pytest.param(SLOT_BY_SLOT, id="slot by slot"),
        pytest.param(ONE_BY_ONE, id="decoding in a loop"),
        pytest.param(OTHER_IDIOMS, id="other idioms"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("result", "promise"),
    [
        pytest.param("out * 0", "test_attention_over_pages_is_dense_attention", id="zeros"),
        pytest.param("args[0]", "test_attention_over_pages_is_dense_attention", id="the queries"),
        pytest.param(
            'out * float("nan")', "test_prompts_chunks_and_decodes_share_a_batch", id="nan"
        ),
        pytest.param(
            "out * 1.001", "test_chunks_and_decoding_continue_a_sequence", id="a little too large"
        ),
        pytest.param("out.double()", "test_low_precision_costs_little", id="another dtype"),
        pytest.param(
            "out[None]", "test_chunks_and_decoding_continue_a_sequence", id="one dimension more"
        ),
        pytest.param("out.flip(0)", "test_no_query_sees_the_future", id="rows in reverse"),
    ],
)
@pytest.mark.parametrize("function", ["paged_attention", "decode_attention"])
def test_a_wrong_result_breaks_a_promise(function: str, result: str, promise: str) -> None:
    if function == "decode_attention":
        promise = (
            "test_low_precision_costs_little"
            if promise == "test_low_precision_costs_little"
            else "test_decoding_all_at_once_is_decoding_one_by_one"
        )
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
            ("    return torch.where(ends > starts, ends - 1, SKIP)", "    return starts * 0"),
            "test_every_sequence_samples_from_its_last_row",
            id="always the first row",
        ),
        pytest.param(
            ("return self.k.index_select(1, index), self.v", "return self.v * 0, self.v"),
            "test_exported_pages_can_be_imported_elsewhere",
            id="exports zeros",
        ),
        pytest.param(
            ("    return k[:length], v[:length]", "    return v[:length], k[:length]"),
            "test_stored_tokens_are_read_back_in_order",
            id="keys and values swapped",
        ),
        pytest.param(
            ("(self.k.nbytes + self.v.nbytes) // self.n_pages", "self.k.nbytes"),
            "test_a_page_costs_keys_and_values_of_all_layers",
            id="memory of the pool",
        ),
        pytest.param(
            ('scores.masked_fill(hidden, float("-inf"))', "scores.masked_fill(hidden, -1e4)"),
            "test_what_is_out_of_sight_has_no_weight_however_low_the_rest",
            id="hidden scores are a large number below zero",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
