"""A bug in flat batches, where sequences lie one behind the other."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, mutator, name_of, pattern, walk

BOUNDS = r"cu|cu_\w+|(\w+_)?(cu_seqlens|offsets|bounds|indptr|cumulative\w*|cumsum|ends)"
LAST_OF_ONE = pattern("$cu[$i + 1] - 1", cu=BOUNDS)
LAST_OF_ALL = pattern("$cu[1:] - 1", cu=BOUNDS)
FROM_ENDS = pattern("$ends - 1", ends=r"(\w+_)?(ends|stops)")
STARTS = pattern("$cu[:-1]", cu=BOUNDS)


@mutator(
    topic="batching",
    family="sampled-from-wrong-row-of-flat-batch",
    hints=[
        "Read a prompt of several tokens. From which of them is the next token predicted?",
        "Which row of a sequence is its last one, said in the bounds of the sequences?",
        "What follows a text is predicted at its last token, one row before the next text begins.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/tpu-inference/pull/125",
            "the next token was not read at the last position",
        ),
    ],
    mutates={
        "rows = [cu_q[i + 1] - 1 for i in range(n)]": "rows = [cu_q[i] for i in range(n)]",
        "last = hidden[cu_seqlens[1:] - 1]": "last = hidden[cu_seqlens[:-1]]",
        """
        starts, ends = cu[:-1], cu[1:]
        rows = torch.where(ends > starts, ends - 1, NONE)
        """: """
        starts, ends = cu[:-1], cu[1:]
        rows = torch.where(ends > starts, starts, NONE)
        """,
    },
    spares=[
        "rows = cu_q[i + 1] - cu_q[i]",
        "rows = ends - 1",
        "n = table[i + 1] - 1",
    ],
)
def token_is_sampled_after_the_first_row(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.CSTNode]:
    """The next token is taken from the first row of a sequence instead of the last.

    In a flat batch sequence i owns the rows from its bound to the next one. The model's output at a
    row predicts what follows that token, so the next token of the text comes from the last row. The
    first row predicts the second token of what was just read.

    Where each sequence brings one token, as in decoding, its first row is its last. Only the first
    token after each prompt is wrong, and it is a plausible one.
    """
    if (one := LAST_OF_ONE.match(node)) is not None:
        yield fill(pattern("$cu[$i]"), one)
    elif (found := LAST_OF_ALL.match(node)) is not None:
        yield fill(STARTS, found)
    elif FROM_ENDS.match(node) is not None:
        scope = context.enclosing(node, cst.FunctionDef) or context.module
        for line in walk(scope):
            match line:
                case cst.Assign(
                    targets=[cst.AssignTarget(cst.Tuple(elements=[first, last]))],
                    value=cst.Tuple(elements=[cst.Element(value=bound), _]),
                ) if name_of(last.value) == name_of(node.left) and STARTS.match(bound):
                    yield first.value
