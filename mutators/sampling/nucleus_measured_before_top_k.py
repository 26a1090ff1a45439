"""A bug in top-k together with top-p."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Sighting,
    argument,
    assigned,
    mentions,
    mutator,
    name_of,
    same,
    swapped,
    uncommented,
)

CUT = r"\w*(kth|top_?k|k_logit|k_value)\w*|k"


@mutator(
    topic="sampling",
    family="topk-breaks-topp-normalisation",
    hints=[
        "Use a small top-k and a top-p together. Which tokens does each of them leave alone?",
        "Which distribution is the nucleus a share of?",
        "The mass that top-p adds up is that of what top-k left, normalised anew.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/388", "small k left no token above the mark"
        ),
        Sighting(
            "https://github.com/sgl-project/sglang-jax/pull/1563", "which distribution is measured?"
        ),
        Sighting(
            "https://github.com/microsoft/onnxruntime-genai/pull/1371",
            "softmax over the whole vocabulary, then top-k",
        ),
    ],
    mutates={
        """
        def apply_top_k_top_p(values, kth, p):
            values = values.masked_fill(values < kth, -INF)
            probs = torch.softmax(values, dim=-1)
            return values, probs.cumsum(-1)
        """: """
        def apply_top_k_top_p(values, kth, p):
            probs = torch.softmax(values, dim=-1)
            values = values.masked_fill(values < kth, -INF)
            return values, probs.cumsum(-1)
        """,
        """
        def nucleus(values, kth):
            values = values.masked_fill(values < kth, -INF)
            mass = values.softmax(dim=-1).cumsum(dim=-1)
            return values, mass
        """: """
        def nucleus(values, kth):
            mass = values.softmax(dim=-1).cumsum(dim=-1)
            values = values.masked_fill(values < kth, -INF)
            return values, mass
        """,
    },
    spares=[
        """
        def attend(scores, blocked):
            scores = scores.masked_fill(blocked, -INF)
            probs = scores.softmax(-1)
            return probs
        """,
        """
        def apply_top_k(values, kth):
            values = values.masked_fill(values < kth, -INF)
            return torch.softmax(values, dim=-1)
        """,
    ],
)
def nucleus_measured_before_top_k(node: cst.IndentedBlock) -> Iterator[cst.IndentedBlock]:
    """The nucleus is measured on the distribution as it was before top-k.

    When top-k comes first, top-p is a share of what it left: the remaining probabilities sum to 1
    again, and the nucleus is cut from those. Measured on the whole vocabulary, the tokens that are
    gone already still carry mass, the remaining ones never add up to p, and more of them survive
    than should: top-p hardly does anything beside a small k.

    Each filter alone is right, and each is tested alone. Which of two orders is meant is a matter
    of the contract, which is why the wrong one reads so naturally.
    """
    for at, (cuts, measures) in enumerate(pairwise(node.body)):
        if _masks_by_rank(cuts, measures) and uncommented(cuts, measures):
            yield swapped(node, at)


def _masks_by_rank(cuts: cst.BaseStatement, measures: cst.BaseStatement) -> bool:
    """Tell `x = x.masked_fill(x < kth, ...)` above `probs = softmax(x)`."""
    match assigned(cuts), assigned(measures):
        case (scores, cst.Call() as mask), (probs, cst.Call() as measure):
            softmax = _softmax_in(measure)
            return (
                name_of(mask) in ("masked_fill", "where")
                and softmax is not None
                and mentions(mask, CUT)
                and (measured := argument(softmax, 0, "input")) is not None
                and same(measured, scores)
                and not same(probs, scores)
            )
    return False


def _softmax_in(measure: cst.Call) -> cst.Call | None:
    """Return `softmax(x)` of `softmax(x)` and of `softmax(x).cumsum(-1)`."""
    for node in (measure, getattr(measure.func, "value", None)):
        if isinstance(node, cst.Call) and name_of(node) == "softmax":
            return node
    return None
