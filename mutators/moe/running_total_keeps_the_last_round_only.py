"""A bug in counts that several rounds of a loop add up to."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, name_of, same, walk

TOTAL = (
    r"(\w+_)?(taken|filled|used|counts?|totals?|offsets?|loads?|base|running|acc\w*|sums?)"
    r"|n_\w+|num_\w+|mask_count\w*"
)


@mutator(
    topic="moe",
    family="expert-count-not-accumulated",
    hints=[
        "How many rounds does the loop make on small inputs? Try one that makes three.",
        "Which variables does each round hand on to the next, and what do they hold by then?",
        "What all earlier rounds have used up is a sum over them, not what the last one used.",
    ],
    sightings=[
        Sighting(
            "https://github.com/lucidrains/st-moe-pytorch/issues/13",
            "third choices were offset by the second ones alone",
        ),
        Sighting(
            "https://github.com/deepspeedai/DeepSpeed/pull/2559",
            "counts per expert ignored the second choice",
        ),
    ],
    mutates={
        """
        def positions(masks):
            offset = torch.zeros(1, n_experts)
            for mask in masks:
                place = mask.cumsum(0) - 1 + offset
                offset = offset + mask.sum(dim=0, keepdim=True)
                yield place
        """: """
        def positions(masks):
            offset = torch.zeros(1, n_experts)
            for mask in masks:
                place = mask.cumsum(0) - 1 + offset
                offset = mask.sum(dim=0, keepdim=True)
                yield place
        """,
        """
        def product(a, b):
            total = np.zeros((len(a), len(b)), dtype=np.int32)
            for start in range(0, a.shape[1], BLOCK):
                part = a[:, start : start + BLOCK] @ b[:, start : start + BLOCK].T
                total += part.astype(np.int32)
            return total
        """: """
        def product(a, b):
            total = np.zeros((len(a), len(b)), dtype=np.int32)
            for start in range(0, a.shape[1], BLOCK):
                part = a[:, start : start + BLOCK] @ b[:, start : start + BLOCK].T
                total = part.astype(np.int32)
            return total
        """,
    },
    spares=[
        """
        def count(rows):
            n_rows = 0
            for row in rows:
                n_rows += 1
            return n_rows
        """,
        """
        def serve(masks):
            for mask in masks:
                total = mask.sum()
                total += mask.any(dim=0).sum()
                yield total
        """,
        """
        def serve(mask, total):
            total = total + mask.sum(dim=0)
            return total
        """,
    ],
)
def running_total_keeps_the_last_round_only(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.SimpleStatementLine]:
    """A count over all rounds of a loop starts anew in each, and holds the last round's share.

    Experts serve all first choices, then all second choices, and so on: the queue of a round begins
    where those of all earlier rounds end. If the count is set instead of added to, the third
    round begins where the second one alone would, and two tokens get one slot. A sum over blocks
    becomes its last block.

    With one round nothing is carried over, and with two the last round's count is the total: top-2
    routing never shows it, nor does a matrix that fits into one block.
    """
    loop = context.enclosing(node, cst.For)
    match node.body:
        case [cst.AugAssign(cst.Name() as total, cst.AddAssign(), value)]:
            pass
        case [
            cst.Assign(
                [cst.AssignTarget(cst.Name() as total)], cst.BinaryOperation(kept, cst.Add(), value)
            )
        ] if same(kept, total):
            pass
        case _:
            return
    if loop is None or not is_called(total, TOTAL) or not isinstance(value, cst.Call):
        return
    if _starts(total, context.before(loop)) and not _starts(total, context.before(node)):
        target = cst.AssignTarget(total)
        yield node.with_changes(body=[cst.Assign([target], value)])


def _starts(total: cst.Name, lines: tuple[cst.BaseStatement, ...]) -> bool:
    """Tell whether one of the lines sets the total to something without itself."""
    for line in lines:
        match assigned(line):
            case cst.Name() as target, value if same(target, total):
                if all(name_of(n) != total.value for n in walk(value)):
                    return True
    return False
