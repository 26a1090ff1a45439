"""A mixture-of-experts layer: each token goes to its top k of E experts, whose load is kept even.

Without a capacity every choice is served, expert by expert or, for the few tokens of a decoding
step, token by token. With a capacity each expert has a buffer of fixed size, and what finds no slot
is dropped. Two losses and a selection bias speak for an even load.

Shapes: B rows, S columns, N tokens, K choices per token, E experts, C slots per expert, M model
dim, F hidden dim of an expert. `valid` [N] or [B, S] bool tells tokens from padding.
References: Mixtral, Jiang et al., arXiv:2401.04088; capacity and balancing loss, Switch
Transformer, Fedus et al., arXiv:2101.03961; z-loss, ST-MoE, Zoph et al., arXiv:2202.08906;
selection bias, Wang et al., arXiv:2408.15664.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DROPPED = -1  # in place of a slot: this choice has none


class Routing(NamedTuple):
    """Which experts each token chose, and what it expects of all of them."""

    experts: Tensor  # [N, K] int64, first choice first
    weights: Tensor  # [N, K] float32, of the choices in the token's output
    probs: Tensor  # [N, E] float32, the router's softmax


def route(
    logits: Tensor,
    top_k: int = 2,
    *,
    renormalize: bool = True,
    selection_bias: Tensor | None = None,
) -> Routing:
    """Choose top_k experts for every token: logits [N, E] in any dtype.

    The weight of a choice is its probability, renormalised so that a token's weights sum to 1. The
    selection bias [E] has a say in which experts are chosen and in what order, but not in how much
    they weigh.
    """
    n_experts = logits.shape[-1]
    if not 1 <= top_k <= n_experts:
        raise ValueError(f"top_k must be in [1, {n_experts}], got {top_k}")
    probs = torch.softmax(logits.float(), dim=-1)
    scores = probs if selection_bias is None else probs + selection_bias
    experts = scores.topk(top_k, dim=-1).indices
    weights = probs.gather(-1, experts)
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(experts, weights, probs)


# How even the load is.


def expert_load(experts: Tensor, n_experts: int, valid: Tensor | None = None) -> Tensor:
    """Count the choices that fall on each expert: experts [N, K] -> [E] int64."""
    if valid is not None:
        experts = experts[valid]
    return torch.bincount(experts.flatten(), minlength=n_experts)


def max_violation(load: Tensor) -> float:
    """Return by what share of the mean load [E] the busiest expert exceeds it; 0 without load."""
    mean = load.double().mean().item()
    return load.max().item() / mean - 1 if mean > 0 else 0.0


def load_balancing_loss(probs: Tensor, experts: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return Switch's balancing loss as a scalar: probs [N, E], experts [N, K].

    It is E times the product of each expert's choices per token and mean probability, summed over
    the experts: K for an even load, more for an uneven one, 0 without a token.
    """
    n_experts = probs.shape[-1]
    if valid is not None:
        probs, experts = probs[valid], experts[valid]
    n_tokens = max(len(probs), 1)
    load_per_token = expert_load(experts, n_experts) / n_tokens
    mean_probs = probs.sum(dim=0) / n_tokens
    return n_experts * (load_per_token * mean_probs).sum()


def router_z_loss(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean square of the tokens' log-partition as a scalar: logits [N, E].

    It keeps the router's logits small; 0 without a token.
    """
    if valid is not None:
        logits = logits[valid]
    log_z = torch.logsumexp(logits.float(), dim=-1)
    return log_z.square().sum() / max(len(logits), 1)


# With a capacity: every expert has a buffer of C slots.


def capacity(n_tokens: int, n_experts: int, top_k: int, factor: float) -> int:
    """Return the slots per expert that hold `factor` times an even share of all choices.

    A fraction of a slot counts as a whole one, and no expert is without a slot.
    """
    if factor <= 0:
        raise ValueError(f"factor must be positive, got {factor}")
    return max(1, math.ceil(n_tokens * top_k * factor / n_experts))


def assign_slots(
    experts: Tensor, n_experts: int, n_slots: int, valid: Tensor | None = None
) -> Tensor:
    """Give choices slots in their experts' buffers: experts [N, K] -> [N, K] int64.

    All first choices come before all second choices, and so on; among equals, earlier tokens come
    first. What comes too late, and padding, is DROPPED.
    """
    slots = torch.full_like(experts, DROPPED)
    n_taken = torch.zeros(n_experts, dtype=torch.long, device=experts.device)
    for choice in range(experts.shape[1]):
        chosen = experts[:, choice]
        wanted = F.one_hot(chosen, n_experts)
        if valid is not None:
            wanted = wanted * valid[:, None]
        # The place in the queue of every expert: [N, E].
        places = n_taken + wanted.cumsum(dim=0) - 1
        place = places.gather(1, chosen[:, None]).squeeze(1)
        served = place < n_slots
        if valid is not None:
            served = served & valid
        slots[:, choice] = torch.where(served, place, DROPPED)
        n_taken = n_taken + wanted.sum(dim=0)
    return slots


def dispatch(x: Tensor, experts: Tensor, slots: Tensor, n_experts: int, n_slots: int) -> Tensor:
    """Copy tokens x [N, M] into their slots: experts, slots [N, K] -> buffers [E, C, M].

    A slot that nobody was given is zero.
    """
    buffers = x.new_zeros(n_experts * n_slots, x.shape[-1])
    token, choice = (slots != DROPPED).nonzero(as_tuple=True)
    place = experts[token, choice] * n_slots + slots[token, choice]
    buffers[place] = x[token]
    return buffers.view(n_experts, n_slots, -1)


def combine(buffers: Tensor, experts: Tensor, slots: Tensor, weights: Tensor) -> Tensor:
    """Add up what each token's slots hold, weighted: buffers [E, C, M], weights [N, K] -> [N, M].

    A dropped choice adds nothing, and the others keep their weights. Sums are in float32.
    """
    n_slots = buffers.shape[1]
    served = slots != DROPPED
    place = torch.where(served, experts * n_slots + slots, 0)
    parts = buffers.flatten(0, 1)[place].float() * weights[:, :, None]
    # A place that stands in for no slot may hold anything.
    parts = parts.masked_fill(~served[:, :, None], 0.0)
    return parts.sum(dim=1).to(buffers.dtype)


# Without a capacity: choices sorted by expert.


class Groups(NamedTuple):
    """The choices of all tokens, sorted: those of expert e are [offsets[e], offsets[e + 1])."""

    token: Tensor  # [n] int64, n choices at most N * K
    choice: Tensor  # [n] int64, which of its token's choices each one is
    offsets: Tensor  # [E + 1] int64


def group_by_expert(experts: Tensor, n_experts: int, valid: Tensor | None = None) -> Groups:
    """Sort the choices by expert, and by token within an expert: experts [N, K]."""
    top_k = experts.shape[1]
    flat = experts.flatten()
    if valid is not None:
        # Padding belongs to an expert behind the last one.
        flat = flat.masked_fill(~valid.repeat_interleave(top_k), n_experts)
    order = flat.argsort(stable=True)
    load = torch.bincount(flat, minlength=n_experts)[:n_experts]
    offsets = F.pad(load.cumsum(dim=0), (1, 0))
    order = order[: int(offsets[-1])]
    return Groups(order // top_k, order % top_k, offsets)


class Experts(nn.Module):
    """E gated feed-forward networks, silu(w1 x) * (w3 x) on the way in and w2 on the way out."""

    def __init__(self, n_experts: int, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.zeros(n_experts, hidden_dim, dim))
        self.w2 = nn.Parameter(torch.zeros(n_experts, dim, hidden_dim))
        self.w3 = nn.Parameter(torch.zeros(n_experts, hidden_dim, dim))

    def forward(self, buffers: Tensor) -> Tensor:
        """Run each expert on its own buffer: [E, C, M] -> [E, C, M]."""
        gate = torch.einsum("ecm,efm->ecf", buffers, self.w1)
        up = torch.einsum("ecm,efm->ecf", buffers, self.w3)
        return torch.einsum("ecf,emf->ecm", F.silu(gate) * up, self.w2)

    def one(self, expert: int, x: Tensor) -> Tensor:
        """Run one expert: x [n, M] -> [n, M]."""
        hidden = F.silu(F.linear(x, self.w1[expert])) * F.linear(x, self.w3[expert])
        return F.linear(hidden, self.w2[expert])

    def chosen(self, x: Tensor, experts: Tensor) -> Tensor:
        """Run each token through its own experts: x [N, M], experts [N, K] -> [N, K, M].

        Only the weights of the chosen experts are read.
        """
        gate = torch.einsum("nm,nkfm->nkf", x, self.w1[experts])
        up = torch.einsum("nm,nkfm->nkf", x, self.w3[experts])
        return torch.einsum("nkf,nkmf->nkm", F.silu(gate) * up, self.w2[experts])


class MoEOutput(NamedTuple):
    """What the layer returns besides its output, for logs and losses."""

    out: Tensor  # [B, S, M], in the dtype of the input
    balancing_loss: Tensor  # scalar float32
    z_loss: Tensor  # scalar float32
    load: Tensor  # [E] int64, choices per expert, also those that were dropped


class SparseMoE(nn.Module):
    """The feed-forward layer of a sparse transformer; weights are zero until they are loaded."""

    def __init__(
        self,
        dim: int,
        hidden_dim: int,
        n_experts: int = 8,
        top_k: int = 2,
        *,
        capacity_factor: float | None = None,
        renormalize: bool = True,
    ) -> None:
        super().__init__()
        if not 1 <= top_k <= n_experts:
            raise ValueError(f"top_k must be in [1, {n_experts}], got {top_k}")
        self.n_experts = n_experts
        self.top_k = top_k
        self.capacity_factor = capacity_factor
        self.renormalize = renormalize
        self.gate = nn.Parameter(torch.zeros(n_experts, dim))
        self.experts = Experts(n_experts, dim, hidden_dim)
        self.selection_bias: Tensor
        self.register_buffer("selection_bias", torch.zeros(n_experts))

    def forward(self, x: Tensor, valid: Tensor | None = None) -> MoEOutput:
        """Run the layer on x [B, S, M].

        Padding, where valid [B, S] is False, gives zeros and is otherwise as if it was not there.
        """
        tokens = x.flatten(0, 1)
        keep = None if valid is None else valid.flatten()
        logits = self.router_logits(tokens)
        routing = self._route(logits)
        if self.capacity_factor is not None:
            out = self._capped(tokens, routing, keep)
        elif routing.experts.numel() <= self.n_experts:
            out = self._token_by_token(tokens, routing, keep)
        else:
            out = self._expert_by_expert(tokens, routing, keep, range(self.n_experts))
        return MoEOutput(
            out.view_as(x),
            load_balancing_loss(routing.probs, routing.experts, keep),
            router_z_loss(logits, keep),
            expert_load(routing.experts, self.n_experts, keep),
        )

    def share(self, x: Tensor, experts: range, valid: Tensor | None = None) -> Tensor:
        """Return what some experts add to the output without a capacity: x [B, S, M] -> [B, S, M].

        Ranks that hold different experts add up their shares.
        """
        tokens = x.flatten(0, 1)
        keep = None if valid is None else valid.flatten()
        routing = self._route(self.router_logits(tokens))
        return self._expert_by_expert(tokens, routing, keep, experts).view_as(x)

    def router_logits(self, tokens: Tensor) -> Tensor:
        """Score all experts in float32, as choices are sensitive to rounding: [N, M] -> [N, E]."""
        return F.linear(tokens.float(), self.gate.float())

    def update_bias(self, load: Tensor, rate: float) -> None:
        """Move the selection bias by `rate` to even out a load [E] that was seen."""
        load = load.float()
        self.selection_bias += rate * torch.sign(load.mean() - load)

    def _route(self, logits: Tensor) -> Routing:
        return route(
            logits,
            self.top_k,
            renormalize=self.renormalize,
            selection_bias=self.selection_bias,
        )

    def _capped(self, tokens: Tensor, routing: Routing, keep: Tensor | None) -> Tensor:
        assert self.capacity_factor is not None
        n_tokens = len(tokens) if keep is None else int(keep.sum())
        n_slots = capacity(n_tokens, self.n_experts, self.top_k, self.capacity_factor)
        slots = assign_slots(routing.experts, self.n_experts, n_slots, keep)
        buffers = dispatch(tokens, routing.experts, slots, self.n_experts, n_slots)
        return combine(self.experts(buffers), routing.experts, slots, routing.weights)

    def _token_by_token(self, tokens: Tensor, routing: Routing, keep: Tensor | None) -> Tensor:
        outputs = self.experts.chosen(tokens, routing.experts).float()
        out = (outputs * routing.weights[:, :, None]).sum(dim=1)
        if keep is not None:
            out = out.masked_fill(~keep[:, None], 0.0)
        return out.to(tokens.dtype)

    def _expert_by_expert(
        self, tokens: Tensor, routing: Routing, keep: Tensor | None, experts: range
    ) -> Tensor:
        groups = group_by_expert(routing.experts, self.n_experts, keep)
        weights = routing.weights[groups.token, groups.choice]
        offsets = groups.offsets.tolist()
        out = torch.zeros_like(tokens, dtype=torch.float32)
        for expert in experts:
            rows = slice(offsets[expert], offsets[expert + 1])
            token = groups.token[rows]
            output = self.experts.one(expert, tokens[token]).float()
            out.index_add_(0, token, output * weights[rows, None])
        return out.to(tokens.dtype)
