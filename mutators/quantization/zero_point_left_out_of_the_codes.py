"""A bug in codes that have a zero point."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mentions, mutator, walk
from halfhour.mutators._idioms import ZERO_POINT

ROUND = r"round|round_|rint|around|floor"


@mutator(
    topic="quantization",
    family="asym-quant-forgets-zero-point",
    hints=[
        "Quantize weights from -1 to 3 and read them back. Which of them return?",
        "The reader subtracts something from every code. Where does the writer put it in?",
        "A code is the rounded quotient plus the zero point, since reading takes that away again.",
    ],
    sightings=[
        Sighting(
            "https://github.com/intel/neural-compressor/pull/1611",
            "codes were clamped without their zero point",
        ),
        Sighting(
            "https://github.com/1bit-MONSTER/1bit-MONSTER/issues/704",
            "signed codes clipped to unsigned without the offset",
        ),
    ],
    mutates={
        """
        zero = torch.round(-low / scale)
        q = torch.round(groups / scale[..., None]) + zero[..., None]
        return q.clamp(0, 15), zero
        """: """
        zero = torch.round(-low / scale)
        q = torch.round(groups / scale[..., None])
        return q.clamp(0, 15), zero
        """,
        "codes = np.clip(zero_point + np.rint(w / scale), 0, 255)": (
            "codes = np.clip(np.rint(w / scale), 0, 255)"
        ),
        "q = torch.round(w / scales + zeros.unsqueeze(1)).to(torch.uint8)": (
            "q = torch.round(w / scales).to(torch.uint8)"
        ),
    },
    spares=[
        "w = (q - zero) * scale",
        "q = torch.round(w / scale) + bias",
        """
        def shift(w, scale):
            zero_point = find(w)
            return torch.round(w / scale) + zero_point
        """,
    ],
)
def zero_point_left_out_of_the_codes(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BaseExpression]:
    """Codes are written without their zero point, which is subtracted when they are read.

    An asymmetric format shifts its codes, so that the smallest weight of a group becomes 0. The
    writer adds the zero point to the rounded quotient, the reader subtracts it. If the writer
    forgets, everything below zero is clipped, and the rest comes back shifted by the zero point.

    The codes stay in their range, and where the zero point is 0, as in a symmetric format or for
    weights that are all positive, nothing is wrong.
    """
    if not isinstance(node.operator, cst.Add):
        return
    inside = is_called(context.parent(context.parent(node) or node) or node, ROUND)
    for zero, quotient in ((node.right, node.left), (node.left, node.right)):
        if mentions(zero, ZERO_POINT) and not mentions(quotient, ZERO_POINT):
            divides = any(isinstance(below, cst.Divide) for below in walk(quotient))
            if divides and (inside or mentions(quotient, ROUND)) and context.can_spare(zero):
                yield quotient
