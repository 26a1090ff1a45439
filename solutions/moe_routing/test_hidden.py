"""What the mixture of experts promises: `subject` is the file under test, `seed` differs by run.

The oracles go token by token and choice by choice, in plain Python and double precision.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

NAN = math.nan
M, F, E = 6, 5, 8  # model dim, hidden dim of an expert, experts


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _close(got: Tensor, want: Tensor, dtype: torch.dtype = torch.float32) -> None:
    """Compare with a reference, to be rounded to the dtype that was promised."""
    scale = max(float(want.abs().amax()), 1.0) if want.numel() else 1.0
    torch.testing.assert_close(got, want.to(dtype), rtol=1e-5, atol=1e-5 * scale)


def _refused(function: Any, *args: object, **kwargs: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message's words are free)
        function(*args, **kwargs)


def _layer(
    subject: Any, seed: int, *, n_experts: int = E, bias: Tensor | None = None, **how: Any
) -> tuple[Any, dict[str, Tensor]]:
    """Return a layer with drawn weights, and the weights."""
    weights = {
        "gate": _randn(seed, n_experts, M),
        "experts.w1": _randn(seed + 1, n_experts, F, M) / 2,
        "experts.w2": _randn(seed + 2, n_experts, M, F) / 2,
        "experts.w3": _randn(seed + 3, n_experts, F, M) / 2,
        "selection_bias": torch.zeros(n_experts) if bias is None else bias,
    }
    layer = subject.SparseMoE(M, F, n_experts, **how)
    layer.load_state_dict(weights)
    return layer.requires_grad_(False), weights


def _expert(weights: dict[str, Tensor], expert: int, x: Tensor) -> Tensor:
    """Run one expert in double precision: x [..., M]."""
    w1, w2, w3 = (weights[f"experts.w{i}"][expert].double() for i in (1, 2, 3))
    gate = x.double() @ w1.T
    return (gate / (1 + torch.exp(-gate)) * (x.double() @ w3.T)) @ w2.T


def _routing(
    logits: Tensor, top_k: int, *, renormalize: bool = True, bias: Tensor | None = None
) -> tuple[list[list[int]], list[list[float]]]:
    """Return the choices of every token, first choice first, and their weights."""
    chosen, weights = [], []
    probs = torch.softmax(logits.double(), dim=-1)
    scores = probs if bias is None else probs + bias.double()
    for row, score in zip(probs.tolist(), scores.tolist(), strict=True):
        best = sorted(range(len(row)), key=lambda e: -score[e])[:top_k]
        total = math.fsum(row[e] for e in best) if renormalize else 1.0
        chosen.append(best)
        weights.append([row[e] / total for e in best])
    return chosen, weights


def _slots(
    chosen: Sequence[Sequence[int]], n_slots: int, valid: Sequence[bool] | None = None
) -> list[list[int]]:
    """Serve all first choices, then all second ones, ...; -1 is no slot."""
    slots = [[-1] * len(row) for row in chosen]
    n_taken: dict[int, int] = {}
    for choice in range(len(chosen[0])):
        for token, row in enumerate(chosen):
            taken = n_taken.get(row[choice], 0)
            if (valid is None or valid[token]) and taken < n_slots:
                slots[token][choice] = taken
                n_taken[row[choice]] = taken + 1
    return slots


def _output(
    weights: dict[str, Tensor],
    x: Tensor,
    top_k: int,
    *,
    renormalize: bool = True,
    experts: Sequence[int] | None = None,
    n_slots: int | None = None,
) -> Tensor:
    """Return the layer's output for x [N, M] in float64, from some experts, in so many slots."""
    logits = x.double() @ weights["gate"].double().T
    bias = weights["selection_bias"]
    chosen, shares = _routing(logits, top_k, renormalize=renormalize, bias=bias)
    slots = _slots(chosen, len(x) if n_slots is None else n_slots)
    outputs = [_expert(weights, expert, x) for expert in range(len(bias))]
    mix = torch.zeros(len(x), len(bias), dtype=torch.float64)
    for token, row in enumerate(chosen):
        for choice, expert in enumerate(row):
            if slots[token][choice] >= 0 and (experts is None or expert in experts):
                mix[token, expert] = shares[token][choice]
    return (mix.T[:, :, None] * torch.stack(outputs)).sum(dim=0)


def _choices(seed: int, n_tokens: int, n_experts: int, top_k: int) -> list[list[int]]:
    """Return different experts for every token, the first few ones more often."""
    rng = random.Random(seed)
    pool = [*range(n_experts), *[0, 1] * n_experts]
    rows = []
    for _ in range(n_tokens):
        row: list[int] = []
        while len(row) < top_k:
            expert = rng.choice(pool)
            row += [expert] if expert not in row else []
        rows.append(row)
    return rows


# ----- routing


@pytest.mark.symptom("Outputs have the wrong size, or experts are mixed in wrong proportions.")
@pytest.mark.parametrize("renormalize", [True, False])
def test_weights_are_the_probabilities_of_the_best_experts(
    subject: Any, seed: int, renormalize: bool
) -> None:
    """Weights come from a softmax over all experts, best first, and sum to 1 if renormalised."""
    logits = 2.0 * _randn(seed, 9, E)
    for top_k in (1, 2, 3, E):
        chosen, weights = _routing(logits, top_k, renormalize=renormalize)

        got = subject.route(logits, top_k, renormalize=renormalize)

        torch.testing.assert_close(got.experts, torch.tensor(chosen))
        _close(got.weights, torch.tensor(weights, dtype=torch.float64))
        _close(got.probs, torch.softmax(logits.double(), dim=-1))


@pytest.mark.symptom("With the router in half precision its decisions are coarse.")
def test_routing_defaults_to_two_renormalised_choices_in_float32(subject: Any, seed: int) -> None:
    """Two experts, weights that sum to 1, and float32 whatever the logits' dtype."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits = (2.0 * _randn(seed, 5, E)).to(dtype)
        logits[0] = torch.tensor([60.0, -60.0, 0.0, 5.0, 59.0, -1.0, 2.0, 1.0])

        got = subject.route(logits)

        chosen = got.experts.tolist()
        assert all(len(set(row)) == 2 for row in chosen)
        probs = torch.softmax(logits.double(), dim=-1)
        _close(got.probs, probs)
        picked = probs.gather(-1, got.experts)
        _close(picked, probs.topk(2).values, torch.float64)
        _close(got.weights, picked / picked.sum(dim=-1, keepdim=True))
        assert chosen[0] == [0, 4]


@pytest.mark.symptom("Evening out the load changes the model's answers more than it should.")
def test_a_selection_bias_changes_the_choice_but_not_the_weights(subject: Any, seed: int) -> None:
    """The bias decides on experts and their order; weights are those of the probabilities alone."""
    logits = _randn(seed, 12, E)
    bias = torch.tensor([0.4, -0.5, 0.0, 0.3, 0.0, -0.2, 0.1, 0.0])

    for renormalize in (True, False):
        chosen, weights = _routing(logits, 3, renormalize=renormalize, bias=bias)
        got = subject.route(logits, 3, renormalize=renormalize, selection_bias=bias)
        torch.testing.assert_close(got.experts, torch.tensor(chosen))
        _close(got.weights, torch.tensor(weights, dtype=torch.float64))
        _close(got.probs, torch.softmax(logits.double(), dim=-1))
    assert chosen != _routing(logits, 3)[0]


# ----- how even the load is


@pytest.mark.symptom("The dashboard shows fewer tokens than were served, or experts are missing.")
def test_load_counts_every_choice(subject: Any, seed: int) -> None:
    """Each of a token's choices counts once, padding does not, and idle experts have 0."""
    for top_k in (1, 3):
        chosen = _choices(seed, 20, 6, top_k)
        valid = [i % 3 != 1 for i in range(20)]
        for mask in (None, valid, [False] * 20):
            real = [row for i, row in enumerate(chosen) if mask is None or mask[i]]
            want = [sum(row.count(e) for row in real) for e in range(9)]
            told = None if mask is None else torch.tensor(mask)
            got = subject.expert_load(torch.tensor(chosen), 9, told)
            torch.testing.assert_close(got, torch.tensor(want))


@pytest.mark.symptom("The alarm for uneven load never rings, or always does.")
def test_max_violation_compares_the_busiest_expert_with_the_mean(subject: Any) -> None:
    """It is 0 for an even load, E - 1 when one expert does all, and 0 when there is no load."""
    cases = [([3, 3, 3], 0.0), ([0, 12, 0, 0], 3.0), ([4, 1, 1, 2], 1.0), ([0, 0], 0.0)]
    for load, want in [*cases, ([1, 0], 1.0), ([1, 0, 0], 2.0)]:
        got = subject.max_violation(torch.tensor(load))
        assert isinstance(got, float)
        assert math.isclose(got, want, abs_tol=1e-6)
    assert math.isclose(subject.max_violation(torch.tensor([5, 2])), 3 / 7, rel_tol=1e-6)


def _balancing_loss(
    probs: Tensor, chosen: Sequence[Sequence[int]], valid: Sequence[bool] | None = None
) -> Tensor:
    """Return E * sum over experts of choices per token times mean probability, over real tokens."""
    tokens = [i for i in range(len(chosen)) if valid is None or valid[i]]
    loss = 0.0
    for expert in range(probs.shape[1]):
        n = sum(chosen[i].count(expert) for i in tokens)
        mean = math.fsum(float(probs[i, expert]) for i in tokens) / len(tokens)
        loss += n / len(tokens) * mean
    return torch.tensor(probs.shape[1] * loss)


@pytest.mark.symptom("The balancing loss in the logs does not compare with that of other codes.")
def test_an_even_load_costs_k_and_a_collapse_costs_more(subject: Any, seed: int) -> None:
    """The loss is exactly k for an even load and about E for each choice that all tokens share."""
    even = torch.full((E, E), 1 / E)
    for top_k in (1, 2, 3):
        ring = torch.tensor([[(i + j) % E for j in range(top_k)] for i in range(E)])
        _close(subject.load_balancing_loss(even, ring), torch.tensor(float(top_k)))
    sure = torch.softmax(torch.tensor([[30.0, *[0.0] * (E - 1)]] * 5), dim=-1)
    got = subject.load_balancing_loss(sure, torch.zeros(5, 1, dtype=torch.long))
    _close(got, torch.tensor(float(E)))

    probs = torch.softmax(2.0 * _randn(seed, 11, E), dim=-1)
    chosen, _ = _routing(probs.log(), 2)
    loss = subject.load_balancing_loss(probs, torch.tensor(chosen))
    _close(loss, _balancing_loss(probs, chosen))
    load = [sum(row.count(e) for row in chosen) for e in range(E)]
    busy, idle = load.index(max(load)), load.index(min(load))
    moved = probs.clone()
    moved[:, busy] -= 0.01
    moved[:, idle] += 0.01
    assert subject.load_balancing_loss(moved, torch.tensor(chosen)) < loss


@pytest.mark.symptom("Losses are lower the more padding a batch has.")
def test_losses_are_means_over_real_tokens(subject: Any, seed: int) -> None:
    """Padding, whatever it holds, changes neither loss; without any token both are 0."""
    logits = 3.0 * _randn(seed, 13, 5)
    valid = [i % 4 != 2 for i in range(13)]
    valid[0] = False
    mask = torch.tensor(valid)
    chosen, _ = _routing(logits, 2)
    probs = torch.softmax(logits, dim=-1)
    log_z = torch.logsumexp(logits.double(), dim=-1)
    for logits_, probs_ in [
        (logits, probs),
        (logits.masked_fill(~mask[:, None], NAN), probs.masked_fill(~mask[:, None], NAN)),
    ]:
        got = subject.load_balancing_loss(probs_, torch.tensor(chosen), mask)
        _close(got, _balancing_loss(probs, chosen, valid))
        got = subject.router_z_loss(logits_, mask)
        _close(got, log_z[mask].square().mean())

    _close(subject.router_z_loss(logits), log_z.square().mean())
    _close(subject.router_z_loss(logits[:1]), log_z[0].square())
    one = subject.load_balancing_loss(probs[:1], torch.tensor(chosen[:1]))
    _close(one, _balancing_loss(probs[:1], chosen[:1]))
    nobody = torch.zeros(13, dtype=torch.bool)
    for nothing in (
        subject.load_balancing_loss(probs, torch.tensor(chosen), nobody),
        subject.router_z_loss(logits, nobody),
    ):
        torch.testing.assert_close(nothing, torch.tensor(0.0))


@pytest.mark.symptom("The z-loss turns infinite or coarse for large logits.")
def test_z_loss_is_computed_in_float32(subject: Any, seed: int) -> None:
    """Logits far from zero and logits of half precision give an accurate finite loss."""
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        logits = (_randn(seed, 7, E) - 300.0).to(dtype)
        logits[:3] += 900.0
        want = torch.logsumexp(logits.double(), dim=-1).square().mean()
        _close(subject.router_z_loss(logits), want)


# ----- slots


@pytest.mark.symptom("Buffers are one slot too small for some batch sizes, or have no slot at all.")
def test_capacity_is_rounded_up(subject: Any) -> None:
    """Capacity is factor times the mean number of choices per expert, rounded up, at least 1."""
    cases = {
        (16, 8, 2, 1.0): 4,
        (17, 8, 2, 1.0): 5,
        (16, 8, 2, 1.25): 5,
        (16, 8, 2, 1.5): 6,
        (100, 8, 2, 0.5): 13,
        (3, 64, 2, 1.0): 1,
        (0, 8, 2, 1.0): 1,
        (10, 1, 1, 1.0): 10,
        (7, 2, 3, 2.0): 21,
        (4, 8, 2, 1.0): 1,
    }
    for arguments, want in cases.items():
        got = subject.capacity(*arguments)
        assert isinstance(got, int)
        assert got == want


@pytest.mark.symptom("When experts overflow, the wrong tokens lose their place.")
def test_slots_go_to_first_choices_and_early_tokens_first(subject: Any, seed: int) -> None:
    """All first choices outrank all second ones, then earlier tokens win; late ones get -1."""
    for top_k, n_slots in [(1, 4), (2, 1), (2, 3), (3, 5), (3, 24), (2, 100)]:
        chosen = _choices(seed + top_k, 24, 5, top_k)
        want = _slots(chosen, n_slots)
        got = subject.assign_slots(torch.tensor(chosen), 5, n_slots)
        torch.testing.assert_close(got, torch.tensor(want))
    got = subject.assign_slots(torch.tensor([[0, 1], [2, 0], [1, 0]]), 3, 2)
    assert got.tolist() == [[0, 1], [0, 1], [0, -1]]


@pytest.mark.symptom("Short requests crowd out long ones they are batched with.")
def test_padding_takes_no_slot(subject: Any, seed: int) -> None:
    """A row of padding gets no slot, and the others get the slots they would get without it."""
    chosen = _choices(seed, 24, 5, 2)
    valid = [i % 5 not in (0, 3) for i in range(24)]

    for n_slots in (1, 3, 6, 50):
        got = subject.assign_slots(torch.tensor(chosen), 5, n_slots, torch.tensor(valid))
        torch.testing.assert_close(got, torch.tensor(_slots(chosen, n_slots, valid)))


@pytest.mark.symptom("An expert works on other tokens than those that chose it.")
def test_dispatch_puts_every_token_into_its_slots(subject: Any, seed: int) -> None:
    """A slot holds the token it was given to, bit by bit, and is zero if nobody got it."""
    for dtype in (torch.float32, torch.bfloat16):
        x = _randn(seed, 10, 3).to(dtype)
        chosen = _choices(seed, 10, 4, 2)
        slots = _slots(chosen, 5, [i != 4 for i in range(10)])
        want = torch.zeros(4, 5, 3, dtype=dtype)
        for token, (row, own) in enumerate(zip(chosen, slots, strict=True)):
            for expert, slot in zip(row, own, strict=True):
                if slot >= 0:
                    want[expert, slot] = x[token]

        got = subject.dispatch(x, torch.tensor(chosen), torch.tensor(slots), 4, 5)

        torch.testing.assert_close(got, want, rtol=0, atol=0)


@pytest.mark.symptom("Tokens of an overloaded expert get louder, or somebody else's output.")
def test_combine_adds_the_weighted_outputs_of_each_token(subject: Any, seed: int) -> None:
    """A token gets its slots' outputs times its weights; a dropped choice adds nothing at all."""
    for dtype, tolerance in [(torch.float32, 1e-5), (torch.bfloat16, 2**-8)]:
        buffers = _randn(seed, 4, 5, 3).to(dtype)
        chosen = _choices(seed, 10, 4, 3)
        slots = _slots(chosen, 5, [i != 4 for i in range(10)])
        weights = _randn(seed + 1, 10, 3).abs()
        taken = {
            (expert, slot)
            for row, own in zip(chosen, slots, strict=True)
            for expert, slot in zip(row, own, strict=True)
        }
        want = torch.zeros(10, 3, dtype=torch.float64)
        for token, (row, own) in enumerate(zip(chosen, slots, strict=True)):
            for choice, (expert, slot) in enumerate(zip(row, own, strict=True)):
                if slot >= 0:
                    want[token] += weights[token, choice].double() * buffers[expert, slot].double()
        for expert in range(4):
            for slot in range(5):
                if (expert, slot) not in taken:
                    buffers[expert, slot] = NAN

        got = subject.combine(buffers, torch.tensor(chosen), torch.tensor(slots), weights)

        assert got.dtype == dtype
        torch.testing.assert_close(got.double(), want, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.symptom("Dropped choices are filled up with NaN from somewhere else.")
def test_what_a_dropped_choice_points_at_does_not_matter(subject: Any) -> None:
    """NaN in the slots of others stays with the others."""
    buffers = torch.ones(3, 2, 2)
    buffers[0, 0] = buffers[1, 1] = buffers[2, 1] = NAN
    experts = torch.tensor([[0, 1], [1, 2], [2, 0]])
    slots = torch.tensor([[0, -1], [0, -1], [0, -1]])
    weights = torch.tensor([[0.5, 0.5], [0.25, 0.75], [1.0, NAN]])

    got = subject.combine(buffers, experts, slots, weights)

    torch.testing.assert_close(got[1:], torch.tensor([[0.25, 0.25], [1.0, 1.0]]))
    assert bool(got[0].isnan().all())
    only = torch.tensor([[0], [-1]])
    got = subject.combine(torch.ones(1, 1, 2), torch.zeros_like(only), only, torch.ones(2, 1))
    assert got.tolist() == [[1.0, 1.0], [0.0, 0.0]]


@pytest.mark.symptom("Sorting by expert loses or mixes tokens for some loads.")
def test_groups_hold_the_choices_of_each_expert_in_order(subject: Any, seed: int) -> None:
    """Choices lie expert by expert, in order of their tokens, and padding is not among them."""
    chosen = _choices(seed, 14, 5, 3)
    valid = [i % 4 != 1 for i in range(14)]
    for mask in (None, valid, [False] * 14):
        groups: list[list[tuple[int, int]]] = [[] for _ in range(7)]
        for token, row in enumerate(chosen):
            for choice, expert in enumerate(row):
                if mask is None or mask[token]:
                    groups[expert].append((token, choice))
        flat = [pair for group in groups for pair in group]
        told = None if mask is None else torch.tensor(mask)

        got = subject.group_by_expert(torch.tensor(chosen), 7, told)

        sizes = torch.tensor([0, *(len(group) for group in groups)])
        torch.testing.assert_close(got.offsets, sizes.cumsum(dim=0))
        pairs = list(zip(got.token.tolist(), got.choice.tolist(), strict=True))
        assert pairs == flat
        assert got.token.dtype == got.choice.dtype == torch.int64


# ----- the layer


@pytest.mark.symptom("Checkpoints of known models give nonsense.")
def test_every_expert_is_a_gated_feed_forward_network(subject: Any, seed: int) -> None:
    """An expert computes w2 (silu(w1 x) * (w3 x)), on a buffer, on rows, and on its own tokens."""
    layer, weights = _layer(subject, seed, n_experts=4)
    experts = layer.experts
    x = _randn(seed + 9, 4, 3, M)
    want = torch.stack([_expert(weights, e, x[e]) for e in range(4)])

    _close(experts(x), want)
    for e in range(4):
        _close(experts.one(e, x[e]), want[e])
    assert experts.one(0, x[0][:0]).shape == (0, M)
    chosen = torch.tensor([[3, 0], [1, 2], [2, 2]])
    own = [[_expert(weights, int(e), x[0, i]) for e in chosen[i]] for i in range(3)]
    _close(experts.chosen(x[0], chosen), torch.stack([torch.stack(row) for row in own]))


@pytest.mark.symptom("The layer's outputs differ from those of the model it was converted from.")
@pytest.mark.parametrize("renormalize", [True, False])
def test_the_layer_is_the_weighted_sum_of_its_best_experts(
    subject: Any, seed: int, renormalize: bool
) -> None:
    """Each token's output is that of its top experts, weighted, however many tokens there are."""
    for top_k in (1, 2, 3):
        layer, weights = _layer(subject, seed + top_k, top_k=top_k, renormalize=renormalize)
        for shape in [(2, 7), (1, 1), (2, 2), (1, 5)]:
            x = _randn(seed + 20 + top_k, *shape, M)
            want = _output(weights, x.flatten(0, 1), top_k, renormalize=renormalize)
            got = layer(x)
            _close(got.out, want.view_as(x))


@pytest.mark.symptom("What the layer reports about its load does not fit what it did.")
def test_the_layer_reports_its_losses_and_load(subject: Any, seed: int) -> None:
    """Losses and load are those of the router on the same tokens."""
    for factor in (None, 0.5):
        layer, weights = _layer(subject, seed, capacity_factor=factor)
        x = _randn(seed + 4, 3, 7, M)
        logits = x.flatten(0, 1).double() @ weights["gate"].double().T
        chosen, _ = _routing(logits, 2)

        got = layer(x)

        _close(got.balancing_loss, _balancing_loss(torch.softmax(logits, dim=-1), chosen))
        _close(got.z_loss, torch.logsumexp(logits, dim=-1).square().mean())
        load = [sum(row.count(e) for row in chosen) for e in range(E)]
        torch.testing.assert_close(got.load, torch.tensor(load))
        _close(layer.router_logits(x.flatten(0, 1)), logits)


@pytest.mark.symptom("A token's answer depends on what else is in the batch.")
def test_without_a_capacity_a_token_does_not_depend_on_its_company(subject: Any, seed: int) -> None:
    """Alone, in reverse, or in a large batch, a token's output is the same."""
    layer, _ = _layer(subject, seed)
    x = _randn(seed + 5, 1, 11, M)

    whole = layer(x).out
    _close(layer(x.flip(1)).out, whole.flip(1))
    _close(layer(torch.cat([x, x])).out, torch.cat([whole, whole]))
    for i in (0, 4, 10):
        _close(layer(x[:, [i]]).out, whole[:, [i]])


@pytest.mark.symptom("Setting a generous capacity changes the answers.")
def test_an_ample_capacity_drops_nothing(subject: Any, seed: int) -> None:
    """With enough slots for everybody the layer computes what it does without a capacity."""
    for top_k in (1, 2, 3):
        layer, weights = _layer(subject, seed, top_k=top_k, capacity_factor=float(E))
        for shape in [(2, 5), (1, 1), (3, 7)]:
            x = _randn(seed + 6, *shape, M)
            _close(layer(x).out, _output(weights, x.flatten(0, 1), top_k).view_as(x))


@pytest.mark.symptom("Under a tight capacity outputs blow up, or early tokens suffer.")
def test_an_overflowing_expert_drops_its_late_tokens_share_only(subject: Any, seed: int) -> None:
    """A token that comes too late loses that expert's share; its other share stays as it is."""
    dropped = 0
    for factor in (0.25, 0.5, 1.0, 1.25):
        layer, weights = _layer(subject, seed, capacity_factor=factor)
        x = 1.5 * _randn(seed + 7, 2, 12, M)
        n_slots = math.ceil(24 * 2 * factor / E)
        want = _output(weights, x.flatten(0, 1), 2, n_slots=n_slots).view_as(x)
        _close(layer(x).out, want)
        whole = _output(weights, x.flatten(0, 1), 2).view_as(x)
        dropped += int(((want - whole).abs().amax(dim=-1) > 1e-6).sum())
    assert dropped > 0


@pytest.mark.symptom("Answers change with the length of the other prompts in the batch.")
@pytest.mark.parametrize("factor", [None, 0.75, 1.0])
def test_padding_gives_zeros_and_changes_nothing(
    subject: Any, seed: int, factor: float | None
) -> None:
    """With padding, whatever it holds, real tokens, losses, load and capacity are as without it."""
    layer, weights = _layer(subject, seed, capacity_factor=factor)
    for lengths in ([9, 4, 0, 6], [1, 0, 2, 0]):
        valid = torch.arange(9) < torch.tensor(lengths)[:, None]
        x = _randn(seed + 8, 4, 9, M)
        n_slots = None if factor is None else max(1, math.ceil(sum(lengths) * 2 * factor / E))
        want = torch.zeros(4, 9, M, dtype=torch.float64)
        want[valid] = _output(weights, x[valid], 2, n_slots=n_slots)
        chosen, _ = _routing(x[valid].double() @ weights["gate"].double().T, 2)
        alone = layer(x[valid][None])

        for padding in (0.0, 50.0, NAN):
            got = layer(x.masked_fill(~valid[:, :, None], padding), valid)
            _close(got.out, want)
            assert not got.out[~valid].any()
            _close(got.balancing_loss, alone.balancing_loss)
            _close(got.z_loss, alone.z_loss)
            torch.testing.assert_close(got.load, alone.load)
        assert int(got.load.sum()) == 2 * len(chosen)


@pytest.mark.symptom("A few tokens of decoding, padded to a fixed batch, come out wrong.")
def test_few_tokens_may_be_padded_too(subject: Any, seed: int) -> None:
    """A decoding step with rows of padding gives zeros there and the right outputs elsewhere."""
    layer, weights = _layer(subject, seed)
    x = _randn(seed + 3, 3, 1, M)
    valid = torch.tensor([[True], [False], [True]])
    want = _output(weights, x.flatten(0, 1), 2).view_as(x)
    want[1] = 0

    for padding in (1.0, NAN):
        _close(layer(x.masked_fill(~valid[:, :, None], padding), valid).out, want)


@pytest.mark.symptom("Spread over several GPUs the layer gives other outputs than on one.")
def test_the_shares_of_ranks_add_up(subject: Any, seed: int) -> None:
    """What some experts add is theirs alone, and the shares of all make up the output."""
    layer, weights = _layer(subject, seed)
    x = _randn(seed + 2, 2, 10, M)
    valid = torch.arange(10) < torch.tensor([[10], [7]])
    total = torch.zeros(2, 10, M)

    for ranks in (range(3), range(3, 4), range(4, 8)):
        got = layer.share(x, ranks)
        _close(got, _output(weights, x.flatten(0, 1), 2, experts=ranks).view_as(x))
        total = total + got
        padded = layer.share(x, ranks, valid)
        _close(padded, got.masked_fill(~valid[:, :, None], 0.0))
    _close(total, layer(x).out)
    assert not layer.share(x, range(0)).any()


@pytest.mark.symptom("Balancing makes the busy experts busier still.")
def test_the_bias_moves_against_the_load(subject: Any, seed: int) -> None:
    """Overloaded experts lose `rate`, underloaded ones gain it, those at the mean stay."""
    start = _randn(seed, 4) / 10
    layer, _ = _layer(subject, seed, n_experts=4, bias=start)
    layer.update_bias(torch.tensor([9, 5, 1, 5]), 0.25)
    _close(layer.selection_bias, start + torch.tensor([-0.25, 0.0, 0.25, 0.0]))
    layer.update_bias(torch.tensor([0, 1, 0, 0]), 0.5)
    _close(layer.selection_bias, start + torch.tensor([0.25, -0.5, 0.75, 0.5]))
    layer.update_bias(torch.tensor([3, 3, 3, 3]), 0.5)
    _close(layer.selection_bias, start + torch.tensor([0.25, -0.5, 0.75, 0.5]))


@pytest.mark.symptom("The selection bias is trained but has no effect, or too much of one.")
def test_the_layer_chooses_by_its_bias(subject: Any, seed: int) -> None:
    """A bias on an expert draws tokens there; every way through the layer weighs them as before."""
    bias = torch.tensor([0.5, 0.0, -0.5, 0.2, 0.0, 0.0, -0.1, 0.1])
    for factor in (None, float(E)):
        layer, weights = _layer(subject, seed, bias=bias, capacity_factor=factor)
        for shape in [(2, 9), (1, 3)]:
            x = _randn(seed + 1, *shape, M)
            got = layer(x)
            _close(got.out, _output(weights, x.flatten(0, 1), 2).view_as(x))
            assert int(got.load[0]) > 0
            if factor is None:
                _close(layer.share(x, range(E)), got.out)


@pytest.mark.symptom("The selection bias is updated for ever and the load stays uneven.")
def test_balancing_relieves_the_busiest_expert(subject: Any) -> None:
    """Each round of updates by the layer's own load takes tokens from the busiest expert."""
    layer, _ = _layer(subject, 3)
    x = _randn(7, 4, 16, M) + 1.0
    loads = []
    for _ in range(6):
        loads.append(layer(x).load)
        layer.update_bias(loads[-1], 0.05)

    busiest = int(loads[0].argmax())
    assert int(loads[-1][busiest]) < 0.85 * int(loads[0][busiest])
    assert all(int(load.sum()) == 2 * 64 for load in loads)


# ----- numbers, devices, mistakes


@pytest.mark.symptom("In half precision, outputs drift further from the truth than they need to.")
@pytest.mark.parametrize("factor", [None, 8.0])
def test_low_precision_costs_little(subject: Any, seed: int, factor: float | None) -> None:
    """In bfloat16 the router decides as in float32, and outputs keep the input's dtype."""
    for shape in [(2, 16), (1, 3)]:
        layer, weights = _layer(subject, seed, capacity_factor=factor)
        layer.to(torch.bfloat16)
        weights = {name: weight.to(torch.bfloat16) for name, weight in weights.items()}
        x = _randn(seed + 4, *shape, M).to(torch.bfloat16)
        want = _output(weights, x.flatten(0, 1), 2).view_as(x)

        got = layer(x)

        assert got.out.dtype == torch.bfloat16
        assert got.balancing_loss.dtype == got.z_loss.dtype == torch.float32
        scale = float(want.abs().amax())
        assert float((got.out.double() - want).abs().amax()) < 0.03 * scale
        logits = x.flatten(0, 1).double() @ weights["gate"].double().T
        _close(layer.router_logits(x.flatten(0, 1)), logits)
        _close(got.z_loss, torch.logsumexp(logits, dim=-1).square().mean())
        share = layer.share(x, range(E))
        assert share.dtype == torch.bfloat16
        assert float((share.double() - want).abs().amax()) < 0.03 * scale


@pytest.mark.symptom("Hidden states are changed for the layers that read them afterwards.")
def test_inputs_and_random_state_stay_untouched(subject: Any, seed: int) -> None:
    """No call changes what it was given, and neither building nor running draws random numbers."""
    before = subject.rng_state()
    for factor in (None, 1.0):
        layer, _ = _layer(subject, seed, capacity_factor=factor)
        valid = torch.arange(5) < torch.tensor([[5], [3]])
        for x, mask in [(_randn(seed, 2, 5, M), valid), (_randn(seed, 1, 1, M), valid[:1, :1])]:
            layer(x, mask)
            assert subject.mutated == ()
            layer.share(x, range(2), mask)
            assert subject.mutated == ()
    fresh = subject.SparseMoE(M, F)
    assert (fresh.n_experts, fresh.top_k) == (8, 2)
    assert not fresh.requires_grad_(False)(_randn(seed, 1, 9, M)).out.any()
    logits = _randn(seed, 4, E)
    subject.route(logits, 2, selection_bias=torch.ones(E))
    assert subject.mutated == ()
    assert subject.rng_state() == before


@pytest.mark.symptom("A step without any token brings the server down.")
def test_steps_without_tokens_are_served(subject: Any, seed: int) -> None:
    """No token at all, or nothing but padding, gives an output of the right shape and no loss."""
    for factor in (None, 1.0):
        layer, _ = _layer(subject, seed, capacity_factor=factor)
        nobody = torch.zeros(2, 9, dtype=torch.bool)
        for x, mask in [
            (torch.empty(1, 0, M), None),
            (torch.empty(0, 3, M), torch.empty(0, 3, dtype=torch.bool)),
            (_randn(seed, 2, 9, M), nobody),
        ]:
            got = layer(x, mask)
            torch.testing.assert_close(got.out, torch.zeros(x.shape))
            assert got.balancing_loss == got.z_loss == 0
            torch.testing.assert_close(got.load, torch.zeros(E, dtype=torch.long))
        assert layer.share(torch.empty(1, 0, M), range(E)).shape == (1, 0, M)


@pytest.mark.symptom("It fails, or is slow, when the default device is not where the tokens are.")
def test_tensors_are_made_where_the_tokens_are(subject: Any, seed: int) -> None:
    """The process' default device has no influence on any result."""
    x = _randn(seed, 2, 7, M)
    valid = torch.arange(7) < torch.tensor([[7], [4]])
    bias = torch.tensor([0.3, 0.0, -0.3, 0.1, 0.0, 0.0, -0.1, 0.1])
    layers = [_layer(subject, seed, bias=bias, capacity_factor=f) for f in (None, 1.0)]
    chosen = torch.tensor(_choices(seed, 9, 4, 2))

    def serve() -> list[Tensor]:
        results: list[Tensor] = []
        for layer, _ in layers:
            for tokens, mask in [(x, valid), (x, None), (x[:, :1], valid[:, :1])]:
                results += [*layer(tokens, mask), layer.share(tokens, range(3), mask)]
        slots = subject.assign_slots(chosen, 4, 3)
        buffers = subject.dispatch(x.flatten(0, 1)[:9], chosen, slots, 4, 3)
        weights = torch.ones(9, 2)
        results += [slots, buffers, subject.combine(buffers, chosen, slots, weights)]
        results += [*subject.group_by_expert(chosen, 4), subject.expert_load(chosen, 4)]
        return results

    want = serve()
    try:
        with subject.accelerator():
            got = serve()
            layers[0][0].update_bias(torch.tensor([9, 0, 0, 0, 0, 0, 0, 7]), 0.5)
    except RuntimeError as error:
        raise AssertionError("tensors of one call were on two devices") from error

    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs)
    moved = torch.tensor([-0.5, *[0.5] * 6, -0.5])
    _close(layers[0][0].selection_bias, bias + moved)
    _close(got[5], _output(layers[0][1], x.flatten(0, 1), 2).view_as(x))


@pytest.mark.symptom("A wrong configuration is accepted and the answer is silently nonsense.")
def test_mistakes_are_refused(subject: Any) -> None:
    """More choices than experts, none at all, and a capacity of nothing raise ValueError."""
    logits = torch.zeros(3, 4)
    for top_k in (0, -1, 5):
        _refused(subject.route, logits, top_k)
        _refused(subject.SparseMoE, 4, 5, 4, top_k)
    for factor in (0.0, -1.0):
        _refused(subject.capacity, 8, 4, 2, factor)
    for top_k in (1, 4):
        assert subject.route(logits, top_k).experts.shape == (3, top_k)
        assert subject.SparseMoE(4, 5, 4, top_k).top_k == top_k
    assert subject.capacity(8, 4, 2, 0.01) == 1
