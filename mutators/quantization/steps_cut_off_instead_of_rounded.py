"""A bug in turning values into codes."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    grouped,
    is_called,
    mentions,
    mutator,
    walk,
)

INTEGER = r"u?int\d*|long|short|byte|char|INT\d+|\w*pack\w*|\w*nibbles"


# Fits one subject: only one file stores weights in few bits.
@mutator(
    topic="quantization",
    family="truncate-instead-of-round",
    hints=[
        "Compare weights before and after: on average, are they a little too small?",
        "What does a cast to an integer type do with 2.9? Does it get such numbers?",
        "Codes are rounded to the nearest step before the cast, which cuts off the fraction.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang-jax/pull/1598",
            "scaled values were cast without rounding",
        ),
        Sighting(
            "https://github.com/SonySemiconductorSolutions/mct-quantization-layers/pull/124",
            "the zero point was made with int()",
        ),
    ],
    mutates={
        """
        q = torch.round(x / scale[..., None]).clamp(-127, 127)
        return q.to(torch.int8), scale
        """: """
        q = (x / scale[..., None]).clamp(-127, 127)
        return q.to(torch.int8), scale
        """,
        "codes = np.rint(w / scale).astype(np.int8)": "codes = (w / scale).astype(np.int8)",
        """
        zero = torch.round(-low / scale)
        return zero.to(torch.uint8)
        """: """
        zero = -low / scale
        return zero.to(torch.uint8)
        """,
    },
    spares=[
        "q = torch.round(x / scale)",
        "n = round(total)",
        "codes = x.round().to(torch.int8)",
    ],
)
def steps_cut_off_instead_of_rounded(
    node: cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """The quotient of a value and its step loses its fraction, where it should be rounded.

    A code is the number of steps nearest to the value. The cast to an integer type does not round:
    it cuts towards zero, so that 2.9 steps become 2. The largest error is then a whole step, not
    half a one, and all errors point to zero: weights shrink, and products with them.

    The result looks like quantization, only a coarser one, and values that lie on steps, as
    hand-written tests like them, come out exactly.
    """
    if not is_called(node, "round|rint|around"):
        return
    scope = context.enclosing(node, cst.FunctionDef) or context.module
    quotient = argument(node, 0)
    if not mentions(scope, INTEGER) or quotient is None:
        return
    if any(isinstance(below, cst.Divide) for below in walk(quotient)):
        alone = isinstance(context.parent(node), cst.Assign | cst.AnnAssign | cst.Arg)
        yield (
            quotient if alone or _is_product_in_sum(quotient, node, context) else grouped(quotient)
        )


def _is_product_in_sum(quotient: cst.BaseExpression, node: cst.Call, context: Context) -> bool:
    match quotient, context.parent(node):
        case (
            cst.BinaryOperation(operator=cst.Multiply() | cst.Divide()),
            cst.BinaryOperation(operator=cst.Add() | cst.Subtract()),
        ):
            return True
    return False
