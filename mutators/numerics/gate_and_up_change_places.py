"""A bug in gated feed-forward layers."""

from halfhour.mutators import Sighting, mutator


@mutator(
    topic="numerics",
    family="swiglu-operands-swapped",
    hints=[
        "Set one of the two projections to zero, then the other. When should the output vanish?",
        "Which of the two branches goes through the activation, and which is passed on as it is?",
        "SwiGLU activates the gate and multiplies by the up projection: silu(gate) * up.",
    ],
    sightings=[
        Sighting("https://github.com/ml-explore/mlx-lm/pull/767", "the up branch was activated"),
        Sighting(
            "https://github.com/tgo-app-dev/vpipe/issues/2", "which half of the matrix is the gate?"
        ),
    ],
    rewrites={
        "$act($gate) * $up": "$act($up) * $gate",
        "$up * $act($gate)": "$gate * $act($up)",
    },
    names={"act": "silu|swish|gelu|gelu_new|act|act_fn|activation"},
    mutates={
        "h = F.silu(self.w_gate(x)) * self.w_up(x)": "h = F.silu(self.w_up(x)) * self.w_gate(x)",
        "return down(up * self.act_fn(gate))": "return down(gate * self.act_fn(up))",
    },
    spares=[
        "y = F.silu(gate)",
        "y = F.relu(gate) * up",
        "y = F.silu(gate) + up",
    ],
)
def gate_and_up_change_places() -> None:
    """The activation is applied to the up projection instead of the gate.

    A gated feed-forward computes `silu(gate(x)) * up(x)`: the gate is activated and decides how
    much of the up projection passes. The two matrices have the same shape, often lie in one fused
    matrix, and nothing but the checkpoint knows which is which. Exchanged, every layer computes
    another function of the same size.

    A model trained from scratch does not care, and random weights look the same either way; with
    weights from elsewhere the text turns to noise.
    """
