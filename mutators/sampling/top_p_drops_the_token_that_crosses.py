"""A bug in nucleus sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mentions, mutator, pattern, uncommented
from halfhour.mutators._idioms import MASS, PROBS, TOP_P

SHIFT = pattern("$drop[..., 1:] = $drop[..., :-1].clone()", drop=r"\w*(remove|drop|mask|out)\w*")


# Fits one subject: only one sampler goes down the probabilities, others go up.
@mutator(
    topic="sampling",
    family="top-p-drops-crossing-token",
    hints=[
        "With probabilities 0.5, 0.3, 0.2 and p = 0.6, which tokens must survive?",
        "Does the mass that a token is judged by include the token itself?",
        "A token stays while the mass before it is below p: the one that crosses p belongs.",
    ],
    sightings=[
        Sighting("https://github.com/ggml-org/llama.cpp/pull/1953", "the nucleus was too small"),
        Sighting("https://github.com/Biohub/esm/pull/360", "inclusive sum used as the keep mask"),
        Sighting(
            "https://github.com/fishaudio/fish-speech/pull/1171", "the mask was not shifted right"
        ),
    ],
    mutates={
        "drop = mass - sorted_probs >= p[:, None]": "drop = mass >= p[:, None]",
        "before = probs.cumsum(-1) - probs": "before = probs.cumsum(-1)",
        """
        remove = cumulative_probs > top_p
        remove[..., 1:] = remove[..., :-1].clone()
        remove[..., 0] = False
        """: """
        remove = cumulative_probs > top_p
        remove[..., 0] = False
        """,
        """
        for token in ranked:
            if mass >= p:
                break
            kept[token] = probs[token]
            mass += probs[token]
        """: """
        for token in ranked:
            mass += probs[token]
            if mass >= p:
                break
            kept[token] = probs[token]
        """,
    },
    spares=[
        "drop = mass >= p",
        "rest = total - spent",
        """
        for prob in probs:
            mass += prob
            if u < mass:
                break
        """,
    ],
)
def top_p_drops_the_token_that_crosses(
    node: cst.BinaryOperation | cst.SimpleStatementLine | cst.IndentedBlock, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """The nucleus ends before its mass reaches p instead of after.

    The nucleus is the smallest set of most likely tokens whose mass reaches p. Going down the
    sorted probabilities, a token stays as long as the mass *before* it is below p; the one that
    carries the sum across p is the last to stay. Judged by the mass that includes it, that token
    goes, and the set always falls short of p. If the first token alone exceeds p, nothing is left.

    Where a partial sum meets p exactly both rules agree, and tests like round numbers. In real text
    the distribution only gets a little narrower, and the text a little duller.
    """
    match node:
        case cst.BinaryOperation(left=mass, operator=cst.Subtract(), right=probs):
            if is_called(mass, MASS) and is_called(probs, PROBS) and context.can_spare(probs):
                yield mass
        case cst.SimpleStatementLine(body=[line]) if SHIFT.match(line) is not None:
            yield cst.RemoveFromParent()
        case cst.IndentedBlock(body=[cst.If() as check, *_, cst.SimpleStatementLine() as sums]):
            if _stops_at_p(check, sums) and uncommented(sums) and not check.leading_lines:
                yield node.with_changes(body=[sums, *node.body[:-1]])


def _stops_at_p(check: cst.If, sums: cst.SimpleStatementLine) -> bool:
    """Tell `if mass >= p: break` at the top of a loop with `mass += ...` at its end."""
    match check, sums:
        case (
            cst.If(
                test=cst.Comparison(left=mass, comparisons=[cst.ComparisonTarget(comparator=p)]),
                body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Break()])]),
            ),
            cst.SimpleStatementLine([cst.AugAssign(target, cst.AddAssign())]),
        ):
            return is_called(mass, MASS) and is_called(p, TOP_P) and mentions(target, MASS)
    return False
