"""A first look at the mixture of experts; run me with pytest."""

from __future__ import annotations

import torch
from moe_routing import SparseMoE, route


def test_a_token_chooses_two_experts() -> None:
    """One token of clear preferences gets two experts and two finite weights."""
    routing = route(torch.tensor([[4.0, 0.0, -4.0]]))

    assert routing.experts.shape == (1, 2)
    assert routing.probs.shape == (1, 3)
    assert bool(torch.isfinite(routing.weights).all())


def test_the_layer_keeps_the_shape_of_its_input() -> None:
    """With and without a capacity the output is finite and has the input's shape."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 4, generator=generator)

    for capacity_factor in (None, 2.0):
        layer = SparseMoE(4, 5, capacity_factor=capacity_factor)
        for weight in layer.parameters():
            weight.data.normal_(generator=generator)
        result = layer(x)
        assert result.out.shape == x.shape
        assert result.load.shape == (8,)
        assert bool(torch.isfinite(result.out).all())
        assert bool(torch.isfinite(result.balancing_loss))
