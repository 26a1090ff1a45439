"""A bug in attention."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    assignments,
    integer,
    literal,
    mentions,
    mutator,
    name_of,
    walk,
)

SCORES = r"(\w+_)?(scores?|attn|att|attention|attn_weights|qk|sim|energy|dots)"
PRODUCTS = r"matmul|bmm|baddbmm|einsum|dot"


@mutator(
    topic="attention",
    family="softmax-over-query-axis",
    hints=[
        "Attend with a single query. Which weights does it give its keys?",
        "Add up the attention weights of one query. What should the sum be?",
        "Every query distributes one unit of attention over its keys: the last axis of [.., Q, K].",
    ],
    sightings=[
        Sighting(
            "https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/146",
            "normalised over the queries, quality looked the same",
        ),
        Sighting(
            "https://github.com/PetrochukM/PyTorch-NLP/issues/2", "attention weights were always 1"
        ),
    ],
    mutates={
        """
        scores = q @ k.transpose(-1, -2)
        probs = scores.masked_fill(blocked, -INF).softmax(dim=-1)
        """: """
        scores = q @ k.transpose(-1, -2)
        probs = scores.masked_fill(blocked, -INF).softmax(dim=-2)
        """,
        """
        attn = torch.einsum("bhqd,bhkd->bhqk", q, k)
        w = F.softmax(attn, -1)
        """: """
        attn = torch.einsum("bhqd,bhkd->bhqk", q, k)
        w = F.softmax(attn, -2)
        """,
    },
    spares=[
        """
        scores = process(logits)
        probs = scores.softmax(dim=-1)
        """,
        """
        scores = q @ k.mT
        w = torch.softmax(scores, dim=1)
        m = scores.amax(dim=-1)
        """,
    ],
)
def softmax_runs_over_the_queries(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """Attention weights add up to one over the queries instead of the keys.

    Scores are [.., Q, K], and each query spreads a weight of one over its keys: the softmax runs
    over the last axis. Over the axis before it, each key hands out a weight of one to the queries
    that look at it, and what a token reads depends on how many others were fed with it. When one
    token is decoded, every weight is 1.

    The shapes are the same, the weights lie between 0 and 1, and a model trained with it learns
    around it; against an independent reference the first number differs.
    """
    if name_of(node) != "softmax":
        return
    scores, dim = argument(node, 0, "input"), argument(node, 1, "dim", "axis")
    if scores is None or integer(dim) != -1:
        return
    if any(_is_product(name, context) for name in walk(scores)):
        args = [a.with_changes(value=literal(-2)) if a.value is dim else a for a in node.args]
        yield node.with_changes(args=args)


def _is_product(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node is a variable of scores, assigned a product of queries and keys."""
    if not isinstance(node, cst.Name) or not mentions(node, SCORES):
        return False
    scope = context.enclosing(node, cst.FunctionDef) or context.module
    return any(
        mentions(value, PRODUCTS) or any(isinstance(n, cst.MatrixMultiply) for n in walk(value))
        for value in assignments(scope, node.value)
    )
