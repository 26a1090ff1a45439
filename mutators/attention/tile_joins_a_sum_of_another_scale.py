"""A bug where sums of exponentials are made in parts."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assignments,
    is_called,
    mutator,
    pattern,
    walk,
)

SUMS = (
    r"_?(\w+_)?(acc\w*|accumulator|out|output|o|normali[sz]er|denom\w*|denominator|l|l_i|total"
    r"|totals|sum|sums|sum_exp|running_sum|weighted|numerator|z)"
)
DIFFERENCES = [
    pattern(form)
    for form in (
        "torch.exp($old - $new)",
        "torch.exp2($old - $new)",
        "np.exp($old - $new)",
        "math.exp($old - $new)",
        "($old - $new).exp()",
    )
]


@mutator(
    topic="attention",
    family="accumulator-in-stale-max-frame",
    hints=[
        "Let the largest score come first, then let it come last. Are both results right?",
        "What is each running sum relative to, before and after a line adds to it?",
        "Before a part is added, what was summed so far is scaled to the new maximum.",
    ],
    sightings=[
        Sighting(
            "https://github.com/meta-pytorch/MSLK/pull/242",
            "sums stayed relative to the old maximum",
        ),
        Sighting("https://github.com/ROCm/rocm-libraries/pull/7194", "two references in one sum"),
    ],
    mutates={
        """
        for scores, v in tiles:
            new_max = torch.maximum(m, scores.amax(-1))
            alpha = torch.exp(m - new_max)
            p = torch.exp(scores - new_max[:, None])
            l = l * alpha + p.sum(-1)
            acc = acc * alpha[:, None] + p @ v
            m = new_max
        """: [
            """
        for scores, v in tiles:
            new_max = torch.maximum(m, scores.amax(-1))
            alpha = torch.exp(m - new_max)
            p = torch.exp(scores - new_max[:, None])
            l = l + p.sum(-1)
            acc = acc * alpha[:, None] + p @ v
            m = new_max
        """,
            """
        for scores, v in tiles:
            new_max = torch.maximum(m, scores.amax(-1))
            alpha = torch.exp(m - new_max)
            p = torch.exp(scores - new_max[:, None])
            l = l * alpha + p.sum(-1)
            acc = acc + p @ v
            m = new_max
        """,
        ],
        """
        def merge(peaks, totals):
            peak = peaks.max(0)
            total = (totals * np.exp(peaks - peak)).sum(0)
            return peak + np.log(total)
        """: """
        def merge(peaks, totals):
            peak = peaks.max(0)
            total = totals.sum(0)
            return peak + np.log(total)
        """,
    },
    spares=[
        """
        def merge(out, lse, total):
            return out * torch.exp(lse - total)
        """,
        "acc = acc * decay + p @ v",
        """
        def scale(x, low, high):
            gain = torch.exp(low - high)
            return x * gain
        """,
    ],
)
def tile_joins_a_sum_of_another_scale(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BaseExpression]:
    """A part is added to a sum that is still relative to an older maximum.

    A softmax over keys that arrive in parts keeps its sums relative to the largest score so far.
    When a part brings a larger one, everything summed before shrinks by `exp(old - new)`. Where
    one of the sums is not scaled, parts with different references are added up: weights no longer
    sum to one, or the early keys count too much.

    If the first part holds the maximum the factor is 1, and with a single part there is nothing to
    scale: short texts are exact.
    """
    scope = context.enclosing(node, cst.FunctionDef) or context.module
    if not isinstance(node.operator, cst.Multiply) or not _is_added_up(node, context):
        return
    for sums, factor in ((node.left, node.right), (node.right, node.left)):
        if is_called(sums, SUMS) and _is_rescaling(factor, scope) and context.can_spare(factor):
            yield sums
            return


def _is_added_up(node: cst.BinaryOperation, context: Context) -> bool:
    """Tell whether another part is added, or parts are summed right away."""
    match context.parent(node):
        case cst.BinaryOperation(operator=cst.Add()):
            return True
        case cst.Attribute(attr=cst.Name(value="sum")):
            return True
    return False


def _is_rescaling(factor: cst.BaseExpression, scope: cst.CSTNode) -> bool:
    """Tell `exp(old - new)`, and a variable that holds it, whatever axes it is given."""
    while isinstance(factor, cst.Subscript):
        factor = factor.value
    values = [factor]
    if isinstance(factor, cst.Name):
        values = list(assignments(scope, factor.value))
    return any(
        form.match(below) is not None
        for value in values
        for below in walk(value)
        for form in DIFFERENCES
    )
