"""A bug in the acceptance of drafted tokens."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

TARGET = r"p|p_\w+|\w+_p|(\w+_)?target(_\w+)?|p_?x"
DRAFT = r"q|q_\w+|\w+_q|(\w+_)?(draft|drafter|proposal)(_\w+)?|q_?x"


# Fits one subject: only speculative decoding compares two models' probabilities of one token.
@mutator(
    topic="decoding",
    family="spec-accept-ratio-wrong-denominator",
    hints=[
        "Let target and drafter disagree about two tokens. Which of them is accepted more often?",
        "A guess that the target likes better than the drafter does: how often should it stay?",
        "A guess stays with probability target over draft: always, where the target likes it more.",
    ],
    sightings=[
        Sighting(
            "https://github.com/1bit-MONSTER/1bit-MONSTER/issues/637",
            "acceptance used the wrong ratio",
        ),
    ],
    mutates={
        "accepted = (u < p / q) & used": "accepted = (u < q / p) & used",
        "ok = rng.random() < min(1.0, p_x[i] / q_x[i])": (
            "ok = rng.random() < min(1.0, q_x[i] / p_x[i])"
        ),
        "ratio = (target_probs / draft_probs).clamp(max=1.0)": (
            "ratio = (draft_probs / target_probs).clamp(max=1.0)"
        ),
    },
    spares=["share = p / total", "ratio = q / p", "scaled = p / q"],
)
def acceptance_ratio_is_upside_down(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BinaryOperation]:
    """A guess is accepted by the draft's probability over the target's.

    Tokens that the drafter says more often than the target have to be thinned out, to the share
    `p / q` of them. The other way round these stay without exception, and those that the target
    would say more often are refused. What is then drawn as a replacement cannot repair it.

    If both models agree the ratio is 1 on either side. Greedy decoding accepts and refuses the same
    guesses, and acceptance rates look healthy.
    """
    match node:
        case cst.BinaryOperation(left=p, operator=cst.Divide(), right=q):
            if is_called(p, TARGET) and is_called(q, DRAFT) and _is_a_chance(node, context):
                yield node.with_changes(left=q, right=p)


def _is_a_chance(node: cst.CSTNode, context: Context) -> bool:
    """Tell `u < p / q`, `min(1, p / q)` and `(p / q).clamp(max=1)`."""
    above = context.parent(node)
    match above:
        case cst.ComparisonTarget(operator=cst.LessThan() | cst.LessThanEqual()):
            return True
        case cst.Attribute():
            return is_called(above, "clamp|clamp_max|clip|minimum")
        case cst.Arg():
            call = context.parent(above)
            return call is not None and is_called(call, "min|minimum|clamp|clip")
    return False
