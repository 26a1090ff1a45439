"""A bug in the order of a norm's last steps."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, grouped, mentions, mutator, walk

GAIN = r"(\w+_)?(weights?|gains?|gamma)"


@mutator(
    topic="numerics",
    family="rmsnorm-downcast-order",
    hints=[
        "Norm a vector of 16 bits with a gain of 32 bits. What is the dtype of the result?",
        "How many times is a value rounded between the sum of squares and the end?",
        "What is computed in float32 is cast once, at the end, when the gain is in.",
    ],
    sightings=[
        Sighting(
            "https://github.com/google/gemma_pytorch/pull/67",
            "the model needs the cast to come last",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/25421",
            "cast too early, with weights in float32",
        ),
    ],
    mutates={
        "normed = (stream * inv_rms * gain).to(x.dtype)": (
            "normed = (stream * inv_rms).to(x.dtype) * gain"
        ),
        """
        def forward(self, x):
            inv_rms = np.reciprocal(np.sqrt(self.mean_square(x)))
            return (x * inv_rms * self.weight).astype(x.dtype)
        """: """
        def forward(self, x):
            inv_rms = np.reciprocal(np.sqrt(self.mean_square(x)))
            return (x * inv_rms).astype(x.dtype) * self.weight
        """,
    },
    spares=[
        "y = (a * b).to(x.dtype)",
        "y = (x.float() * inv_rms).to(x.dtype) * gain",
        "loss = (losses * weights).to(torch.bfloat16)",
    ],
)
def gain_applied_after_the_cast(node: cst.Call, context: Context) -> Iterator[cst.BinaryOperation]:
    """The norm casts its values back before they meet the gain, so they are rounded twice.

    Statistics and scaling are done in float32, and the result has the dtype of the input. If the
    cast comes before the gain, the product is taken in 16 bits and rounded a second time; or, if
    the gain is kept in float32, the result silently has that dtype and not the input's.

    In float32 nothing changes at all, and in 16 bits it is the last digit. Some models were
    trained in this order, which makes it look right in every file.
    """
    match node.func:
        case cst.Attribute(
            value=cst.BinaryOperation(left=normed, operator=cst.Multiply(), right=gain) as product,
            attr=cst.Name("to" | "astype" | "type"),
        ) if _is_gain(gain) and _scales_back(normed):
            cast = node.func.with_changes(value=grouped(normed))
            outer = context.parent(node)
            bare = cst.BinaryOperation(node.with_changes(func=cast), cst.Multiply(), gain)
            alone = isinstance(outer, cst.Assign | cst.AnnAssign | cst.Return | cst.Arg)
            yield bare if alone else bare.with_changes(lpar=product.lpar, rpar=product.rpar)


def _is_gain(node: cst.BaseExpression) -> bool:
    return mentions(node, GAIN)


def _scales_back(node: cst.BaseExpression) -> bool:
    """Tell a product such as `x * inv_rms`, in a norm."""
    factors = any(isinstance(below, cst.Multiply) for below in walk(node))
    return factors and mentions(node, r"\w*(rms|norm|std|var|rsqrt)\w*|r|inv")
