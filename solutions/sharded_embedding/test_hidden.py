"""What a sharded embedding promises: `subject` is the file under test, `seed` differs between runs.

The oracle is the whole table, in double precision: indexed, multiplied, and summed bag by bag.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

STRATEGIES = ("block", "cyclic")
# vocabulary, workers, strategy: divisible or not, workers without rows, one worker
SIZES = [
    *[(8, 4, "block"), (9, 4, "block"), (3, 4, "block"), (7, 3, "block")],
    *[(8, 4, "cyclic"), (9, 4, "cyclic"), (3, 4, "cyclic"), (6, 1, "block")],
]
DIM = 5


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _randint(seed: int, high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def _assert_close(got: Tensor, want: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Compare with an oracle in double precision; the result must have the dtype."""
    assert got.dtype == dtype
    finite = want[want.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 1.0
    torch.testing.assert_close(got.double(), want.double(), rtol=1e-5, atol=1e-6 + 1e-6 * scale)


def _cases(seed: int) -> Iterator[tuple[int, int, str, Tensor]]:
    """Yield vocabularies with the number of workers, a strategy and a table."""
    for place, (vocab_size, n_workers, strategy) in enumerate(SIZES):
        yield vocab_size, n_workers, strategy, _randn(seed + place, vocab_size, DIM)


def _ids_of(vocab_size: int, n_workers: int, strategy: str) -> list[list[int]]:
    """Return the ids of every worker, in the order of its table."""
    rows = math.ceil(vocab_size / n_workers)
    ids = list(range(vocab_size))
    if strategy == "cyclic":
        return [ids[rank::n_workers] for rank in range(n_workers)]
    return [ids[rank * rows : (rank + 1) * rows] for rank in range(n_workers)]


# ----- who owns what


@pytest.mark.symptom("Some tokens of the vocabulary have no vector, or two workers answer for one.")
def test_workers_share_the_vocabulary(subject: Any) -> None:
    """Every id has one owner: runs of ids in rank order, or ids dealt out; tables are equal."""
    for vocab_size, n_workers, strategy in SIZES:
        specs = subject.partition(vocab_size, n_workers, strategy)
        fields = [subject.fields(spec) for spec in specs]
        got = [list(range(f["start"], f["stop"], f["step"])) for f in fields]
        assert got == _ids_of(vocab_size, n_workers, strategy)
        assert [f["rank"] for f in fields] == list(range(n_workers))
        assert {f["rows"] for f in fields} == {math.ceil(vocab_size / n_workers)}
    assert [spec.n_owned for spec in subject.partition(9, 4, "block")] == [3, 3, 3, 0]
    assert [spec.n_owned for spec in subject.partition(9, 4, "cyclic")] == [3, 2, 2, 2]
    (only,) = subject.partition(1, 1)
    assert subject.fields(only) == {"rank": 0, "start": 0, "stop": 1, "step": 1, "rows": 1}
    default = [subject.fields(spec)["start"] for spec in subject.partition(8, 4)]
    assert default == [0, 2, 4, 6]


@pytest.mark.symptom("Tokens are looked up in the row of another one.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ids_and_rows_belong_together(subject: Any, strategy: str) -> None:
    """A worker knows which ids are its own, in which row each lies, and the id of every row."""
    ids = torch.arange(-3, 13)
    for rank, owned in enumerate(_ids_of(10, 4, strategy)):
        spec = subject.partition(10, 4, strategy)[rank]
        owns = spec.owns(ids)
        assert owns.dtype == torch.bool
        assert owns.tolist() == [token in owned for token in ids.tolist()]
        assert spec.to_local(torch.tensor([owned])).tolist() == [list(range(len(owned)))]
        local = spec.to_local(ids)
        assert (local.dtype, list(local.shape)) == (torch.int64, [16])
        assert ((local >= 0) & (local < 3)).all()
        assert spec.to_global(torch.arange(len(owned))[:, None]).flatten().tolist() == owned


@pytest.mark.symptom("Ids are sent to workers that do not have them.")
def test_every_id_has_an_owner(subject: Any, seed: int) -> None:
    """The owner of an id is the rank of the worker in whose table it lies."""
    for vocab_size, n_workers, strategy, weight in _cases(seed):
        embedding = subject.ShardedEmbedding(weight, n_workers, strategy=strategy)
        assert embedding.n_workers == n_workers
        ids = _ids_of(vocab_size, n_workers, strategy)
        tokens = torch.arange(vocab_size)[:, None]
        want = [
            [rank] for token in range(vocab_size) for rank in range(n_workers) if token in ids[rank]
        ]
        owner = embedding.owner(tokens)
        assert owner.dtype == torch.int64
        assert owner.tolist() == want


# ----- collectives


@pytest.mark.symptom("Workers receive what was meant for others.")
def test_collectives_bring_every_part_to_its_place(subject: Any, seed: int) -> None:
    """Parts are added up, stacked in rank order, or sent from each worker to each other."""
    parts = list(_randn(seed, 3, 2, 4))
    _assert_close(subject.all_reduce(parts), sum(part.double() for part in parts))
    torch.testing.assert_close(subject.all_gather(parts), torch.stack(parts))
    assert subject.mutated == ()
    grid = [[f"{src}{dst}" for dst in range(3)] for src in range(3)]
    want = [["00", "10", "20"], ["01", "11", "21"], ["02", "12", "22"]]
    assert [list(received) for received in subject.all_to_all(grid)] == want


@pytest.mark.symptom("Scores are right, but stand at the wrong tokens.")
@pytest.mark.parametrize("inner", [(), (2,), (2, 3)], ids=str)
def test_gathered_columns_are_put_in_order(subject: Any, seed: int, inner: tuple[int, ...]) -> None:
    """Columns of 3 workers with 4 rows each become 12, those of one position side by side."""
    parts = _randn(seed, 3, *inner, 4)
    for strategy in STRATEGIES:
        merged = subject.merge_vocab(parts, strategy)
        assert list(merged.shape) == [*inner, 12]
        for rank, ids in enumerate(_ids_of(12, 3, strategy)):
            torch.testing.assert_close(merged[..., ids], parts[rank])


# ----- a worker


@pytest.mark.symptom("Memory differs between workers, or holds rows that nobody asked for.")
def test_a_worker_holds_its_own_rows(subject: Any, seed: int) -> None:
    """Tables have equal shape and the weight's dtype; rows behind the owned ones are zero."""
    for vocab_size, n_workers, strategy, weight in _cases(seed):
        dtype = torch.bfloat16 if vocab_size == 9 else torch.float32
        embedding = subject.ShardedEmbedding(weight.to(dtype), n_workers, strategy=strategy)
        assert subject.mutated == ()
        rows = math.ceil(vocab_size / n_workers)
        ids = _ids_of(vocab_size, n_workers, strategy)
        for worker, owned in zip(embedding.workers, ids, strict=True):
            want = torch.zeros(rows, DIM, dtype=dtype)
            want[: len(owned)] = weight[owned].to(dtype)
            torch.testing.assert_close(worker.table, want, rtol=0, atol=0)


@pytest.mark.symptom("A token's vector has something of other tokens in it.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_worker_gives_zeros_for_tokens_of_others(subject: Any, seed: int, strategy: str) -> None:
    """Exact zeros, whatever lies in its own rows; its own tokens get their vectors."""
    tokens = torch.arange(10).reshape(2, 5)
    weight = _randn(seed, 10, DIM)
    for rank, owned in enumerate(_ids_of(10, 4, strategy)):
        spec = subject.partition(10, 4, strategy)[rank]
        mine = torch.tensor([token in owned for token in range(10)]).reshape(2, 5, 1)
        got = subject.ShardWorker(spec, weight).lookup(tokens)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, torch.where(mine, weight[tokens], 0.0), rtol=0, atol=0)


@pytest.mark.symptom("The model generates ids that are not in the vocabulary.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_worker_scores_its_own_rows(subject: Any, seed: int, strategy: str) -> None:
    """Local scores follow the table, padding has -inf, and the best come with their ids."""
    weight, hidden = _randn(seed, 10, DIM), _randn(seed + 1, 2, 3, DIM)
    scores = hidden.double() @ weight.double().T
    for rank, owned in enumerate(_ids_of(10, 4, strategy)):
        worker = subject.ShardWorker(subject.partition(10, 4, strategy)[rank], weight)
        want = torch.full((2, 3, 3), -math.inf, dtype=torch.float64)
        want[..., : len(owned)] = scores[..., owned]
        _assert_close(worker.logits(hidden), want)
        assert subject.mutated == ()
        for k in (1, 3, 9):
            best, ids = worker.topk(hidden, k)
            assert list(best.shape) == list(ids.shape) == [2, 3, min(k, 3)]
            real = min(k, len(owned))
            want_best, places = scores[..., owned].topk(real, dim=-1)
            _assert_close(best[..., :real], want_best)
            assert (best[..., real:] == -math.inf).all()
            assert ids[..., :real].tolist() == torch.tensor(owned)[places].tolist()


@pytest.mark.symptom("The loss becomes nan when one worker's scores are much smaller.")
def test_a_worker_summarises_its_scores(subject: Any, seed: int) -> None:
    """Largest score, sum relative to it, the target's score or -inf; without rows -inf and 0."""
    weight, hidden = 30.0 * _randn(seed, 5, DIM), 30.0 * _randn(seed + 1, 6, DIM)
    targets = torch.tensor([0, 1, 2, 3, 4, 2])
    scores = hidden.double() @ weight.double().T
    for spec, owned in zip(subject.partition(5, 4), _ids_of(5, 4, "block"), strict=True):
        peak, total, target = subject.ShardWorker(spec, weight).log_stats(hidden, targets)
        mine = scores[:, owned]
        if not owned:
            assert (peak == -math.inf).all()
            assert not total.any()
            assert (target == -math.inf).all()
            continue
        best = mine.amax(dim=-1)
        _assert_close(peak, best)
        # The scores are of a size at which float32 keeps about three digits of a difference.
        want = torch.exp(mine - best[:, None]).sum(dim=-1)
        torch.testing.assert_close(total.double(), want, rtol=1e-2, atol=1e-6)
        found = scores.gather(1, targets[:, None])[:, 0]
        is_mine = torch.tensor([token in owned for token in targets.tolist()])
        _assert_close(target, torch.where(is_mine, found, -math.inf))


# ----- lookup


@pytest.mark.symptom("Some words lose their meaning when the model is spread over several workers.")
def test_a_lookup_is_that_of_the_whole_table(subject: Any, seed: int) -> None:
    """Every token gets exactly its row, for any number of workers and any shape of tokens."""
    for vocab_size, n_workers, strategy, weight in _cases(seed):
        embedding = subject.ShardedEmbedding(weight, n_workers, strategy=strategy)
        tokens = torch.arange(vocab_size).repeat(2, 1)
        got = embedding.embed(tokens)
        assert subject.mutated == ()
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, weight[tokens], rtol=0, atol=0)
    weight = _randn(seed, 9, DIM)
    embedding = subject.ShardedEmbedding(weight, 4, strategy="cyclic")
    for tokens in (torch.tensor(3), torch.zeros(2, 0, dtype=torch.int64)):
        torch.testing.assert_close(embedding.embed(tokens), weight[tokens], rtol=0, atol=0)
    default = subject.ShardedEmbedding(_randn(seed, 8, DIM))
    assert [subject.fields(worker.spec)["start"] for worker in default.workers] == [0, 2, 4, 6]


@pytest.mark.symptom("With data-parallel inputs, workers get the vectors of other sentences.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_worker_gets_the_vectors_of_its_tokens(
    subject: Any, seed: int, strategy: str
) -> None:
    """Each in the order of its own tokens, however many, repeated or none."""
    for vocab_size, lengths in [(10, [6, 0, 1, 9]), (3, [2, 5, 4, 3]), (13, [0, 0, 0, 0])]:
        weight = _randn(seed, vocab_size, DIM)
        embedding = subject.ShardedEmbedding(weight, 4, strategy=strategy)
        tokens = [_randint(seed + i, vocab_size, n) for i, n in enumerate(lengths)]
        results = embedding.embed_scattered(tokens)
        assert subject.mutated == ()
        assert len(results) == 4
        for mine, got in zip(tokens, results, strict=True):
            assert got.dtype == torch.float32
            torch.testing.assert_close(got, weight[mine], rtol=0, atol=0)


@pytest.mark.symptom("A padded sentence is read differently from the same without padding.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_padding_token_is_embedded_as_zeros(subject: Any, seed: int, strategy: str) -> None:
    """Wherever its row lies; other tokens keep their vectors, and the caller's table its rows."""
    weight = _randn(seed, 10, DIM)
    tokens = torch.arange(10)
    for padding in (0, 4, 9):
        embedding = subject.ShardedEmbedding(weight, 4, strategy=strategy, padding_idx=padding)
        assert subject.mutated == ()
        want = weight.clone()
        want[padding] = 0.0
        torch.testing.assert_close(embedding.embed(tokens), want, rtol=0, atol=0)
        scattered = embedding.embed_scattered([tokens[:3], tokens[3:], tokens[:0], tokens])
        torch.testing.assert_close(torch.cat(scattered), torch.cat([want, want]), rtol=0, atol=0)
        torch.testing.assert_close(embedding.gather_weight(), want, rtol=0, atol=0)


def _bags(
    table: Tensor, tokens: list[int], offsets: list[int], mode: str, padding: int | None
) -> Tensor:
    """Sum or average bag by bag."""
    rows = []
    for start, stop in zip(offsets, [*offsets[1:], len(tokens)], strict=True):
        bag = [table[token] for token in tokens[start:stop] if token != padding]
        total = sum(bag, torch.zeros(DIM, dtype=torch.float64))
        rows.append(total / max(len(bag), 1) if mode == "mean" else total)
    return torch.stack(rows)


@pytest.mark.symptom("A user's profile depends on the users that are looked up with it.")
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_bags_are_reduced_over_their_own_tokens(subject: Any, seed: int, mode: str) -> None:
    """Each bag over its tokens that are not padding; a bag in which nothing counts gives zeros."""
    weight = _randn(seed, 10, DIM)
    tokens = _randint(seed, 10, 11)
    tokens[5:8] = 3
    tokens[[0, 9]] = 0
    for padding, strategy in [
        *[(None, "cyclic"), (3, "block"), (3, "cyclic"), (9, "block")],
        *[(0, "block"), (0, "cyclic")],  # an id like any other
    ]:
        how = {"strategy": strategy, "padding_idx": padding}
        embedding = subject.ShardedEmbedding(weight, 4, **how)
        for offsets in ([0, 4, 5, 8], [0, 0, 5, 7, 7, 11, 11]):
            got = embedding.embed_bag(tokens, torch.tensor(offsets), mode)
            assert subject.mutated == ()
            want = _bags(weight.double(), tokens.tolist(), offsets, mode, padding)
            _assert_close(got, want)
    default = embedding.embed_bag(tokens, torch.tensor([0, 4]))
    _assert_close(default, _bags(weight.double(), tokens.tolist(), [0, 4], "mean", 0))
    empty = embedding.embed_bag(tokens[:0], torch.tensor([0, 0]), mode)
    _assert_close(empty, torch.zeros(2, DIM))


# ----- output


@pytest.mark.symptom("The model speaks gibberish, with scores that belong to other words.")
def test_scores_are_those_of_the_whole_table(subject: Any, seed: int) -> None:
    """One score per id, in the order of the vocabulary, for hidden states of any shape."""
    hidden = _randn(seed + 90, 3, DIM)
    for _, n_workers, strategy, weight in _cases(seed):
        embedding = subject.ShardedEmbedding(weight, n_workers, strategy=strategy)
        _assert_close(embedding.logits(hidden), hidden.double() @ weight.double().T)
        assert subject.mutated == ()
    weight = _randn(seed, 10, DIM)
    for shape, strategy in [((), "block"), ((2, 3), "cyclic"), ((2, 3), "block"), ((0,), "cyclic")]:
        embedding = subject.ShardedEmbedding(weight, 4, strategy=strategy)
        hidden = _randn(seed + 2, *shape, DIM)
        got = embedding.logits(hidden)
        assert list(got.shape) == [*shape, 10]
        _assert_close(got, hidden.double() @ weight.double().T)


@pytest.mark.symptom("Greedy and top-k sampling pick other tokens than on a single device.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_best_tokens_are_those_of_all_scores(subject: Any, seed: int, strategy: str) -> None:
    """Scores in descending order with their ids, for every k, also if one worker has them all."""
    ranking = torch.randperm(13, generator=torch.Generator().manual_seed(seed))
    hidden = _randn(seed + 3, 2, 2, DIM)
    hidden[..., 0] = hidden[..., 0].abs() + 5.0
    tables = [_randn(seed, 13, DIM), _randn(seed + 1, 13, DIM), _randn(seed + 2, 3, DIM)]
    tables[0][:, 0] = 20.0 * torch.arange(13)  # the last ids are the best by far
    tables[1][:, 0] = 20.0 * ranking
    for weight in tables:
        embedding = subject.ShardedEmbedding(weight, 4, strategy=strategy)
        scores = hidden.double() @ weight.double().T
        for k in sorted({1, min(6, len(weight)), len(weight)}):
            best, ids = embedding.topk(hidden, k)
            assert subject.mutated == ()
            assert list(best.shape) == list(ids.shape) == [2, 2, k]
            assert ids.dtype == torch.int64
            _assert_close(best, scores.sort(dim=-1, descending=True).values[..., :k])
            assert ((ids >= 0) & (ids < len(weight))).all()
            _assert_close(best, scores.gather(-1, ids))
            assert all(len(set(row)) == k for row in ids.flatten(0, 1).tolist())


@pytest.mark.symptom("Log-probabilities change with the number of workers.")
def test_log_probabilities_are_those_of_a_softmax_over_all(subject: Any, seed: int) -> None:
    """For every target, with scores large, small, or far apart between the workers."""
    for vocab_size, n_workers, strategy, weight in _cases(seed):
        hidden = _randn(seed + 90, 2, vocab_size, DIM)
        embedding = subject.ShardedEmbedding(weight, n_workers, strategy=strategy)
        targets = torch.arange(vocab_size).flip(0).repeat(2, 1)
        got = embedding.log_probs(hidden, targets)
        assert subject.mutated == ()
        want = torch.log_softmax(hidden.double() @ weight.double().T, dim=-1)
        _assert_close(got, want.gather(-1, targets[..., None])[..., 0])
    # Scores from -1000 to 1000 by id: whole numbers, so that float32 has them exactly.
    weight = torch.linspace(-1000.0, 1000.0, 9)[:, None].repeat(1, 2)
    embedding = subject.ShardedEmbedding(weight, 4)
    for sign in (1.0, -1.0):
        hidden = torch.tensor([sign, 0.0]).repeat(9, 1)
        got = embedding.log_probs(hidden, torch.arange(9))
        want = torch.log_softmax(sign * weight[:, 0].double(), dim=0)
        _assert_close(got, want)


@pytest.mark.symptom("Evaluation reports another perplexity than on a single device.")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_loss_is_the_mean_over_the_targets_that_count(
    subject: Any, seed: int, strategy: str
) -> None:
    """Ignored targets change nothing, whatever their hidden states; without any other it is 0."""
    weight, hidden = _randn(seed, 10, DIM), _randn(seed + 1, 3, 4, DIM)
    embedding = subject.ShardedEmbedding(weight, 4, strategy=strategy)
    targets = _randint(seed, 10, 3, 4)
    log_probs = torch.log_softmax(hidden.double() @ weight.double().T, dim=-1)
    losses = -log_probs.gather(-1, targets[..., None])[..., 0]
    _assert_close(embedding.cross_entropy(hidden, targets), losses.mean())
    _assert_close(embedding.cross_entropy(hidden[0, 0], targets[0, 0]), losses[0, 0])

    kept = torch.tensor([True, False, True, True]).repeat(3, 1)
    kept[1] = False
    for ignored, more in [(-100, {}), (4, {"ignore_index": 4}), (77, {"ignore_index": 77})]:
        marked = targets.masked_fill(~kept, ignored)
        counts = marked != ignored
        garbage = hidden.masked_fill(~counts[..., None], float("nan"))
        got = embedding.cross_entropy(garbage, marked, **more)
        assert subject.mutated == ()
        _assert_close(got, losses[counts].sum() / max(int(counts.sum()), 1))
    nothing = embedding.cross_entropy(hidden, torch.full((3, 4), -100))
    _assert_close(nothing, torch.tensor(0.0))


# ----- the rest


@pytest.mark.symptom("A checkpoint saved from four workers cannot be loaded on three.")
def test_the_whole_table_can_be_gathered(subject: Any, seed: int) -> None:
    """All rows in the order of the vocabulary, none of padding; other workers can start from it."""
    for vocab_size, n_workers, strategy, weight in _cases(seed):
        embedding = subject.ShardedEmbedding(weight, n_workers, strategy=strategy)
        got = embedding.gather_weight()
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, weight, rtol=0, atol=0)
        again = subject.ShardedEmbedding(got, 3, strategy="cyclic")
        tokens = torch.arange(vocab_size)
        torch.testing.assert_close(again.embed(tokens), weight, rtol=0, atol=0)


@pytest.mark.symptom("In half precision, quality drops with the number of workers.")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_costs_little(subject: Any, seed: int, dtype: torch.dtype) -> None:
    """Lookups are exact; sums and scores are as good as the dtype allows; losses are float32."""
    weight, hidden = _randn(seed, 11, 64).to(dtype), _randn(seed + 1, 6, 64).to(dtype)
    embedding = subject.ShardedEmbedding(weight, 4, strategy="cyclic")
    tokens = _randint(seed, 11, 600)
    torch.testing.assert_close(embedding.embed(tokens), weight[tokens], rtol=0, atol=0)
    scattered = embedding.embed_scattered([tokens[:9], tokens[9:9], tokens[9:10], tokens[10:20]])
    torch.testing.assert_close(torch.cat(scattered), weight[tokens[:20]], rtol=0, atol=0)
    torch.testing.assert_close(embedding.gather_weight(), weight, rtol=0, atol=0)

    eps = torch.finfo(dtype).eps
    bag = embedding.embed_bag(tokens, torch.tensor([0]), "mean")
    assert bag.dtype == dtype
    want = weight.double()[tokens].mean(dim=0, keepdim=True)
    torch.testing.assert_close(bag.double(), want, rtol=0.6 * eps, atol=1e-6)
    scores = hidden.double() @ weight.double().T
    got = embedding.logits(hidden)
    best, _ = embedding.topk(hidden, 2)
    assert got.dtype == best.dtype == dtype
    torch.testing.assert_close(got.double(), scores, rtol=eps, atol=eps)
    torch.testing.assert_close(best.double(), scores.topk(2, dim=-1).values, rtol=eps, atol=eps)
    targets = torch.arange(6)
    log_probs = embedding.log_probs(hidden, targets)
    assert log_probs.dtype == embedding.cross_entropy(hidden, targets).dtype == torch.float32
    want = torch.log_softmax(scores, dim=-1)[targets, targets]
    limit = 2.0 * eps * float(scores.abs().max())
    torch.testing.assert_close(log_probs.double(), want, rtol=0, atol=limit)


@pytest.mark.symptom("On a machine with several devices, inference stops with a device error.")
def test_tensors_are_made_where_the_inputs_are(subject: Any, seed: int) -> None:
    """A different default device changes nothing for inputs that lie where they lie."""
    weight, hidden = _randn(seed, 10, DIM), _randn(seed + 1, 4, DIM)
    tokens, offsets = _randint(seed, 10, 7), torch.tensor([0, 3, 3])
    targets = torch.tensor([1, -100, 9, 4])
    try:
        with subject.accelerator():
            embedding = subject.ShardedEmbedding(weight, 4, strategy="cyclic", padding_idx=2)
            vectors = embedding.embed(tokens)
            scattered = embedding.embed_scattered([tokens[:4], tokens[:0], tokens, tokens[4:]])
            bags = embedding.embed_bag(tokens, offsets)
            scores = embedding.logits(hidden)
            best, ids = embedding.topk(hidden, 3)
            loss = embedding.cross_entropy(hidden, targets)
            owner = embedding.owner(tokens)
            table = embedding.gather_weight()
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    want = weight.clone()
    want[2] = 0.0
    torch.testing.assert_close(vectors, want[tokens], rtol=0, atol=0)
    torch.testing.assert_close(scattered[2], want[tokens], rtol=0, atol=0)
    _assert_close(bags, _bags(want.double(), tokens.tolist(), [0, 3, 3], "mean", 2))
    all_scores = hidden.double() @ want.double().T
    _assert_close(scores, all_scores)
    _assert_close(best, all_scores.gather(-1, ids))
    rows = torch.tensor([0, 2, 3])
    log_probs = torch.log_softmax(all_scores, dim=-1)[rows, targets[rows]]
    _assert_close(loss, -log_probs.mean())
    assert owner.tolist() == (tokens % 4).tolist()
    torch.testing.assert_close(table, want, rtol=0, atol=0)


@pytest.mark.symptom("A bad id is answered with a vector of zeros instead of an error.")
def test_misuse_is_refused(subject: Any) -> None:
    """Impossible sizes, ids outside the vocabulary and inputs that do not fit raise ValueError."""
    for vocab_size, n_workers, strategy in [(0, 4, "block"), (4, 0, "cyclic"), (4, 2, "rows")]:
        with pytest.raises(ValueError, match=r"."):
            subject.partition(vocab_size, n_workers, strategy)
    weight = torch.ones(7, DIM)
    wrong_tables: list[tuple[Tensor, dict[str, Any]]] = [
        (torch.ones(7), {}),
        (torch.ones(7, 2, 2), {}),
        (weight, {"padding_idx": 7}),
        (weight, {"padding_idx": 8}),
        (weight, {"padding_idx": -1}),
        (weight, {"strategy": "rows"}),
        (weight, {"n_workers": 0}),
    ]
    for table, how in wrong_tables:
        with pytest.raises(ValueError, match=r"."):
            subject.ShardedEmbedding(table, **how)
    embedding = subject.ShardedEmbedding(weight)
    hidden, token = torch.ones(2, DIM), torch.tensor([0, 6])
    wrong: list[tuple[str, tuple[Any, ...]]] = [
        *(("embed", (torch.tensor([3, bad]),)) for bad in (7, 8, -1)),
        *(("owner", (torch.tensor([3, bad]),)) for bad in (7, -1)),
        *(("embed_scattered", ([token, token, torch.tensor([bad]), token],)) for bad in (7, -1)),
        *(("log_probs", (hidden, torch.tensor([3, bad]))) for bad in (7, -1)),
        *(("cross_entropy", (hidden, torch.tensor([3, bad]))) for bad in (7, -1)),
        *(("topk", (hidden, bad)) for bad in (0, 8)),
        ("embed_scattered", ([token] * 3,)),
        ("embed_scattered", ([token] * 5,)),
        ("logits", (torch.ones(2, DIM + 1),)),
        ("topk", (torch.ones(2, DIM - 1), 2)),
        ("log_probs", (torch.ones(2, DIM + 1), token)),
        ("cross_entropy", (torch.ones(2, DIM - 1), token)),
        ("embed_bag", (token, torch.tensor([0, 1]), "max")),
        ("embed_bag", (token, torch.tensor([1, 2]))),
        ("embed_bag", (token, torch.tensor([-1, 1]))),
        ("embed_bag", (token, torch.tensor([0, 2, 1]))),
        ("embed_bag", (token, torch.tensor([0, 3]))),
        ("embed_bag", (torch.tensor([3, 7]), torch.tensor([0]))),
    ]
    for name, arguments in wrong:
        with pytest.raises(ValueError, match=r"."):
            getattr(embedding, name)(*arguments)
