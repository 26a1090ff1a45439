"""A first look at quantized weights; run me with pytest."""

from __future__ import annotations

import pytest
import torch
from weight_quant import QuantLinear, quantize_int4, quantize_int8


def test_a_quantized_matrix_has_the_shape_of_the_matrix() -> None:
    """Both formats give back a finite matrix of the same shape."""
    w = torch.linspace(-1.0, 1.0, 1024).view(32, 32)

    for quantized in (quantize_int8(w), quantize_int4(w)):
        again = quantized.dequantize()
        assert again.shape == w.shape
        assert bool(torch.isfinite(again).all())


@pytest.mark.parametrize("mode", ["int8", "int8_dynamic", "int4"])
def test_a_layer_maps_inputs_to_outputs(mode: str) -> None:
    """A layer gives one finite vector of output channels per token."""
    generator = torch.Generator().manual_seed(0)
    layer = QuantLinear(torch.randn(32, 32, generator=generator), mode=mode)
    y = layer(torch.randn(3, 32, generator=generator))

    assert y.shape == (3, 32)
    assert bool(torch.isfinite(y).all())
