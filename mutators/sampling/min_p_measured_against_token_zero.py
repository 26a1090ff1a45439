"""A bug in min-p sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Sighting,
    argument,
    fill,
    integer,
    mentions,
    mutator,
    name_of,
    pattern,
)
from halfhour.mutators._idioms import PROBS

LOGITS = r"(\w+_)?(logits?|scores|logprobs?)"

FIRST = pattern("$probs[..., :1]")
MIN_P = r"(\w+_)?min_?ps?"


@mutator(
    topic="sampling",
    family="min-p-reference-is-token-zero",
    hints=[
        "Permute the vocabulary. Which tokens does min-p remove then?",
        "What is a token's probability compared with, and where is that found in the row?",
        "Min-p is a share of the most likely token's probability, wherever that token stands.",
    ],
    sightings=[
        Sighting(
            "https://github.com/state-spaces/mamba/pull/927", "index 0 was taken for the maximum"
        ),
    ],
    mutates={
        "bar = min_p[:, None] * probs.amax(dim=-1, keepdim=True)": (
            "bar = min_p[:, None] * probs[..., :1]"
        ),
        "floor = probs.max(dim=-1, keepdim=True).values * self.min_p": (
            "floor = probs[..., :1] * self.min_p"
        ),
        "bar = logits.amax(dim=-1, keepdim=True) + min_p.log()[:, None]": (
            "bar = logits[..., :1] + min_p.log()[:, None]"
        ),
        "floor = min_p * max(probs)": "floor = min_p * probs[0]",
    },
    spares=[
        "peak = logits.amax(dim=-1, keepdim=True)",
        "bar = scale * probs.amax(dim=-1, keepdim=True)",
        "bar = min_p * probs.amax(dim=-1)",
    ],
)
def min_p_measured_against_token_zero(
    node: cst.BinaryOperation,
) -> Iterator[cst.BinaryOperation]:
    """The bar of min-p is a share of the first token's probability, not of the greatest.

    Min-p removes the tokens whose probability is below `min_p` times that of the most likely one,
    so that the bar rises with the model's confidence. In sorted scores the most likely token stands
    at index 0, and code is often moved from such a place. In the vocabulary's own order index 0 is
    some token that hardly ever has any probability, and the bar is nearly zero.

    The filter then removes next to nothing, and no filter at all is a mild failure: the text is a
    little wilder. Toy tests that list tokens from the most likely down see no difference.
    """
    in_logs = isinstance(node.operator, cst.Add) and mentions(node, "log")
    if not in_logs and not isinstance(node.operator, cst.Multiply):
        return
    measured = LOGITS if in_logs else PROBS
    for name, share, peak in (("right", node.left, node.right), ("left", node.right, node.left)):
        first = _first(peak, measured)
        if first is not None and mentions(share, MIN_P):
            yield node.with_changes(**{name: first})


def _first(peak: cst.BaseExpression, measured: str) -> cst.CSTNode | None:
    """Return `probs[..., :1]` for the greatest of the last axis, `probs[0]` for `max(probs)`."""
    match peak:
        case cst.Call(func=cst.Name("max"), args=[cst.Arg(probs, keyword=None)]):
            return (
                fill(pattern("$probs[0]"), {"probs": probs}) if mentions(probs, measured) else None
            )
        case cst.Attribute(value=cst.Call() as call, attr=cst.Name("values")):
            return _first_of_axis(call, "max", measured)
        case cst.Call() as call:
            return _first_of_axis(call, "amax", measured)
    return None


def _first_of_axis(call: cst.Call, reduction: str, measured: str) -> cst.CSTNode | None:
    probs, axis = argument(call, 0, "input"), argument(call, 1, "dim", "axis")
    keeps = argument(call, 2, "keepdim", "keepdims")
    if name_of(call) != reduction or probs is None or not mentions(probs, measured):
        return None
    if integer(axis) != -1 or keeps is None or name_of(keeps) != "True":
        return None
    return fill(FIRST, {"probs": probs})
