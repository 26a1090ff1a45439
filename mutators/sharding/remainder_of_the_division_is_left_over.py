"""A bug in sharing out what does not divide evenly."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, pattern, same, walk

CEILINGS = [
    pattern("-(-$a // $b)"),
    pattern("($a + $b - 1) // $b"),
    pattern("math.ceil($a / $b)"),
    pattern("int(np.ceil($a / $b))"),
]


@mutator(
    topic="sharding",
    family="vocab-shard-floor-division",
    hints=[
        "Share out a number of things that is no multiple of the number of parts.",
        "How large is a part, and do all parts together hold everything?",
        "What must have room for everything is divided rounding up.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/text-generation-inference/pull/1463",
            "the last rows belonged to no rank",
        ),
    ],
    mutates={
        "rows = -(-vocab_size // n_workers)": "rows = vocab_size // n_workers",
        "per_rank = (vocab + world_size - 1) // world_size": "per_rank = vocab // world_size",
        """
        def n_blocks(self, n_tokens):
            return math.ceil(n_tokens / self.block_size)
        """: """
        def n_blocks(self, n_tokens):
            return n_tokens // self.block_size
        """,
    },
    spares=[
        """
        def ceil_div(a, b):
            return -(-a // b)
        """,
        "groups = n_heads // n_kv_heads",
        "padding = -n % multiple",
    ],
)
def remainder_of_the_division_is_left_over(
    node: cst.UnaryOperation | cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.BinaryOperation]:
    """The size of a part is rounded down, and what remains of the whole is in no part.

    With ten rows for four workers each takes three, and the last one has only one of its own.
    Rounded down it is two each, and two rows at the end belong to nobody: a lookup finds no owner
    and adds up zeros. The same holds for tokens in blocks, where the last block is not counted.

    Vocabularies are often padded to a multiple of 64, and what divides evenly leaves nothing over.
    The ids at the end of a vocabulary are rare besides.
    """
    for shape in CEILINGS:
        found = shape.match(node)
        if found is None or _is_the_definition(found["a"], found["b"], node, context):
            continue
        if isinstance(node, cst.Call) and _is_the_last_use(node, context):
            continue
        yield cst.BinaryOperation(found["a"], cst.FloorDivide(), found["b"])


def _is_the_last_use(call: cst.Call, context: Context) -> bool:
    """Tell whether the file would import `math` for nothing without the call."""
    module = {n.value for n in walk(call.func) if isinstance(n, cst.Name)} & {"math", "np"}
    names = [n.value for n in walk(context.module) if isinstance(n, cst.Name) and n.value in module]
    return len(names) == 2


def _is_the_definition(
    a: cst.BaseExpression, b: cst.BaseExpression, node: cst.CSTNode, context: Context
) -> bool:
    """Tell whether a function of just these two only says how to round up."""
    function = context.enclosing(node, cst.FunctionDef)
    names = [] if function is None else [parameter.name for parameter in function.params.params]
    return len(names) == 2 and same(names[0], a) and same(names[1], b)
