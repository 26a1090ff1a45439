"""A bug in scales of rows and groups."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator
from halfhour.mutators._idioms import SCALE, ZERO_POINT, quantizes

FIRST = cst.SubscriptElement(
    cst.Slice(lower=None, upper=cst.Integer("1")),
    comma=cst.Comma(whitespace_after=cst.SimpleWhitespace(" ")),
)


@mutator(
    topic="quantization",
    family="per-channel-scale-index-zero",
    hints=[
        "Quantize a weight with one group that is far larger than the others. What comes back?",
        "How many scales reach the product, and how many were computed?",
        "Every row and every group has a scale of its own, and is read with that one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sonos/tract/pull/2849", "scales per axis were read as one scalar"
        ),
        Sighting(
            "https://github.com/microsoft/onnxruntime/pull/28228", "the axis of the scales was lost"
        ),
    ],
    mutates={
        """
        def dequantize(q, scale):
            return q.float() * scale[:, None]
        """: """
        def dequantize(q, scale):
            return q.float() * scale[:1, None]
        """,
        """
        def unpack_int4(codes, zeros, scales):
            return (codes - zeros[..., None]) * scales[..., None]
        """: [
            """
            def unpack_int4(codes, zeros, scales):
                return (codes - zeros[..., :1, None]) * scales[..., None]
            """,
            """
            def unpack_int4(codes, zeros, scales):
                return (codes - zeros[..., None]) * scales[..., :1, None]
            """,
        ],
        """
        def dequantize(self, codes):
            return codes.to(self.dtype) * self.scales.unsqueeze(-1)
        """: """
        def dequantize(self, codes):
            return codes.to(self.dtype) * self.scales[..., :1].unsqueeze(-1)
        """,
        """
        def sample(logits, temperature):
            scale = np.where(temperature == 0, 1.0, temperature)
            return softmax(logits / scale[:, None])
        """: """
        def sample(logits, temperature):
            scale = np.where(temperature == 0, 1.0, temperature)
            return softmax(logits / scale[:1, None])
        """,
    },
    spares=[
        """
        def attend(scores, scale):
            return scores * scale[:, None]
        """,
        """
        def dequantize(q, scale):
            return q.float() * scale[0]
        """,
        """
        def dequantize(q, scale):
            return q.float() * scale[None, :]
        """,
    ],
)
def first_scale_serves_for_all(
    node: cst.Subscript | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """The first scale is applied to all rows or groups, each of which has its own.

    Scales differ from row to row and from group to group, which is the point of having many. When
    they are lined up with the codes they get an axis of length one. A selection of the first one
    broadcasts just as well, and then large rows come back too small and small ones too large.

    With one row or one group, and where all of them are alike, as random test weights are, the
    first scale is nearly right for all.
    """
    match node:
        case cst.Subscript(value, [before, cst.SubscriptElement(cst.Index(cst.Name("None")))]):
            if _is_one_of_many(value) and _scales_a_row(node, context):
                if _is_ellipsis(before):
                    yield node.with_changes(slice=[before, FIRST, node.slice[-1]])
                elif _is_all(before):
                    yield node.with_changes(slice=[FIRST, node.slice[-1]])
        case cst.Call(cst.Attribute(value, cst.Name("unsqueeze")) as func):
            if _is_one_of_many(value) and quantizes(node, context):
                last = FIRST.with_changes(comma=cst.MaybeSentinel.DEFAULT)
                first = cst.Subscript(
                    value, [cst.SubscriptElement(cst.Index(cst.Ellipsis())), last]
                )
                yield node.with_changes(func=func.with_changes(value=first))


def _scales_a_row(node: cst.Subscript, context: Context) -> bool:
    """Tell a scale of weights, and one by which anything is divided."""
    match context.parent(node):
        case cst.BinaryOperation(operator=cst.Divide(), right=right) if right is node:
            return True
    return quantizes(node, context)


def _is_one_of_many(node: cst.BaseExpression) -> bool:
    """Tell scales and zero points, as long as they are not just being computed."""
    return is_called(node, f"{SCALE}|{ZERO_POINT}") and not isinstance(node, cst.Call)


def _is_ellipsis(element: cst.SubscriptElement) -> bool:
    match element.slice:
        case cst.Index(cst.Ellipsis()):
            return True
    return False


def _is_all(element: cst.SubscriptElement) -> bool:
    match element.slice:
        case cst.Slice(lower=None, upper=None, step=None):
            return True
    return False
