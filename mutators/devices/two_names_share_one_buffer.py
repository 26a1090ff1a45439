"""A bug in buffers that come in pairs."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, same, walk

FRESH = r"(\w+_)?(zeros|empty|full|ones)(_like)?"


@mutator(
    topic="devices",
    family="fused-add-aliases-residual",
    hints=[
        "Write to one of the two and read the other. What do you see?",
        "How many buffers are there, and how many names for them?",
        "What is written to separately needs memory of its own.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang/pull/28005",
            "residual and hidden state were one buffer",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm-ascend/pull/16974", "the same, found in review"
        ),
    ],
    mutates={
        """
        def __init__(self, shape, like):
            self.k = like.new_zeros(*shape)
            self.v = torch.zeros_like(self.k)
        """: """
        def __init__(self, shape, like):
            self.k = like.new_zeros(*shape)
            self.v = self.k
        """,
        """
        out = np.zeros(shape, dtype=np.float32)
        lse = np.empty_like(out)
        """: """
        out = np.zeros(shape, dtype=np.float32)
        lse = out
        """,
        """
        keys = torch.zeros(n, d)
        values = torch.zeros(n, d)
        """: """
        keys = torch.zeros(n, d)
        values = keys
        """,
    },
    spares=[
        """
        ids = prompts.new_full(shape, pad)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        """,
        """
        scores = q @ k.mT
        bias = torch.zeros_like(scores)
        """,
        """
        keys = torch.zeros(n, d)
        values = torch.zeros(n, e)
        """,
    ],
)
def two_names_share_one_buffer(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.SimpleStatementLine]:
    """Two buffers that are written separately are one, under two names.

    Keys and values, a result and its correction: they have the same shape, and the second buffer is
    made like the first one. An assignment makes no buffer, it makes a name. What is written to one
    is then found in the other, and the later write wins.

    All shapes and types are right, and so is the first of the two writes until the second one
    comes. Where both are only read, or replaced and not written to, nothing is wrong.
    """
    line = node.body[0]
    found, above = assigned(node), context.before(node)
    if found is None or not above or not isinstance(line, cst.Assign | cst.AnnAssign):
        return
    earlier = assigned(above[-1])
    match found[1]:
        case cst.Call(args=[cst.Arg(model)]) as call if is_called(call, r"(zeros|empty|ones)_like"):
            if _is_fresh(model, context, node):
                yield node.with_changes(body=[line.with_changes(value=model)])
        case cst.Call() as call if is_called(call, FRESH) and earlier is not None:
            if same(earlier[1], call) and not any(same(b, earlier[0]) for b in walk(call)):
                yield node.with_changes(body=[line.with_changes(value=earlier[0])])


def _is_fresh(model: cst.BaseExpression, context: Context, node: cst.CSTNode) -> bool:
    """Tell whether the model of the new buffer was itself made right here, and is a name."""
    if not isinstance(model, cst.Name | cst.Attribute):
        return False
    for line in context.before(node):
        match assigned(line):
            case target, cst.Call() as call if same(target, model):
                return is_called(call, FRESH)
    return False
