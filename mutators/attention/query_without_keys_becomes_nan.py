"""A bug in masked attention."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assigned,
    mentions,
    mutator,
    pattern,
    same,
)

CLEARED = [
    pattern("$p.masked_fill($m, 0.0)"),
    pattern("$p.masked_fill($m, 0)"),
    pattern("$p.nan_to_num()"),
    pattern("$p.nan_to_num($zero)"),
    pattern("torch.nan_to_num($p)"),
    pattern("torch.nan_to_num($p, $zero)"),
]
"""What gives rows without keys their zeros, after the softmax."""


@mutator(
    topic="attention",
    family="fully-masked-row-nan",
    hints=[
        "Is there a query that may attend to nothing at all? What comes out for it?",
        "Work out by hand the softmax of a row in which every score is -inf.",
        "A row without a legal key is 0 / 0: its probabilities must be set to zero afterwards.",
    ],
    sightings=[
        Sighting("https://github.com/pytorch/pytorch/issues/103749", "padded queries turn to NaN"),
        Sighting("https://github.com/onnx/onnx/pull/8068", "causal and padding mask composed"),
        Sighting(
            "https://github.com/tracel-ai/cubecl/pull/1070", "NaN made the comparison vacuous"
        ),
    ],
    mutates={
        """
        def attend(scores, blocked, v):
            probs = scores.masked_fill(blocked, -INF).softmax(dim=-1)
            probs = probs.masked_fill(blocked, 0.0)
            return probs @ v
        """: """
        def attend(scores, blocked, v):
            probs = scores.masked_fill(blocked, -INF).softmax(dim=-1)
            return probs @ v
        """,
        "probs = torch.softmax(scores, dim=-1).nan_to_num(0.0)": (
            "probs = torch.softmax(scores, dim=-1)"
        ),
    },
    spares=[
        """
        def attend(scores, blocked, v):
            scores = scores.masked_fill(blocked, 0.0)
            return scores.softmax(dim=-1) @ v
        """,
        "x = x.nan_to_num(0.0)",
    ],
)
def query_without_keys_becomes_nan(
    node: cst.SimpleStatementLine | cst.Call, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """A query that may attend to nothing comes out as NaN.

    Masked scores are -inf, and the softmax of a row that holds nothing else is 0 / 0. Such rows are
    common: padding, a row that brings no token in this step, a block whose keys are all masked. An
    attention that promises zeros for them has to put the zeros there itself.

    Rows with at least one key are exact, and a comparison that looks at real tokens only skips the
    rest. The NaN travels: through residuals into the next layer, and as 0 * NaN out of any product
    in which such a row was meant to weigh nothing.
    """
    if isinstance(node, cst.Call):
        found = _cleared(node)
        if found is not None and isinstance(found, cst.Call) and mentions(found.func, "softmax"):
            yield found
    elif (line := assigned(node)) is not None:
        target, value = line
        found = _cleared(value)
        if (
            found is not None
            and same(target, found)
            and _came_from_softmax(target, node, context)
            and context.can_spare(node)
        ):
            yield cst.RemoveFromParent()


def _cleared(node: cst.CSTNode) -> cst.BaseExpression | None:
    """Return what the zeros are put into."""
    for form in CLEARED:
        if (found := form.match(node)) is not None:
            return found["p"]
    return None


def _came_from_softmax(target: cst.CSTNode, node: cst.CSTNode, context: Context) -> bool:
    lines = [found for line in context.before(node) if (found := assigned(line)) is not None]
    values = [value for earlier, value in lines if same(earlier, target)]
    return bool(values) and mentions(values[-1], "softmax")
