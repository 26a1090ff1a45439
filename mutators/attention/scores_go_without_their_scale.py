"""A bug in the scale of attention scores."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mentions, mutator
from halfhour.mutators._idioms import value_of, without_optional

SCALE = r"(\w+_)?(scale|scaling|sm_scale|softmax_scale|norm_factor|inv_sqrt_d)"
WEIGHTS = r"w|weights?|qweight|\w+_weight"


@mutator(
    topic="attention",
    family="scale-missing-on-one-path",
    hints=[
        "Ask for a scale of 0 and then for one of 1. What changes, and on which path?",
        "Where do the scores meet their scale, on this path and on the other ones?",
        "Each path multiplies queries and keys and then by the scale that it was given.",
    ],
    sightings=[
        Sighting(
            "https://github.com/mlc-ai/mlc-llm/pull/3426",
            "the fallback path had a scale of one",
        ),
        Sighting(
            "https://github.com/Sakuraaa0/RaBitQCache/pull/1",
            "the softmax read the unscaled scores",
        ),
    ],
    mutates={
        """
        def attend(q, k, scale=None):
            if scale is None:
                scale = q.shape[-1] ** -0.5
            scores = q.float() @ k.transpose(-1, -2) * scale
            return scores.softmax(-1)
        """: """
        def attend(q, k, scale=None):
            if scale is None:
                scale = q.shape[-1] ** -0.5
            scores = q.float() @ k.transpose(-1, -2)
            return scores.softmax(-1)
        """,
        """
        def attend(self, q, k):
            att = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
            return softmax(att)
        """: """
        def attend(self, q, k):
            att = np.einsum("qhd,khd->hqk", q, k)
            return softmax(att)
        """,
        """
        def prefill(q, k, v, scale=None):
            return dense(q, k, v, scale)

        def decode(self, q, k, v):
            return self.fold(prefill(q, k, v, scale=self.scale))
        """: """
        def prefill(q, k, v, scale=None):
            return dense(q, k, v, scale)

        def decode(self, q, k, v):
            return self.fold(prefill(q, k, v))
        """,
    },
    spares=[
        """
        def attend(q, k, scale):
            scores = q @ k.T * scale
            return scores
        """,
        "x = hidden * scale",
        "y = (x @ w.q.T) * w.scale",
        "codes = quantize(x, scale=scale)",
    ],
)
def scores_go_without_their_scale(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """On one path the products of queries and keys reach the softmax as they are.

    The product of two vectors grows with their length, so scores are multiplied by `D ** -0.5`, or
    by what the model's settings say. The number reaches the scores through a chain of arguments
    that all have a default, and each path has its own chain. Without it the softmax is far too
    sharp, or, where the settings ask for another scale, a little off.

    Nothing fails, the largest score stays the largest, and models that take the default scale hide
    a setting that is not passed on.
    """
    if isinstance(node, cst.Call):
        yield from without_optional(node, context, SCALE)
        return
    if not isinstance(node.operator, cst.Multiply | cst.Divide) or mentions(node.left, WEIGHTS):
        return
    is_product = isinstance(node.left, cst.BinaryOperation) and isinstance(
        node.left.operator, cst.MatrixMultiply
    )
    if not is_product and not is_called(node.left, "matmul|einsum|bmm"):
        return
    if _is_a_scale(node, context) and context.can_spare(node.right):
        yield node.left.with_changes(lpar=node.lpar, rpar=node.rpar)


def _is_a_scale(node: cst.BinaryOperation, context: Context) -> bool:
    """Tell `scale`, `head_dim ** -0.5` and `sqrt(d)`."""
    scope = context.enclosing(node, cst.FunctionDef)
    if is_called(node.right, SCALE) or is_called(node.right, "sqrt|rsqrt"):
        return True
    match value_of(node.right, scope):
        case cst.BinaryOperation(operator=cst.Power()):
            return True
    return mentions(node.right, "sqrt")
