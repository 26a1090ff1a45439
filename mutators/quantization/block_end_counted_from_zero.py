"""A bug in loops over blocks of columns or rows."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, is_called, mutator, same


@mutator(
    topic="quantization",
    family="group-local-vs-global-index",
    hints=[
        "Make the block so large that one is enough. Does the result change?",
        "Write down the bounds of the second block. Which columns does it hold?",
        "Both ends of a block count from the beginning of the whole, its end is start plus size.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1880",
            "an index within the group was used for the whole",
        ),
        Sighting(
            "https://github.com/1bit-MONSTER/1bit-MONSTER/issues/153",
            "the group was missing from the address",
        ),
    ],
    mutates={
        """
        for start in range(0, n, group):
            out[:, start : start + group] = scale(w[:, start : start + group])
        """: [
            """
            for start in range(0, n, group):
                out[:, start:group] = scale(w[:, start : start + group])
            """,
            """
            for start in range(0, n, group):
                out[:, start : start + group] = scale(w[:, start:group])
            """,
        ],
        """
        for i in range(0, k, BLOCK):
            columns = slice(i, i + BLOCK)
            total += a[:, columns] @ b[columns]
        """: """
        for i in range(0, k, BLOCK):
            columns = slice(i, BLOCK)
            total += a[:, columns] @ b[columns]
        """,
        "parts = [x @ w[start : start + size].T for start in range(0, len(w), size)]": (
            "parts = [x @ w[start:size].T for start in range(0, len(w), size)]"
        ),
    },
    spares=[
        "block = w[:, start : start + group]",
        """
        for i in range(n):
            pair = codes[i : i + 2]
        """,
        """
        for start in range(0, n, size):
            parts.append(w.rows(start, start + size))
        """,
    ],
)
def block_end_counted_from_zero(
    node: cst.Slice | cst.Arg, context: Context
) -> Iterator[cst.CSTNode]:
    """A block ends at its size instead of at its start plus its size.

    A loop over blocks has two ways to count: within the block, or from the beginning of the whole.
    The start is given in the latter way, and so must be the end. Where the end is only the size,
    the first block is right, and all others are empty, or reach backwards.

    An empty slice raises nothing: sums over it are zero, and writes to it go nowhere. Small tests
    have a single block, where size and end are the same.
    """
    match node:
        case cst.Slice(lower=cst.Name() as start, upper=cst.BinaryOperation() as stop):
            if (size := _size(stop, start)) is not None and _is_block_start(start, node, context):
                yield node.with_changes(upper=size, first_colon=cst.Colon())
        case cst.Arg(value=cst.BinaryOperation(left=cst.Name() as start) as stop):
            call = context.parent(node)
            if isinstance(call, cst.Call) and is_called(call, "slice"):
                ends = call.args[-1] is node and same(call.args[0].value, start)
                size = _size(stop, start)
                if ends and size is not None and _is_block_start(start, node, context):
                    yield node.with_changes(value=size)


def _size(stop: cst.BinaryOperation, start: cst.Name) -> cst.BaseExpression | None:
    """Return `size` of `start + size`."""
    match stop:
        case cst.BinaryOperation(left, cst.Add(), cst.Name() | cst.Attribute() as size):
            return size if same(left, start) else None
    return None


def _is_block_start(start: cst.Name, node: cst.CSTNode, context: Context) -> bool:
    """Tell whether a loop around counts `start` in steps, as `range(0, n, size)` does."""
    for above in context.ancestors(node):
        match above:
            case cst.For(target=target, iter=steps):
                pass
            case cst.ListComp(for_in=loop) | cst.GeneratorExp(for_in=loop):
                target, steps = loop.target, loop.iter
            case _:
                continue
        if same(target, start) and isinstance(steps, cst.Call):
            return is_called(steps, "range|arange|trange") and len(arguments(steps)) >= 3
    return False
