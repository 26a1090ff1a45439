"""Packed prefill against transformers and torch, and its promises against other and wrong files."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading
from torch import Tensor

NAME = "varlen_prefill"
SOURCE = source_of(NAME)


def _edited(*edits: tuple[str, str]) -> str:
    source = str(SOURCE)
    for old, new in edits:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def _prompts(lengths: Sequence[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(1, 50, (n,), generator=generator) for n in lengths]


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers


@pytest.mark.parametrize("lengths", [[3, 5, 1, 4], [6], [1, 1, 2]], ids=str)
def test_rows_are_packed_as_in_transformers(lengths: list[int]) -> None:
    transformers = pytest.importorskip("transformers")
    module = load(NAME, SOURCE)
    prompts = _prompts(lengths)
    collate = transformers.DataCollatorWithFlattening(
        return_flash_attn_kwargs=True, return_seq_idx=True
    )
    want = collate([{"input_ids": prompt.tolist()} for prompt in prompts])

    got = module.pack(prompts)
    assert got.tokens.tolist() == want["input_ids"][0].tolist()
    assert got.positions.tolist() == want["position_ids"][0].tolist()
    assert got.seq_ids.tolist() == want["seq_idx"][0].tolist()
    assert got.cu.tolist() == want["cu_seq_lens_q"].tolist()


@pytest.mark.parametrize(("budget", "max_seqs"), [(4, None), (3, 1), (100, None)])
@pytest.mark.parametrize("window", [None, 3])
def test_a_layer_of_transformers_gives_the_same(
    window: int | None, budget: int, max_seqs: int | None
) -> None:
    """The attention of a layer of Mistral, each prompt by itself, against prefill in steps."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.mistral.modeling_mistral import apply_rotary_pos_emb

    module = load(NAME, SOURCE)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.MistralConfig(
            vocab_size=50,
            hidden_size=24,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            sliding_window=window,
            initializer_range=0.3,
            attn_implementation="eager",
        )
        model = transformers.MistralModel(config).eval()
    layer = model.layers[0]
    attention = layer.self_attn
    kept: list[Tensor] = []
    attention.o_proj.register_forward_pre_hook(lambda _, given: kept.append(given[0][0]))

    def embed(tokens: Tensor, positions: Tensor) -> Tensor:
        x: Tensor = layer.input_layernorm(model.embed_tokens(tokens))
        return torch.cat([x, positions[:, None].float()], dim=1)

    def qkv(x: Tensor) -> tuple[Tensor, ...]:
        x, positions = x[None, :, :-1], x[None, :, -1].long()
        q, k, v = (
            project(x).view(1, x.shape[1], -1, 8).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *model.rotary_emb(x, positions))
        return tuple(heads[0].transpose(0, 1) for heads in (q, k, v))

    prompts = _prompts([5, 1, 8, 3])
    with torch.no_grad():
        got = module.chunked_prefill(
            embed, qkv, prompts, budget, max_seqs=max_seqs, window=window, multiple_of=2
        )
        for prompt, out in zip(prompts, got, strict=True):
            model(input_ids=prompt[None], use_cache=False)
            torch.testing.assert_close(out.flatten(1), kept[-1], rtol=1e-5, atol=1e-5)


# ----- against torch


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 4])
def test_packed_attention_agrees_with_scaled_dot_product_attention(
    window: int | None, dtype: torch.dtype
) -> None:
    module = load(NAME, SOURCE)
    generator = torch.Generator().manual_seed(0)
    n_queries, n_keys = torch.tensor([3, 0, 7, 1]), torch.tensor([5, 2, 7, 9])
    q = torch.randn(11, 6, 8, generator=generator).to(dtype)
    k, v = torch.randn(2, 23, 2, 8, generator=generator).to(dtype)
    cu_q, cu_k = module.cu_seqlens(n_queries), module.cu_seqlens(n_keys)
    got = module.varlen_attention(q, k, v, cu_q, cu_k, window=window)

    for i in range(4):
        rows, keys = slice(cu_q[i], cu_q[i + 1]), slice(cu_k[i], cu_k[i + 1])
        ones = torch.ones(int(n_queries[i]), int(n_keys[i]), dtype=torch.bool)
        offset = int(n_keys[i] - n_queries[i])
        visible = ones.tril(offset)
        if window is not None:
            visible = visible & ones.triu(offset - window + 1)
        want = F.scaled_dot_product_attention(
            q[rows].transpose(0, 1).float(),
            k[keys].transpose(0, 1).float(),
            v[keys].transpose(0, 1).float(),
            attn_mask=visible,
            enable_gqa=True,
        )
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        torch.testing.assert_close(
            got[rows].float(), want.transpose(0, 1), rtol=tolerance, atol=tolerance
        )


def test_padding_is_that_of_pad_sequence() -> None:
    module = load(NAME, SOURCE)
    parts = [torch.randn(n, 3, generator=torch.Generator().manual_seed(n)) for n in (2, 5, 1)]
    cu = module.cu_seqlens(torch.tensor([2, 5, 1]))
    want = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=-3.0)
    assert torch.equal(module.pad_packed(torch.cat(parts), cu, fill=-3.0), want)


# ----- rewrites


TOKEN_BY_TOKEN = (
    (
        "    row = torch.arange(int(cu[-1]), device=cu.device)\n"
        "    return row - cu[:-1].repeat_interleave(cu.diff())\n",
        "    counts = [place for n in cu.diff().tolist() for place in range(n)]\n"
        "    return torch.tensor(counts, dtype=torch.long, device=cu.device)\n",
    ),
    (
        "    return F.pad(lengths.cumsum(dim=0), (1, 0))\n",
        "    cu = torch.zeros(len(lengths) + 1, dtype=torch.long, device=lengths.device)\n"
        "    cu[1:] = lengths.cumsum(dim=0)\n"
        "    return cu\n",
    ),
    (
        "    seqs = (lengths > 0).nonzero().flatten()\n    return cu[1:][seqs] - 1, seqs\n",
        "    full = lengths != 0\n"
        "    return (cu[1:] - 1)[full], torch.arange(len(lengths), device=cu.device)[full]\n",
    ),
    (
        "    seq_ids = torch.arange(len(lengths), device=tokens.device)"
        ".repeat_interleave(lengths)\n",
        "    row = torch.arange(len(tokens), device=tokens.device)\n"
        "    seq_ids = torch.searchsorted(cu, row, right=True) - 1\n",
    ),
    (
        "    out = x.new_full((len(lengths), longest, *x.shape[1:]), fill)\n"
        "    out[real] = x[: int(cu[-1])]\n"
        "    return out\n",
        "    row = (cu[:-1, None] + torch.arange(longest, device=x.device)).clamp(max=len(x) - 1)\n"
        "    real = real.view(*real.shape, *[1] * (x.ndim - 1))\n"
        "    return x[row].masked_fill(~real, fill)\n",
    ),
)
REPEATED_HEADS = (
    (
        "    groups = q.float().reshape(q_len, n_kv_heads, n_heads // n_kv_heads, head_dim)\n"
        '    scores = torch.einsum("qgrd,kgd->grqk", groups, k.float()) * scale\n'
        '    probs = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)\n'
        "    probs = probs.masked_fill(~visible, 0.0)\n"
        '    return torch.einsum("grqk,kgd->qgrd", probs, v).flatten(1, 2).to(q.dtype)\n',
        "    keys = k.float().repeat_interleave(n_heads // n_kv_heads, dim=1).permute(1, 2, 0)\n"
        "    values = v.repeat_interleave(n_heads // n_kv_heads, dim=1).transpose(0, 1)\n"
        "    scores = torch.matmul(q.float().transpose(0, 1) * scale, keys)\n"
        '    scores = torch.where(visible, scores, float("-inf"))\n'
        "    assert q_len == scores.shape[1]\n"
        "    probs = torch.nan_to_num(torch.softmax(scores, dim=-1), nan=0.0)\n"
        "    return (probs @ values).transpose(0, 1).to(q.dtype)\n",
    ),
    (
        "    visible = key <= query\n"
        "    if window is not None:\n"
        "        visible = visible & (query - key < window)\n"
        "    return visible\n",
        "    hidden = query < key\n"
        "    if window is not None:\n"
        "        hidden |= query - key > window - 1\n"
        "    return ~hidden\n",
    ),
)
ALL_AT_ONCE = (
    (
        "    q_bounds, k_bounds = cu_q.tolist(), cu_k.tolist()\n",
        "    n_q, n_k = cu_q.diff(), cu_k.diff()\n"
        "    seqs = torch.arange(len(n_q), device=q.device)\n"
        "    q_ids, k_ids = seqs.repeat_interleave(n_q), seqs.repeat_interleave(n_k)\n"
        "    q_pos = ragged_arange(cu_q) + (n_k - n_q).repeat_interleave(n_q)\n"
        "    mask = block_diagonal_mask(q_ids, q_pos, k_ids, ragged_arange(cu_k), window)\n"
        "    q, k, v = q[: len(q_ids)], k[: len(k_ids)], v[: len(k_ids)]\n"
        "    out[: len(q_ids)] = attend(q, k, v, mask, scale)\n"
        "    return out\n"
        "    q_bounds, k_bounds = cu_q.tolist(), cu_k.tolist()\n",
    ),
)
LISTS_OF_CHUNKS = (
    (
        "        starts = self.cu[seqs] + self.lengths[seqs]\n"
        "        slots = starts.repeat_interleave(n_new) + ragged_arange(cu)\n"
        "        self.k[slots] = k[: len(slots)].to(self.k.dtype)\n"
        "        self.v[slots] = v[: len(slots)].to(self.v.dtype)\n",
        "        bounds = cu.tolist()\n"
        "        for j, i in enumerate(seqs.tolist()):\n"
        "            stop = int(self.cu[i] + lengths[j])\n"
        "            slots = slice(stop - bounds[j + 1] + bounds[j], stop)\n"
        "            self.k[slots] = k[bounds[j] : bounds[j + 1]]\n"
        "            self.v[slots] = v[bounds[j] : bounds[j + 1]]\n",
    ),
    (
        "        slots = self.cu[seqs].repeat_interleave(lengths) + ragged_arange(cu)\n"
        "        return self.k[slots], self.v[slots], cu\n",
        "        spans = [slice(self.cu[i], self.cu[i] + self.lengths[i]) for i in seqs]\n"
        "        k, v = (torch.cat([pool[span] for span in spans]) for pool in (self.k, self.v))\n"
        "        return k, v, cu\n",
    ),
    (
        "        real = batch.seq_ids != PAD\n"
        "        rows = cu[seqs[batch.seq_ids[real]]] + batch.positions[real]\n"
        "        out[rows] = attended[real]\n",
        "        parts = unpack(attended, batch.cu)\n"
        "        for (i, start, stop), part in zip(step, parts, strict=True):\n"
        "            out[int(cu[i]) + start : int(cu[i]) + stop] = part\n",
    ),
    (
        "    return list(torch.split(x[: sum(n_rows)], n_rows))\n",
        "    assert len(n_rows) == len(cu) - 1\n"
        "    return [x[start:stop].clone() for start, stop in zip(cu[:-1], cu[1:])]\n",
    ),
)
COUNTING_DOWN = (
    (
        "    room = 0\n"
        "    for i, length in enumerate(lengths):\n"
        "        start = 0\n"
        "        while start < length:\n"
        "            if room == 0 or len(steps[-1]) == max_seqs:\n"
        "                steps.append([])\n"
        "                room = budget\n"
        "            stop = min(length, start + room)\n"
        "            steps[-1].append((i, start, stop))\n"
        "            room -= stop - start\n"
        "            start = stop\n"
        "    return steps\n",
        "    left = {i: length for i, length in enumerate(lengths) if length}\n"
        "    while left:\n"
        "        step: Step = []\n"
        "        for i in list(left)[:max_seqs]:\n"
        "            taken = min(left[i], budget - sum(stop - start for _, start, stop in step))\n"
        "            start = lengths[i] - left[i]\n"
        "            if taken:\n"
        "                step.append((i, start, start + taken))\n"
        "                left[i] -= taken\n"
        "        left = {i: n for i, n in left.items() if n}\n"
        "        steps.append(step)\n"
        "    return steps\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(TOKEN_BY_TOKEN, id="other idioms of packing"),
        pytest.param(REPEATED_HEADS, id="repeated heads"),
        pytest.param(ALL_AT_ONCE, id="one mask for all sequences"),
        pytest.param(LISTS_OF_CHUNKS, id="sequence by sequence"),
        pytest.param(COUNTING_DOWN, id="steps by what is left"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("function", "result", "promise"),
    [
        ("varlen_attention", "out * 0", "test_each_sequence_attends_as_it_would_alone"),
        ("varlen_attention", "args[0]", "test_queries_are_the_last_positions"),
        (
            "varlen_attention",
            'out * float("nan")',
            "test_rows_of_padding_neither_attend_nor_matter",
        ),
        ("varlen_attention", "out * 1.001", "test_the_budget_does_not_change_the_result"),
        ("varlen_attention", "out.double()", "test_low_precision_costs_little"),
        ("varlen_attention", "out[None]", "test_each_sequence_attends_as_it_would_alone"),
        ("attend", "out * 1.001", "test_one_mask_for_the_row_is_attention_by_sequence"),
        ("chunked_prefill", "out[::-1]", "test_the_budget_does_not_change_the_result"),
        ("split_by_budget", "out[:-1]", "test_steps_take_as_much_as_they_may"),
        ("pad_packed", "out.flip(1)", "test_padded_and_packed_hold_the_same"),
        ("unpack", "out[:1]", "test_unpacking_undoes_packing"),
        ("cu_seqlens", "out.int()", "test_boundaries_are_sums_of_lengths"),
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
            ("n_padding = -len(tokens) % multiple_of", "n_padding = multiple_of"),
            "test_a_packed_row_describes_its_tokens",
            id="always some padding",
        ),
        pytest.param(
            ("    return cu[1:][seqs] - 1, seqs\n", "    return cu[:-1][seqs], seqs\n"),
            "test_every_sequence_samples_from_its_last_row",
            id="first rows",
        ),
        pytest.param(
            (" & (q_ids != PAD)[:, None]", ""),
            "test_sequences_and_padding_do_not_see_each_other",
            id="padding sees padding",
        ),
        pytest.param(
            ("starts = self.cu[seqs] + self.lengths[seqs]", "starts = self.cu[seqs]"),
            "test_what_is_stored_comes_back_in_order",
            id="chunks over each other",
        ),
        pytest.param(
            ("rows = cu[seqs[batch.seq_ids[real]]]", "rows = cu[batch.seq_ids[real]]"),
            "test_the_budget_does_not_change_the_result",
            id="filed by place in the step",
        ),
        pytest.param(
            ("if stop == lengths[i]:", "if stop - start == lengths[i]:"),
            "test_a_sequence_is_sampled_when_it_ends",
            id="whole sequences only",
        ),
        pytest.param(
            ("[start for _, start, _ in step], multiple_of", "None, multiple_of"),
            "test_every_token_is_computed_once_at_its_place",
            id="positions restart in every chunk",
        ),
        pytest.param(
            ("torch.arange(longest, device=x.device)", "torch.arange(longest)"),
            "test_tensors_are_made_where_the_inputs_are",
            id="columns on the default device",
        ),
        pytest.param(
            ("v = v.float().masked_fill(", "v = v.float().masked_fill_("),
            "test_a_query_that_sees_nothing_gives_zeros",
            id="values that nobody sees are overwritten",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
