"""A bug in gated feed-forward layers."""

from halfhour.mutators import Sighting, mutator


@mutator(
    topic="numerics",
    family="activation-around-product",
    hints=[
        "Double the up projection. How should the layer's output change?",
        "Where does the activation end, and what is multiplied only after it?",
        "The layer is linear in the up projection: only the gate is activated.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Nijikadesu/breakdown-minimind/issues/3",
            "a misplaced parenthesis around gate * up",
        ),
    ],
    rewrites={
        "$act($gate) * $up": "$act($gate * $up)",
        "$up * $act($gate)": "$act($up * $gate)",
    },
    names={"act": "silu|swish|gelu|gelu_new|act|act_fn|activation"},
    mutates={
        "h = F.silu(self.w_gate(x)) * self.w_up(x)": "h = F.silu(self.w_gate(x) * self.w_up(x))",
        "return down(up * self.act_fn(gate))": "return down(self.act_fn(up * gate))",
        "y = silu(a + b) * c": "y = silu((a + b) * c)",
    },
    spares=[
        "y = F.silu(gate * up)",
        "y = torch.tanh(gate) * up",
    ],
)
def activation_covers_the_product() -> None:
    """The activation is applied to gate times up instead of to the gate.

    In `silu(gate) * up` only the gate passes through the activation; the layer stays linear in the
    up projection. One parenthesis further to the right, the product is activated as a whole: what
    was meant to be large and negative is cut to almost nothing.

    Both formulas have one output of the same shape, both are smooth, and trained from scratch both
    work. Only parity with the code that made the checkpoint is lost.
    """
