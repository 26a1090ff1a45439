"""The sharded embedding against torch, and its promises against rewrites and wrong files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from inprocess import breaks, broken_promises, load, source_of
from tiers import leading

NAME = "sharded_embedding"
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


# ----- against torch


@pytest.mark.parametrize("strategy", ["block", "cyclic"])
@pytest.mark.parametrize(("vocab_size", "n_workers"), [(50, 4), (37, 4), (41, 8), (5, 7)])
def test_workers_do_together_what_torch_does_alone(
    vocab_size: int, n_workers: int, strategy: str
) -> None:
    generator = torch.Generator().manual_seed(vocab_size)
    weight = torch.randn(vocab_size, 16, generator=generator)
    hidden = 3.0 * torch.randn(6, 5, 16, generator=generator)
    tokens = torch.randint(vocab_size, (6, 5), generator=generator)
    offsets = torch.tensor([0, 7, 7, 19])
    padding = vocab_size // 2
    ours: Any = load(NAME, SOURCE).ShardedEmbedding(
        weight, n_workers, strategy=strategy, padding_idx=padding
    )
    theirs = weight.clone()
    theirs[padding] = 0.0

    torch.testing.assert_close(ours.embed(tokens), F.embedding(tokens, theirs))
    scattered = ours.embed_scattered([tokens.flatten()[i::n_workers] for i in range(n_workers)])
    for i, got in enumerate(scattered):
        torch.testing.assert_close(got, F.embedding(tokens.flatten()[i::n_workers], theirs))
    for mode in ("sum", "mean"):
        want = F.embedding_bag(tokens.flatten(), theirs, offsets, mode=mode, padding_idx=padding)
        torch.testing.assert_close(ours.embed_bag(tokens.flatten(), offsets, mode), want)
    logits = F.linear(hidden, theirs)
    torch.testing.assert_close(ours.logits(hidden), logits)
    for got, want in zip(ours.topk(hidden, 3), logits.topk(3), strict=True):
        torch.testing.assert_close(got, want)
    targets = tokens.masked_fill(tokens == 1, -100)
    want = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
    torch.testing.assert_close(ours.cross_entropy(hidden, targets), want)


@pytest.mark.parametrize("n_workers", [3, 4, 5])
def test_blocks_are_the_chunks_of_torch(n_workers: int) -> None:
    """`torch.chunk` cuts into the same runs; where it has fewer, our last workers own nothing."""
    for vocab_size in range(1, 30):
        specs = load(NAME, SOURCE).partition(vocab_size, n_workers)
        got = [list(range(spec.start, spec.stop)) for spec in specs]
        want = [chunk.tolist() for chunk in torch.arange(vocab_size).chunk(n_workers)]
        assert got == want + [[]] * (n_workers - len(want))


# ----- rewrites


ONE_HOT = (
    (
        "        vectors = self.table[self.spec.to_local(tokens)]\n"
        "        return vectors.masked_fill(~self.spec.owns(tokens)[..., None], 0.0)\n",
        "        mine = self.spec.owns(tokens)\n"
        "        out = self.table.new_zeros(*tokens.shape, self.table.shape[1])\n"
        "        out[mine] = self.table.index_select(0, self.spec.to_local(tokens)[mine])\n"
        "        return out\n",
    ),
    (
        "    return torch.stack(list(parts)).sum(dim=0)\n",
        "    total = torch.zeros_like(parts[0])\n"
        "    for part in reversed(parts):\n"
        "        total += part\n"
        "    return total\n",
    ),
    (
        "        offset = tokens - self.start\n"
        "        return (offset >= 0) & (tokens < self.stop) & (offset % self.step == 0)\n",
        "        ids = range(self.start, self.stop, self.step)\n"
        "        mine = torch.tensor(list(ids), dtype=torch.int64, device=tokens.device)\n"
        "        return torch.isin(tokens, mine)\n",
    ),
)
MOVED_AXES = (
    (
        "    n_workers, *inner, rows = parts.shape\n"
        "    last = parts.dim() - 1\n"
        '    if strategy == "cyclic":\n'
        "        merged = parts.permute(*range(1, last), last, 0)\n"
        "    else:\n"
        "        merged = parts.permute(*range(1, last), 0, last)\n"
        "    return merged.reshape(*inner, n_workers * rows)\n",
        '    return parts.movedim(0, -1 if strategy == "cyclic" else -2).flatten(-2)\n',
    ),
    (
        "        tables = all_gather([worker.table.T for worker in self.workers])\n"
        "        return merge_vocab(tables, self.strategy)[:, : self.vocab_size].T.contiguous()\n",
        "        first = self.workers[0].table\n"
        "        weight = first.new_empty(self.vocab_size, self.dim)\n"
        "        for worker in self.workers:\n"
        "            s = worker.spec\n"
        "            weight[s.start : s.stop : s.step] = worker.table[: s.n_owned]\n"
        "        return weight\n",
    ),
)
ASKED_ONE_BY_ONE = (
    (
        "        orders, questions = [], []\n",
        "        results = []\n"
        "        for mine in tokens:\n"
        "            owner = self.owner(mine)\n"
        "            vectors = self.workers[0].table.new_zeros(len(mine), self.dim)\n"
        "            for rank, worker in enumerate(self.workers):\n"
        "                vectors[owner == rank] = worker.lookup(mine[owner == rank])\n"
        "            results.append(vectors)\n"
        "        return results\n"
        "        orders, questions = [], []\n",
    ),
    (
        '        if self.strategy == "cyclic":\n'
        "            return tokens % self.n_workers\n"
        "        return tokens // self.workers[0].spec.rows\n",
        "        owned = torch.stack([worker.spec.owns(tokens) for worker in self.workers])\n"
        "        return owned.long().argmax(dim=0)\n",
    ),
)
ALL_SCORES = (
    (
        "        candidates = [worker.topk(hidden, k) for worker in self.workers]\n",
        "        order = self.logits(hidden).argsort(dim=-1, descending=True)[..., :k]\n"
        "        return self.logits(hidden).gather(-1, order), order\n"
        "        candidates = [worker.topk(hidden, k) for worker in self.workers]\n",
    ),
    (
        "        peak = peaks.amax(dim=0)\n"
        "        total = (totals * torch.exp(peaks - peak)).sum(dim=0)\n"
        "        return found.amax(dim=0) - peak - total.log()\n",
        "        return found.amax(dim=0) - torch.logsumexp(peaks + totals.log(), dim=0)\n",
    ),
    (
        "        kept = targets != ignore_index\n"
        "        losses = -self.log_probs(hidden[kept], targets[kept])\n"
        "        return losses.sum() / max(losses.numel(), 1)\n",
        "        flat, ids = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)\n"
        "        rows = (ids != ignore_index).nonzero().squeeze(1)\n"
        "        losses = self.log_probs(flat[rows], ids[rows])\n"
        "        return -losses.mean() if len(rows) else losses.sum()\n",
    ),
)
BAG_BY_BAG = (
    (
        "        total.index_add_(0, bags, vectors.float())\n",
        "        for token, bag in zip(vectors.float(), bags.tolist(), strict=True):\n"
        "            total[bag] += token\n",
    ),
    (
        "            counts = torch.bincount(counted, minlength=len(offsets))\n"
        "            total = total / counts.clamp(min=1)[:, None]\n",
        "            ranks = torch.arange(len(offsets), device=offsets.device)\n"
        "            counts = (counted[None, :] == ranks[:, None]).sum(dim=1, keepdim=True)\n"
        "            total = torch.where(counts > 0, total / counts, torch.zeros_like(total))\n",
    ),
    (
        "            weight = weight.clone()\n            weight[padding_idx] = 0.0\n",
        "            rows = torch.arange(len(weight), device=weight.device)\n"
        "            weight = torch.where((rows == padding_idx)[:, None], 0.0, weight)\n",
    ),
)


@pytest.mark.parametrize(
    "edits",
    [
        pytest.param(ONE_HOT, id="only owned rows are read"),
        pytest.param(MOVED_AXES, id="axes are moved, rows are put back"),
        pytest.param(ASKED_ONE_BY_ONE, id="workers are asked one by one"),
        pytest.param(ALL_SCORES, id="all scores are gathered"),
        pytest.param(BAG_BY_BAG, id="bag by bag"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(edits: tuple[tuple[str, str], ...]) -> None:
    assert broken_promises(NAME, _edited(*edits), seed=1) == {}


# ----- wrong files


@pytest.mark.parametrize(
    ("method", "result", "promise"),
    [
        ("embed", "out * 0", "test_a_lookup_is_that_of_the_whole_table"),
        ("embed", "args[1]", "test_a_lookup_is_that_of_the_whole_table"),
        ("embed_scattered", "out[::-1]", "test_every_worker_gets_the_vectors_of_its_tokens"),
        ("embed_bag", "out[None]", "test_bags_are_reduced_over_their_own_tokens"),
        ("logits", "out * 1.001", "test_scores_are_those_of_the_whole_table"),
        ("topk", "(out[0], out[1] * 0)", "test_the_best_tokens_are_those_of_all_scores"),
        (
            "log_probs",
            'out * float("nan")',
            "test_the_loss_is_the_mean_over_the_targets_that_count",
        ),
        ("log_probs", "out.double()", "test_low_precision_costs_little"),
        ("cross_entropy", "out * 1.001", "test_the_loss_is_the_mean_over_the_targets_that_count"),
        ("owner", "out * 0", "test_every_id_has_an_owner"),
    ],
)
def test_a_wrong_result_breaks_a_promise(method: str, result: str, promise: str) -> None:
    wrong = (
        f"\n\n_right = ShardedEmbedding.{method}\n\n\n"
        "def _wrong(*args, **kwargs):\n"
        "    out = _right(*args, **kwargs)\n"
        f"    return {result}\n\n\n"
        f"ShardedEmbedding.{method} = _wrong\n"
    )
    assert breaks(NAME, SOURCE + wrong, promise, seed=0)


@pytest.mark.parametrize(
    ("edit", "promise"),
    [
        pytest.param(
            ("& (tokens < self.stop) ", "& (tokens <= self.stop) "),
            "test_a_lookup_is_that_of_the_whole_table",
            id="ids at the edge have two owners",
        ),
        pytest.param(
            ('        scores[..., self.spec.n_owned :] = float("-inf")\n', ""),
            "test_a_worker_scores_its_own_rows",
            id="padding scores 0",
        ),
        pytest.param(
            ("return scores, self.spec.to_global(rows)", "return scores, rows"),
            "test_the_best_tokens_are_those_of_all_scores",
            id="rows instead of ids",
        ),
        pytest.param(
            ("[chunks[src][dst] for src", "[chunks[dst][src] for src"),
            "test_collectives_bring_every_part_to_its_place",
            id="nothing is exchanged",
        ),
        pytest.param(
            ("totals * torch.exp(peaks - peak)", "totals"),
            "test_log_probabilities_are_those_of_a_softmax_over_all",
            id="sums are not brought to one scale",
        ),
        pytest.param(
            ("bags if self.padding_idx is None else", "bags if not self.padding_idx else"),
            "test_bags_are_reduced_over_their_own_tokens",
            id="a padding token with id 0 counts",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(edit: tuple[str, str], promise: str) -> None:
    assert breaks(NAME, _edited(edit), promise, seed=0)
