"""A bug in root-mean-square norms."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, name_of, value_of


@mutator(
    topic="numerics",
    family="rsqrt-used-as-divisor",
    hints=[
        "Norm a vector, norm it again. What should the second time change?",
        "What is the root mean square of the norm's output, for an input ten times as large?",
        "`rsqrt` is one over the root already: the input is multiplied by it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/mosaicml/llm-foundry/pull/372", "x / rsqrt(...) where * was meant"
        ),
    ],
    mutates={
        """
        def forward(self, x):
            inv_rms = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
            return x * inv_rms * self.weight
        """: """
        def forward(self, x):
            inv_rms = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
            return x / inv_rms * self.weight
        """,
        "y = x * torch.rsqrt(var + eps)": "y = x / torch.rsqrt(var + eps)",
        "y = x / torch.sqrt(var + eps)": "y = x * torch.sqrt(var + eps)",
    },
    spares=[
        "y = x * scale",
        "scale = q.shape[-1] ** -0.5 * gain",
        "std = torch.rsqrt(var + eps)",
    ],
)
def norm_divides_by_the_inverse_root(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BinaryOperation]:
    """The norm divides by one over the root, so it amplifies what it should level.

    A norm divides its input by the root of the mean square. `rsqrt` returns one over that root,
    for which the input is multiplied. With the operators mixed up, large inputs come out larger
    still: the output grows with the square of the input instead of not at all.

    For inputs whose mean square is near 1, as random test data have it, both give nearly the same
    numbers, and a model trained with it adapts its weights.
    """
    factor = value_of(node.right, context.enclosing(node, cst.FunctionDef))
    match node.operator:
        case cst.Multiply() if _is_root(factor, "rsqrt"):
            yield node.with_changes(operator=cst.Divide())
        case cst.Divide() if _is_root(factor, "sqrt"):
            yield node.with_changes(operator=cst.Multiply())


def _is_root(node: cst.BaseExpression, root: str) -> bool:
    """Tell a call such as `torch.rsqrt(variance + eps)`."""
    match node:
        case cst.Call(args=[cst.Arg(value=cst.BinaryOperation())]):
            return name_of(node) == root
    return False
