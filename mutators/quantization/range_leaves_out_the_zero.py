"""A bug in the range that codes with a zero point span."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, arguments, is_called, mentions, mutator

SMALLEST, LARGEST = r"amin|min|nanmin", r"amax|max|nanmax"
LIMITS_ABOVE, LIMITS_BELOW = r"minimum|min|fmin", r"maximum|max|fmax"


# Fits one subject: only one file stores weights in few bits.
@mutator(
    topic="quantization",
    family="asym-range-excludes-zero",
    hints=[
        "Quantize a group of weights that are all positive. How far off do they come back?",
        "What range does a group get whose weights all lie on one side of zero?",
        "The range of a group must hold zero, or no zero point within the codes can stand for it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/openvinotoolkit/nncf/pull/4074",
            "groups of one sign collapsed to one value",
        ),
    ],
    mutates={
        """
        low = groups.amin(dim=-1).clamp(max=0.0)
        high = groups.amax(dim=-1).clamp(min=0.0)
        """: [
            """
            low = groups.amin(dim=-1)
            high = groups.amax(dim=-1).clamp(min=0.0)
            """,
            """
            low = groups.amin(dim=-1).clamp(max=0.0)
            high = groups.amax(dim=-1)
            """,
        ],
        "lo, hi = min(w.min(), 0), max(w.max(), 0)": [
            "lo, hi = w.min(), max(w.max(), 0)",
            "lo, hi = min(w.min(), 0), w.max()",
        ],
        "lo = np.minimum(w.min(axis=1), 0.0)": "lo = w.min(axis=1)",
    },
    spares=[
        "peak = x.abs().amax(dim=-1).clamp(min=0.0)",
        "high = groups.amax(dim=-1).clamp(min=1e-5)",
        "n_new = lengths.clamp(min=0)",
    ],
)
def range_leaves_out_the_zero(node: cst.Call) -> Iterator[cst.BaseExpression]:
    """The range of a group reaches from its smallest to its largest weight, even without zero.

    With a zero point, the code 0 stands for the low end of the range and the highest code for the
    high end. The zero point itself is a code, and so zero must lie within the range. For a group
    of one sign it does not, unless the range is widened to it: the zero point falls outside of the
    codes, is clipped or wraps, and the whole group comes back shifted.

    Nearly every group of a trained weight has both signs, and then both ranges are the same.
    """
    given = arguments(node)
    if len(given) != 2:
        return
    for extreme, bound in ((given[0], given[1]), (given[1], given[0])):
        word = bound.keyword.value if bound.keyword is not None else ""
        if not _is_zero(bound.value) or mentions(extreme.value, "abs"):
            continue
        if is_called(node, LIMITS_ABOVE) or (word == "max" and is_called(node, "clamp|clip")):
            wanted = SMALLEST
        elif is_called(node, LIMITS_BELOW) or word == "min":
            wanted = LARGEST
        else:
            continue
        if isinstance(extreme.value, cst.Call) and is_called(extreme.value, wanted):
            yield extreme.value


def _is_zero(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer | cst.Float) and float(node.value) == 0
