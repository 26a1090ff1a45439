"""A bug where results are made in parts."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mutator, name_of, same, walk

MAKERS = r"empty|zeros|full|new_empty|new_zeros|new_full"
INPUTS = r"x|q|query|queries|query_states|hidden\w*"
EXACT = r"float32|float64|float"
PARTS = r"(\w+_)?(out|outs|output|outputs|acc\w*|accumulator|lse|lses|partial\w*|parts?|total)"


# Fits one subject: only flash_attention writes parts into a buffer of its own.
@mutator(
    topic="attention",
    family="lse-merge-layout-or-missing",
    hints=[
        "Use 16-bit inputs and more and more parts. Does the error grow with their number?",
        "Which dtype do the parts have while they wait to be merged, and who chose it?",
        "Parts stay in float32 until they are merged: one result is rounded once.",
    ],
    sightings=[
        Sighting(
            "https://github.com/flashinfer-ai/flashinfer/pull/58",
            "what the parts stored for the merge was wrong",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/17437",
            "attention computed in half precision",
        ),
    ],
    mutates={
        """
        def parts(q, n):
            out = torch.empty(n, *q.shape, dtype=torch.float32, device=q.device)
            for i in range(n):
                out[i] = part(q, i)
            return out
        """: """
        def parts(q, n):
            out = torch.empty(n, *q.shape, dtype=q.dtype, device=q.device)
            for i in range(n):
                out[i] = part(q, i)
            return out
        """,
        """
        def parts(q, n):
            lse = np.full((n, len(q)), -np.inf, dtype=np.float32)
            for i in range(n):
                lse[i] = part(q, i)
            return lse
        """: """
        def parts(q, n):
            lse = np.full((n, len(q)), -np.inf, dtype=q.dtype)
            for i in range(n):
                lse[i] = part(q, i)
            return lse
        """,
    },
    spares=[
        """
        def state(q):
            total = torch.zeros(len(q), dtype=torch.float32)
            return total * 0.5
        """,
        """
        def count(q, n):
            out = torch.zeros(n, dtype=torch.long)
            out[0] = 1
            return out
        """,
    ],
)
def partial_results_are_rounded_first(node: cst.Arg, context: Context) -> Iterator[cst.Arg]:
    """The buffer for partial results has the dtype of the inputs, and rounds what is put into it.

    Attention in parts, over splits of the keys or tiles of the queries, computes each part in
    float32 and writes it down until all are there. A buffer in the inputs' dtype rounds every part
    and every log-sum-exp on the way. In bfloat16 a log-sum-exp of 20 is off by up to 0.06, and so
    the weights of the parts by six percent.

    With float32 inputs there is nothing to see, and 16-bit results look as noisy as they always do.
    """
    line, scope = context.statement(node), context.enclosing(node, cst.FunctionDef)
    found = assigned(line) if line is not None else None
    if found is None or scope is None or context.parent(node) is not found[1]:
        return
    target, maker = found
    match node:
        case cst.Arg(keyword=cst.Name("dtype"), value=cst.Attribute(attr=cst.Name(dtype))):
            if not re.fullmatch(EXACT, dtype) or not re.fullmatch(MAKERS, name_of(maker)):
                return
        case _:
            return
    first = scope.params.params[0].name if scope.params.params else cst.Name("self")
    if not re.fullmatch(INPUTS, first.value) or not re.fullmatch(PARTS, name_of(target)):
        return
    if _is_filled_piece_by_piece(target, scope):
        yield node.with_changes(value=cst.Attribute(cst.Name(first.value), cst.Name("dtype")))


def _is_filled_piece_by_piece(buffer: cst.BaseExpression, scope: cst.FunctionDef) -> bool:
    """Tell `out[rows] = ...`, also among several targets."""
    return any(
        isinstance(n, cst.Subscript) and same(n.value, buffer)
        for target in walk(scope)
        if isinstance(target, cst.AssignTarget)
        for n in walk(target)
    )
