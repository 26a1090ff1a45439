"""A bug in norms."""

from halfhour.mutators import Sighting, mutator
from halfhour.mutators._idioms import EPSILON


@mutator(
    topic="numerics",
    family="layernorm-eps-outside-sqrt",
    hints=[
        "Norm a vector of zeros, and one of very small numbers.",
        "What does epsilon protect from, and does it still do so where it stands?",
        "Epsilon belongs to the mean square, under the root: it bounds the divisor from below.",
    ],
    sightings=[
        Sighting(
            "https://github.com/tracel-ai/burn/issues/2185", "epsilon was added to the deviation"
        ),
    ],
    rewrites={
        "torch.rsqrt($square + $eps)": "torch.rsqrt($square) + $eps",
        "torch.sqrt($square + $eps)": "torch.sqrt($square) + $eps",
        "np.sqrt($square + $eps)": "np.sqrt($square) + $eps",
        "math.sqrt($square + $eps)": "math.sqrt($square) + $eps",
        "($square + $eps).rsqrt()": "$square.rsqrt() + $eps",
        "($square + $eps).sqrt()": "$square.sqrt() + $eps",
    },
    names={"eps": EPSILON},
    mutates={
        "inv = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)": (
            "inv = torch.rsqrt(x.pow(2).mean(-1, keepdim=True)) + self.eps"
        ),
        "y = (x - mean) / (var + eps).sqrt()": "y = (x - mean) / (var.sqrt() + eps)",
        "y = x * torch.rsqrt(ms + norm_eps)": "y = x * (torch.rsqrt(ms) + norm_eps)",
    },
    spares=[
        "y = x / (x.std() + eps)",
        "r = torch.sqrt(a + b)",
    ],
)
def epsilon_added_after_the_root() -> None:
    """Epsilon no longer keeps the root away from zero.

    A norm divides by `sqrt(mean square + eps)`. Under the root, epsilon bounds the divisor from
    below: small inputs stay small, and zeros stay zeros. Behind the root it bounds something else,
    or nothing at all: tiny inputs are blown up to full size, and behind a reciprocal root a vector
    of zeros is an infinity.

    For inputs of ordinary size the root is near 1 and epsilon near nothing, wherever it stands.
    """
