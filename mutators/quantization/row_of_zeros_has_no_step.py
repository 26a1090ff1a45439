"""A bug in scales of what is all zero."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    arguments,
    assigned,
    is_called,
    mentions,
    mutator,
    pattern,
    uncommented,
)
from halfhour.mutators._idioms import SCALE, quantizes

REPLACED = pattern("$scale[$scale == 0] = $one", scale=SCALE)


# Fits one subject: only one file computes steps of its own.
@mutator(
    topic="quantization",
    family="zero-scale-divides-by-zero",
    hints=[
        "Quantize a weight with a pruned row, or a batch with an empty token. What comes out?",
        "What is the smallest step that this code can find, and what is divided by it?",
        "A step is never zero: what is all zero has a small one, too.",
    ],
    sightings=[
        Sighting(
            "https://github.com/OpenGVLab/OmniQuant/pull/33",
            "the lower bound of the scale was not in force",
        ),
        Sighting(
            "https://github.com/ggml-org/llama.cpp/pull/7313",
            "groups next to zero gave a scale of NaN",
        ),
        Sighting("https://github.com/pytorch/ao/pull/4762", "all-zero blocks became NaN"),
    ],
    mutates={
        """
        def quantize(x):
            scale = (x.abs().amax(dim=-1) / 127).clamp(min=SMALLEST)
            return torch.round(x / scale[..., None]).to(torch.int8), scale
        """: """
        def quantize(x):
            scale = x.abs().amax(dim=-1) / 127
            return torch.round(x / scale[..., None]).to(torch.int8), scale
        """,
        """
        def int4_scales(w):
            scales = np.maximum(np.ptp(w, axis=1) / 15, 1e-8)
            return scales
        """: """
        def int4_scales(w):
            scales = np.ptp(w, axis=1) / 15
            return scales
        """,
        """
        def quantize(w):
            scale = w.abs().amax(1) / 7
            scale[scale == 0] = 1
            return w / scale[:, None]
        """: """
        def quantize(w):
            scale = w.abs().amax(1) / 7
            return w / scale[:, None]
        """,
    },
    spares=[
        """
        def quantize(x):
            low = x.amin(dim=-1).clamp(max=0.0)
            return low
        """,
        """
        def quantize(x):
            scale = x.clamp(-1, 1).abs().amax()
            return x / scale
        """,
        """
        def attend(q, k, d):
            scale = max(d, 1) ** -0.5
            return q @ k.mT * scale
        """,
    ],
)
def row_of_zeros_has_no_step(
    node: cst.Call | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.BaseExpression | cst.RemovalSentinel]:
    """A row or group that is all zero gets a step of zero, and is divided by it.

    The step follows from the largest magnitude. Where everything is zero, the step is zero too, and
    zero over zero is NaN. A lower bound on the step, as small as one likes, avoids it: zero over
    anything else is zero. Without the bound a NaN is cast to an integer, which may give any code,
    or reaches the scale and from there all that it is multiplied with.

    Random weights have no such row. Pruned models have, and so has every batch with padding.
    """
    match node:
        case cst.SimpleStatementLine(body=[line]) if REPLACED.match(line) is not None:
            if uncommented(node):
                yield cst.RemoveFromParent()
        case cst.Call() if (bounded := _bounded(node)) is not None:
            line_above = context.statement(node)
            found = None if line_above is None else assigned(line_above)
            if found is not None and is_called(found[0], SCALE) and quantizes(node, context):
                whole = found[1] is node
                yield bounded.with_changes(lpar=[], rpar=[]) if whole else bounded


def _bounded(node: cst.Call) -> cst.BaseExpression | None:
    """Return `x` of `x.clamp(min=tiny)` and of `np.maximum(x, tiny)`."""
    given = arguments(node)
    if len(given) != 2 or isinstance(given[0].value, cst.Integer | cst.Float):
        return None
    keyword = given[1].keyword
    if is_called(node, "clamp|clip") and (keyword is None or keyword.value not in ("min", "a_min")):
        return None
    if not is_called(node, "clamp|clip|clamp_min|maximum|max"):
        return None
    tiny = isinstance(given[1].value, cst.Float) and 0 < float(given[1].value.value) < 0.01
    named = mentions(given[1].value, r"\w*(tiny|smallest|eps|epsilon|min|floor)\w*|[A-Z]+MIN")
    return given[0].value if tiny or named or mentions(given[1].value, "SMALLEST|EPS") else None
