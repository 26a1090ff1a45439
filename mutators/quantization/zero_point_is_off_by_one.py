"""A bug in reading zero points from a file."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, integer, is_called, mentions, mutator
from halfhour.mutators._idioms import SCALE, ZERO_POINT


# Fits one subject: only one file stores weights in few bits.
@mutator(
    topic="quantization",
    family="gptq-zero-point-plus-one",
    hints=[
        "Quantize a weight that is zero and read it back. What is it now, in steps?",
        "Is the zero point that is stored the one that is subtracted, or one less?",
        "A format stores the zero point itself or one less, and reading must follow the writing.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/38966",
            "two formats, one of which stores one less",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/pull/26092",
            "read by the other rule, models said nothing sensible",
        ),
    ],
    mutates={
        "w = (q.float() - zero.float()[..., None]) * scale[..., None]": (
            "w = (q.float() - (zero.float()[..., None] + 1)) * scale[..., None]"
        ),
        "w = scales * (codes - zeros)": "w = scales * (codes - (zeros + 1))",
        "w = (qweight - (qzeros + 1)) * scales": "w = (qweight - qzeros) * scales",
    },
    spares=[
        "w = (q - 8) * scale",
        "shift = q - zero",
        "y = (logits - zeros) * mask",
    ],
)
def zero_point_is_off_by_one(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BinaryOperation]:
    """The zero point is read by the rule of another format, and is one step off.

    There are two conventions for one kind of file: some tools store the zero point, others store it
    less 1, so that it fits where 16 does not. Who reads a file must add what its writer took away,
    and nothing else. By the wrong rule every weight is shifted by one step, all in one direction.

    The spread of the weights stays right, and a step is small. Each loader is tested with files
    that its own authors wrote.
    """
    if not isinstance(node.operator, cst.Subtract) or not _is_scaled(node, context):
        return
    match node.right:
        case cst.BinaryOperation(zero, cst.Add(), one) if integer(one) == 1:
            if mentions(zero, ZERO_POINT):
                yield node.with_changes(right=zero)
        case _ if mentions(node.right, ZERO_POINT) and not mentions(node.left, ZERO_POINT):
            plus_one = cst.BinaryOperation(
                node.right,
                cst.Add(),
                cst.Integer("1"),
                lpar=[cst.LeftParen()],
                rpar=[cst.RightParen()],
            )
            yield node.with_changes(right=plus_one)


def _is_scaled(node: cst.BinaryOperation, context: Context) -> bool:
    """Tell whether the difference is a factor beside a scale."""
    match context.parent(node):
        case cst.BinaryOperation(left, cst.Multiply(), right):
            return any(is_called(side, SCALE) for side in (left, right))
    return False
