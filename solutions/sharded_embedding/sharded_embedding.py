"""A vocabulary-parallel embedding, tied to the output head, over the workers of one group.

Every worker holds some rows of the vocabulary's table. Lookups, logits, the best tokens and the
loss come from what each worker computes of its rows, so that nobody ever needs the whole table.
The collectives stand for those of a process group: they see one tensor per worker, in rank order.

Shapes: V vocabulary, M model dim, W workers, R rows of a worker's table, B bags, N tokens.
References: Megatron-LM, Shoeybi et al., arXiv:1909.08053; row-wise sharding, Ivchenko et al.,
TorchRec, RecSys 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor

Strategy = Literal["block", "cyclic"]
T = TypeVar("T")


# Who owns what.


@dataclass(frozen=True, slots=True)
class ShardSpec:
    """The ids of one worker: start, start + step, .. below stop, in this order in its table.

    Every table has `rows` rows; those behind the owned ones are padding.
    """

    rank: int
    start: int
    stop: int
    step: int
    rows: int

    @property
    def n_owned(self) -> int:
        """Return how many ids the worker owns."""
        return len(range(self.start, self.stop, self.step))

    def owns(self, tokens: Tensor) -> Tensor:
        """Say which ids belong to the worker: [...] int64 -> [...] bool."""
        offset = tokens - self.start
        return (offset >= 0) & (tokens < self.stop) & (offset % self.step == 0)

    def to_local(self, tokens: Tensor) -> Tensor:
        """Return the table rows of owned ids, and some valid row for others: [...] int64."""
        rows = (tokens - self.start) // self.step
        return torch.where(self.owns(tokens), rows, 0)

    def to_global(self, rows: Tensor) -> Tensor:
        """Return the ids that lie in rows of the table: [...] int64."""
        return self.start + rows * self.step


def partition(vocab_size: int, n_workers: int, strategy: Strategy = "block") -> list[ShardSpec]:
    """Distribute the vocabulary over workers, in tables of equal size.

    "block" gives each worker one run of ids; the last workers may own fewer, or none. "cyclic"
    deals the ids out one by one, which spreads the frequent ones: tokenizers number them first.

    >>> [(spec.start, spec.stop, spec.step) for spec in partition(7, 2)]
    [(0, 4, 1), (4, 7, 1)]
    >>> [(spec.start, spec.stop, spec.step) for spec in partition(7, 2, "cyclic")]
    [(0, 7, 2), (1, 7, 2)]
    """
    if vocab_size < 1 or n_workers < 1:
        raise ValueError(f"{vocab_size} ids cannot be given to {n_workers} workers")
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy must be one of {get_args(Strategy)}, got {strategy!r}")
    rows = -(-vocab_size // n_workers)
    if strategy == "cyclic":
        return [ShardSpec(rank, rank, vocab_size, n_workers, rows) for rank in range(n_workers)]
    edges = [min(rank * rows, vocab_size) for rank in range(n_workers + 1)]
    runs = enumerate(pairwise(edges))
    return [ShardSpec(rank, start, stop, 1, rows) for rank, (start, stop) in runs]


# Collectives.


def all_reduce(parts: Sequence[Tensor]) -> Tensor:
    """Add up one tensor of each worker: W times [...] -> [...]."""
    return torch.stack(list(parts)).sum(dim=0)


def all_gather(parts: Sequence[Tensor]) -> Tensor:
    """Collect one tensor of each worker: W times [...] -> [W, ...]."""
    return torch.stack(list(parts))


def all_to_all(chunks: Sequence[Sequence[T]]) -> list[list[T]]:
    """Exchange what every worker holds for every other: chunks[i][j] goes from i to j.

    Afterwards worker j has, in rank order, what was sent to it.
    """
    n_workers = len(chunks)
    return [[chunks[src][dst] for src in range(n_workers)] for dst in range(n_workers)]


def merge_vocab(parts: Tensor, strategy: Strategy) -> Tensor:
    """Bring gathered columns into the order of the vocabulary: [W, ..., R] -> [..., W * R].

    The ids of padding come last.
    """
    n_workers, *inner, rows = parts.shape
    last = parts.dim() - 1
    if strategy == "cyclic":
        merged = parts.permute(*range(1, last), last, 0)
    else:
        merged = parts.permute(*range(1, last), 0, last)
    return merged.reshape(*inner, n_workers * rows)


# A worker.


class ShardWorker:
    """What one worker computes, from its own rows alone."""

    def __init__(self, spec: ShardSpec, weight: Tensor) -> None:
        """Copy the worker's rows from a whole table, weight [V, M]; rows of padding are zero."""
        self.spec = spec
        self.table = weight.new_zeros(spec.rows, weight.shape[1])  # [R, M]
        self.table[: spec.n_owned] = weight[spec.start : spec.stop : spec.step]

    def lookup(self, tokens: Tensor) -> Tensor:
        """Return the vectors of owned ids, and zeros for others: [...] int64 -> [..., M]."""
        vectors = self.table[self.spec.to_local(tokens)]
        return vectors.masked_fill(~self.spec.owns(tokens)[..., None], 0.0)

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the worker's rows: [..., M] -> [..., R], -inf for rows of padding."""
        scores = hidden @ self.table.T
        scores[..., self.spec.n_owned :] = float("-inf")
        return scores

    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the best rows, at most k: [..., M] -> scores, ids [..., min(k, R)]."""
        scores, rows = self.logits(hidden).topk(min(k, self.spec.rows), dim=-1)
        return scores, self.spec.to_global(rows)

    def log_stats(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Summarise the logits for a softmax over all workers: [..., M], [...] -> thrice [...].

        Returns in float32 the largest logit, the sum of exp(logit - largest), and the logit of the
        target, which is -inf for a target of another worker. A worker without any row has a largest
        logit of -inf and a sum of 0.
        """
        logits = self.logits(hidden).float()
        peak = logits.amax(dim=-1)
        shift = peak.masked_fill(peak == float("-inf"), 0.0)
        total = torch.exp(logits - shift[..., None]).sum(dim=-1)
        target = logits.gather(-1, self.spec.to_local(targets)[..., None]).squeeze(-1)
        return peak, total, target.masked_fill(~self.spec.owns(targets), float("-inf"))


# All workers.


class ShardedEmbedding:
    """Embedding and output head over a group of workers, as if they were one table [V, M].

    With a table of 7 ids over 4 workers, each has 2 rows, and one of these is padding:

        embedding = ShardedEmbedding(weight)            # weight [7, M]
        embedding.embed(torch.tensor([6, 0]))           # weight[[6, 0]]
        embedding.logits(hidden)                        # hidden @ weight.T, [..., 7]
    """

    def __init__(
        self,
        weight: Tensor,
        n_workers: int = 4,
        *,
        strategy: Strategy = "block",
        padding_idx: int | None = None,
    ) -> None:
        """Shard a table; the token padding_idx is embedded as zeros."""
        if weight.dim() != 2:
            raise ValueError(f"weight must be [V, M], got {list(weight.shape)}")
        self.vocab_size, self.dim = weight.shape
        if padding_idx is not None:
            if not 0 <= padding_idx < self.vocab_size:
                raise ValueError(f"padding_idx {padding_idx} is not in [0, {self.vocab_size})")
            weight = weight.clone()
            weight[padding_idx] = 0.0
        self.strategy: Strategy = strategy
        self.padding_idx = padding_idx
        specs = partition(self.vocab_size, n_workers, strategy)
        self.workers = [ShardWorker(spec, weight) for spec in specs]

    @property
    def n_workers(self) -> int:
        """Return W."""
        return len(self.workers)

    def owner(self, tokens: Tensor) -> Tensor:
        """Return the rank of the worker that owns each id: [...] int64."""
        self._check_tokens(tokens)
        if self.strategy == "cyclic":
            return tokens % self.n_workers
        return tokens // self.workers[0].spec.rows

    def gather_weight(self) -> Tensor:
        """Return the whole table, as for a checkpoint: [V, M]."""
        tables = all_gather([worker.table.T for worker in self.workers])
        return merge_vocab(tables, self.strategy)[:, : self.vocab_size].T.contiguous()

    # Lookup.

    def embed(self, tokens: Tensor) -> Tensor:
        """Look up tokens that all workers know: [...] int64 -> [..., M]."""
        self._check_tokens(tokens)
        return all_reduce([worker.lookup(tokens) for worker in self.workers])

    def embed_scattered(self, tokens: Sequence[Tensor]) -> list[Tensor]:
        """Look up tokens of which each worker has its own: W times [N_i] int64 -> W times [N_i, M].

        Every id travels to its owner and its vector travels back: less traffic than an all-reduce.
        """
        if len(tokens) != self.n_workers:
            raise ValueError(f"tokens of {len(tokens)} workers, but there are {self.n_workers}")
        orders, questions = [], []
        for mine in tokens:
            owner = self.owner(mine)
            order = owner.argsort()
            counts = torch.bincount(owner, minlength=self.n_workers)
            orders.append(order)
            questions.append(torch.split(mine[order], counts.tolist()))
        answers = []
        for worker, asked in zip(self.workers, all_to_all(questions), strict=True):
            vectors = worker.lookup(torch.cat(asked))
            answers.append(torch.split(vectors, [len(ids) for ids in asked]))
        results = []
        for order, received in zip(orders, all_to_all(answers), strict=True):
            grouped = torch.cat(received)  # [N_i, M], in the order of the owners
            vectors = torch.empty_like(grouped)
            vectors[order] = grouped
            results.append(vectors)
        return results

    def embed_bag(
        self, tokens: Tensor, offsets: Tensor, mode: Literal["sum", "mean"] = "mean"
    ) -> Tensor:
        """Reduce the vectors of bags of tokens: tokens [N], offsets [B] int64 -> [B, M].

        Bag i is tokens[offsets[i] : offsets[i + 1]], and the last one reaches to the end. Padding
        tokens do not count. A bag in which nothing counts gives zeros.
        """
        if mode not in ("sum", "mean"):
            raise ValueError(f"mode must be 'sum' or 'mean', got {mode!r}")
        edges = torch.cat([offsets, offsets.new_tensor([tokens.numel()])])
        lengths = edges.diff()
        if edges[0] != 0 or (lengths < 0).any():
            raise ValueError(f"{offsets.tolist()} are no offsets of {tokens.numel()} tokens")
        bags = torch.arange(len(offsets), device=offsets.device).repeat_interleave(lengths)
        vectors = self.embed(tokens)
        total = vectors.new_zeros(len(offsets), self.dim, dtype=torch.float32)
        total.index_add_(0, bags, vectors.float())
        if mode == "mean":
            counted = bags if self.padding_idx is None else bags[tokens != self.padding_idx]
            counts = torch.bincount(counted, minlength=len(offsets))
            total = total / counts.clamp(min=1)[:, None]
        return total.to(vectors.dtype)

    # Output.

    def logits(self, hidden: Tensor) -> Tensor:
        """Score the whole vocabulary: [..., M] -> [..., V]."""
        self._check_hidden(hidden)
        parts = all_gather([worker.logits(hidden) for worker in self.workers])
        return merge_vocab(parts, self.strategy)[..., : self.vocab_size]

    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best tokens, best first: [..., M] -> scores, ids [..., k].

        Only candidates are gathered: the best of all are among the best of each worker.
        """
        self._check_hidden(hidden)
        if not 1 <= k <= self.vocab_size:
            raise ValueError(f"k must be in [1, {self.vocab_size}], got {k}")
        candidates = [worker.topk(hidden, k) for worker in self.workers]
        scores = torch.cat([scores for scores, _ in candidates], dim=-1)
        ids = torch.cat([ids for _, ids in candidates], dim=-1)
        best, places = scores.topk(k, dim=-1)
        return best, ids.gather(-1, places)

    def log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the log-probability of each target: [..., M], [...] int64 -> [...] float32."""
        self._check_hidden(hidden)
        self._check_tokens(targets)
        stats = [worker.log_stats(hidden, targets) for worker in self.workers]
        peaks, totals, found = (all_gather(parts) for parts in zip(*stats, strict=True))
        peak = peaks.amax(dim=0)
        total = (totals * torch.exp(peaks - peak)).sum(dim=0)
        return found.amax(dim=0) - peak - total.log()

    def cross_entropy(self, hidden: Tensor, targets: Tensor, ignore_index: int = -100) -> Tensor:
        """Return the mean loss over the targets that are not ignored, in float32; 0 without any.

        The hidden states of ignored targets may be anything, also NaN.
        """
        kept = targets != ignore_index
        losses = -self.log_probs(hidden[kept], targets[kept])
        return losses.sum() / max(losses.numel(), 1)

    def _check_tokens(self, tokens: Tensor) -> None:
        if tokens.numel() == 0:
            return
        low, high = (int(extreme) for extreme in tokens.aminmax())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(f"ids must be in [0, {self.vocab_size}), got {low} to {high}")

    def _check_hidden(self, hidden: Tensor) -> None:
        if hidden.shape[-1] != self.dim:
            raise ValueError(f"hidden states of {hidden.shape[-1]} for a table of {self.dim}")
