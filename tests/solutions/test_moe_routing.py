"""The mixture of experts against Mixtral, and its promises against rewrites and wrong files."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from inprocess import Subject, broken_promises, failure, load, promises_in, source_of
from tiers import leading
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import (
    MixtralSparseMoeBlock,
    load_balancing_loss_func,
)

NAME = "moe_routing"
SOURCE = source_of(NAME)
moe: Any = load(NAME, SOURCE)


@pytest.mark.parametrize("seed", leading(1, range(5)))
def test_the_correct_file_keeps_every_promise(seed: int) -> None:
    assert broken_promises(NAME, seed=seed) == {}


# ----- against transformers


def _mixtral(top_k: int) -> Any:
    config = MixtralConfig(
        hidden_size=16,
        intermediate_size=24,
        num_local_experts=8,
        num_experts_per_tok=top_k,
        router_jitter_noise=0.0,
    )
    make: Any = MixtralSparseMoeBlock
    block = make(config)
    generator = torch.Generator().manual_seed(top_k)
    for weight in block.parameters():
        weight.data.normal_(std=0.3, generator=generator)
    return block.requires_grad_(False)


def _ours(theirs: Any, top_k: int, dtype: torch.dtype, **how: Any) -> Any:
    layer = moe.SparseMoE(16, 24, 8, top_k, **how)
    w1, w3 = theirs.experts.gate_up_proj.chunk(2, dim=1)
    weights = {
        "gate": theirs.gate.weight,
        "experts.w1": w1,
        "experts.w3": w3,
        "experts.w2": theirs.experts.down_proj,
        "selection_bias": torch.zeros(8),
    }
    layer.load_state_dict(weights)
    return layer.requires_grad_(False).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_every_way_through_the_layer_agrees_with_mixtral(top_k: int, dtype: torch.dtype) -> None:
    theirs = _mixtral(top_k)
    generator = torch.Generator().manual_seed(7)
    plain = _ours(theirs, top_k, dtype)
    capped = _ours(theirs, top_k, dtype, capacity_factor=8.0)
    theirs = theirs.to(dtype)

    for shape in [(2, 40), (3, 5), (1, 2), (1, 1)]:
        x = torch.randn(*shape, 16, generator=generator).to(dtype)
        want = theirs(x)
        for layer in (plain, capped):
            torch.testing.assert_close(layer(x).out, want, rtol=1e-5, atol=1e-5)
        shares = [plain.share(x, experts) for experts in (range(5), range(5, 8))]
        torch.testing.assert_close(shares[0] + shares[1], want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_routing_and_loss_agree_with_mixtral(top_k: int) -> None:
    theirs = _mixtral(top_k)
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(4, 9, 16, generator=generator)
    mask = torch.arange(9) < torch.tensor([9, 5, 1, 0])[:, None]
    layer = _ours(theirs, top_k, torch.float32)

    logits, weights, experts = theirs.gate(x)
    routing = moe.route(logits, top_k)

    torch.testing.assert_close(routing.experts, experts)
    torch.testing.assert_close(routing.weights, weights)
    for valid in (None, mask):
        want = load_balancing_loss_func((logits,), 8, top_k, valid)
        torch.testing.assert_close(layer(x, valid).balancing_loss, want)


def test_the_loss_pulls_the_router_towards_an_even_load() -> None:
    """Following the gradient of the loss by the gate alone makes the busiest expert less busy."""
    layer = _ours(_mixtral(2), 2, torch.float32)
    layer.gate.requires_grad_(True)
    x = torch.randn(8, 16, 16, generator=torch.Generator().manual_seed(9)) + 0.5
    before = layer(x)

    optimizer = torch.optim.SGD([layer.gate], lr=0.3)
    for _ in range(40):
        optimizer.zero_grad()
        layer(x).balancing_loss.backward()
        optimizer.step()
    after = layer(x)

    assert after.balancing_loss < before.balancing_loss
    assert moe.max_violation(after.load) < 0.7 * moe.max_violation(before.load)


# ----- rewrites


# Each is put behind the file, whose names it takes.

SORTED_QUEUES = """
def assign_slots(experts, n_experts, n_slots, valid=None):
    n_tokens, top_k = experts.shape
    queue = experts.T.flatten()  # all first choices, then all second ones
    if valid is not None:
        queue = torch.where(valid.repeat(top_k), queue, n_experts)
    order = queue.sort(stable=True).indices
    load = torch.bincount(queue, minlength=n_experts + 1)
    starts = load.cumsum(0) - load
    place = torch.empty_like(queue)
    place[order] = torch.arange(len(queue), device=queue.device) - starts[queue[order]]
    place = torch.where((place < n_slots) & (queue < n_experts), place, DROPPED)
    return place.view(top_k, n_tokens).T.contiguous()


def dispatch(x, experts, slots, n_experts, n_slots):
    buffers = torch.zeros(n_experts, n_slots + 1, x.shape[-1], dtype=x.dtype, device=x.device)
    for choice in range(experts.shape[1]):
        # The last place of a buffer takes what was dropped.
        place = torch.where(slots[:, choice] < 0, n_slots, slots[:, choice])
        buffers[experts[:, choice], place] = x
    return buffers[:, :n_slots]


def combine(buffers, experts, slots, weights):
    out = torch.zeros(len(experts), buffers.shape[-1], dtype=torch.float32, device=buffers.device)
    for choice in range(experts.shape[1]):
        served = slots[:, choice] >= 0
        parts = buffers[experts[served, choice], slots[served, choice]]
        out[served] += parts.float() * weights[served, choice, None]
    return out.to(buffers.dtype)
"""

ONE_HOT = """
def route(logits, top_k=2, *, renormalize=True, selection_bias=None):
    if top_k < 1 or top_k > logits.shape[1]:
        raise ValueError(top_k)
    log_probs = logits.float().log_softmax(dim=-1)
    scores = log_probs if selection_bias is None else log_probs.exp() + selection_bias
    experts = scores.argsort(dim=-1, descending=True)[:, :top_k]
    picked = log_probs.gather(1, experts)
    weights = picked.softmax(dim=-1) if renormalize else picked.exp()
    return Routing(experts, weights, log_probs.exp())


def expert_load(experts, n_experts, valid=None):
    hits = F.one_hot(experts, n_experts).sum(dim=1)
    if valid is not None:
        hits *= valid[:, None]
    return hits.sum(dim=0)


def load_balancing_loss(probs, experts, valid=None):
    if valid is None:
        valid = torch.ones(len(probs), dtype=torch.bool, device=probs.device)
    n_tokens = valid.sum().clamp(min=1)
    probs = torch.where(valid[:, None], probs, 0.0)
    load = expert_load(experts, probs.shape[1], valid)
    return probs.shape[1] * torch.dot(load.float(), probs.sum(dim=0)) / n_tokens / n_tokens


def router_z_loss(logits, valid=None):
    peak = logits.float().amax(dim=-1, keepdim=True)
    log_z = peak[:, 0] + (logits.float() - peak).exp().sum(dim=-1).log()
    if valid is None:
        return log_z.pow(2).mean() if len(log_z) else log_z.sum()
    return log_z.pow(2).where(valid, 0.0).sum() / valid.sum().clamp(min=1)


def group_by_expert(experts, n_experts, valid=None):
    real = torch.ones(len(experts), dtype=torch.bool, device=experts.device)
    hot = F.one_hot(experts, n_experts).bool() & (real if valid is None else valid)[:, None, None]
    expert, token, choice = hot.permute(2, 0, 1).nonzero(as_tuple=True)
    load = expert_load(experts, n_experts, valid)
    offsets = torch.cat([load.new_zeros(1), load.cumsum(dim=0)])
    return Groups(token, choice, offsets)
"""

EVERY_EXPERT_ON_EVERY_TOKEN = """
def forward(self, x, valid=None):
    tokens = x.reshape(-1, x.shape[-1])
    keep = None if valid is None else valid.reshape(-1)
    if keep is not None:
        tokens = torch.where(keep[:, None], tokens, torch.zeros_like(tokens))
    logits = self.router_logits(tokens)
    routing = self._route(logits)
    if self.capacity_factor is None:
        out = self._dense(tokens, routing, keep, range(self.n_experts))
    else:
        out = self._capped(tokens, routing, keep)
    return MoEOutput(
        out.reshape(x.shape),
        load_balancing_loss(routing.probs, routing.experts, keep),
        router_z_loss(logits, keep),
        expert_load(routing.experts, self.n_experts, keep),
    )


def share(self, x, experts, valid=None):
    tokens = x.reshape(-1, x.shape[-1])
    routing = self._route(self.router_logits(tokens))
    keep = None if valid is None else valid.reshape(-1)
    return self._dense(tokens, routing, keep, experts).reshape(x.shape)


def _dense(self, tokens, routing, keep, experts):
    out = torch.zeros(tokens.shape, dtype=torch.float32, device=tokens.device)
    for e in experts:
        weight = (routing.weights * (routing.experts == e)).sum(dim=1)
        if keep is not None:
            weight *= keep
        out += weight[:, None] * self.experts.one(e, tokens).float()
    return out.to(tokens.dtype)


def one(self, expert, x):
    gate, up = (x @ torch.cat([self.w1[expert], self.w3[expert]]).T).chunk(2, dim=-1)
    return (gate * torch.sigmoid(gate) * up) @ self.w2[expert].T


SparseMoE.forward, SparseMoE.share, SparseMoE._dense = forward, share, _dense
Experts.one = one
"""

ALWAYS_BUFFERS = """
def _token_by_token(self, tokens, routing, keep):
    return self._expert_by_expert(tokens, routing, keep, range(self.n_experts))


def _expert_by_expert(self, tokens, routing, keep, experts):
    slots = assign_slots(routing.experts, self.n_experts, max(len(tokens), 1), keep)
    local = (routing.experts >= experts.start) & (routing.experts < experts.stop)
    slots = torch.where(local, slots, DROPPED)
    buffers = dispatch(tokens, routing.experts, slots, self.n_experts, max(len(tokens), 1))
    return combine(self.experts(buffers), routing.experts, slots, routing.weights)


def in_buffers(self, buffers):
    gate = buffers @ self.w1.transpose(1, 2)
    up = torch.bmm(buffers, self.w3.mT)
    return torch.bmm(gate.sigmoid() * gate * up, self.w2.mT)


def chosen(self, x, experts):
    rows = [[self.one(int(e), x[n]) for e in experts[n]] for n in range(len(x))]
    return torch.stack([torch.stack(row) for row in rows])


def update_bias(self, load, rate):
    mean = load.sum() / len(load)
    step = rate * ((load < mean).float() - (load > mean).float())
    self.selection_bias.data = self.selection_bias + step.to(self.selection_bias)


SparseMoE._token_by_token, SparseMoE._expert_by_expert = _token_by_token, _expert_by_expert
Experts.forward, Experts.chosen, SparseMoE.update_bias = in_buffers, chosen, update_bias
"""


@pytest.mark.parametrize(
    "new",
    [
        pytest.param(SORTED_QUEUES, id="slots by sorting, choice by choice"),
        pytest.param(ONE_HOT, id="one-hot masks and logarithms"),
        pytest.param(EVERY_EXPERT_ON_EVERY_TOKEN, id="every expert on every token"),
        pytest.param(ALWAYS_BUFFERS, id="buffers all the way"),
    ],
)
def test_a_correct_rewrite_keeps_every_promise(new: str) -> None:
    assert broken_promises(NAME, f"{SOURCE}\n\n{new}", seed=1) == {}


# ----- wrong files


HIDDEN = promises_in(load(f"{NAME}_hidden", source_of(NAME, "test_hidden.py")))


def _breaks(promise: str, source: str) -> bool:
    return failure(HIDDEN[promise], Subject(load(NAME, source)), seed=1) is not None


ROUTE = "test_weights_are_the_probabilities_of_the_best_experts"
LAYER = "test_the_layer_is_the_weighted_sum_of_its_best_experts"
EVEN = "test_an_even_load_costs_k_and_a_collapse_costs_more"


@pytest.mark.parametrize(
    ("name", "wrong", "promise"),
    [
        ("route", "result._replace(weights=result.weights * 1.001)", ROUTE),
        ("route", "result._replace(probs=args[0])", ROUTE),
        ("expert_load", "result * 0", "test_load_counts_every_choice"),
        ("load_balancing_loss", "result[None]", EVEN),
        ("router_z_loss", "result * 1.001", "test_losses_are_means_over_real_tokens"),
        ("assign_slots", "result * 0", "test_padding_takes_no_slot"),
        ("dispatch", "result.flip(1)", "test_dispatch_puts_every_token_into_its_slots"),
        ("combine", "result.double()", "test_combine_adds_the_weighted_outputs_of_each_token"),
        ("SparseMoE.forward", "result._replace(out=args[1])", LAYER),
        ("SparseMoE.forward", "result._replace(out=result.out * 0)", LAYER),
        ("SparseMoE.share", "result * 0", "test_the_shares_of_ranks_add_up"),
        ("SparseMoE.update_bias", "None", "test_the_bias_moves_against_the_load"),
    ],
)
def test_a_degenerate_function_breaks_a_promise(name: str, wrong: str, promise: str) -> None:
    call = "None" if name.endswith("update_bias") else "_right(*args, **kwargs)"
    wrapped = (
        f"_right = {name}\n\n\ndef _wrong(*args, **kwargs):\n"
        f"    result = {call}\n    return {wrong}\n\n\n{name} = _wrong\n"
    )

    assert _breaks(promise, f"{SOURCE}\n\n{wrapped}")


@pytest.mark.parametrize(
    ("old", "new", "promise"),
    [
        pytest.param(
            "weights = probs.gather(-1, experts)",
            "weights = scores.gather(-1, experts)",
            "test_a_selection_bias_changes_the_choice_but_not_the_weights",
            id="the bias leaks into the weights",
        ),
        pytest.param(
            "        n_taken = n_taken + wanted.sum(dim=0)\n",
            "",
            "test_slots_go_to_first_choices_and_early_tokens_first",
            id="second choices overwrite first ones",
        ),
        pytest.param(
            "n_tokens = len(tokens) if keep is None else int(keep.sum())",
            "n_tokens = len(tokens)",
            "test_padding_gives_zeros_and_changes_nothing",
            id="capacity grows with the padding",
        ),
        pytest.param(
            "order // top_k, order % top_k",
            "order % len(experts), order // len(experts)",
            "test_groups_hold_the_choices_of_each_expert_in_order",
            id="choices belong to other tokens",
        ),
    ],
)
def test_a_wrong_file_breaks_a_promise(old: str, new: str, promise: str) -> None:
    assert SOURCE.count(old) == 1

    assert _breaks(promise, SOURCE.replace(old, new))
