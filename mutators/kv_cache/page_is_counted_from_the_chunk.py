"""A bug in the way from a token to its place in the pages."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mutator, pattern, same, walk

SIZE = r"(\w+_)?(block|page)_size|block_len|page_len|size|bs"
SINCE = pattern("($i - $start)")
LENGTH = pattern("$stop - $start")


@mutator(
    topic="kv_cache",
    family="prefix-hit-ignores-block-table",
    hints=[
        "Read a prompt in two pieces, with the cut inside a page. Where do the tokens go?",
        "Where is the place of token i computed, and from where is i counted there?",
        "Page and place in the page come from the position in the sequence, not in the piece.",
    ],
    sightings=[
        Sighting(
            "https://github.com/tanishqkumar/ssd/issues/23",
            "a prompt continued after a cached part read wrong rows",
        ),
    ],
    mutates={
        "s = [table[i // size] * size + i % size for i in range(start, stop)]": [
            "s = [table[(i - start) // size] * size + i % size for i in range(start, stop)]",
            "s = [table[i // size] * size + (i - start) % size for i in range(start, stop)]",
            "s = [table[i // size] * size + i % size for i in range(stop - start)]",
        ],
        """
        for pos in range(n_cached, n_total):
            page = table[pos // block_size]
            copy(page, pos, pos % self.block_size)
        """: [
            """
            for pos in range(n_total - n_cached):
                page = table[pos // block_size]
                copy(page, pos, pos % self.block_size)
            """,
            """
            for pos in range(n_cached, n_total):
                page = table[(pos - n_cached) // block_size]
                copy(page, pos, pos % self.block_size)
            """,
            """
            for pos in range(n_cached, n_total):
                page = table[pos // block_size]
                copy(page, pos, (pos - n_cached) % self.block_size)
            """,
        ],
    },
    spares=[
        "slots = [table[i // page_size] * page_size + i % page_size for i in range(stop)]",
        "slots = [i // page_size for i in range(0, stop)]",
        "rows = [i % n_heads for i in range(start, stop)]",
    ],
)
def page_is_counted_from_the_chunk(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """The place of a token is counted from the start of the piece that is being read.

    A sequence lies on its pages from its first token on. Token i stands on page i // size at place
    i % size, whatever part of the sequence is read. Counted from the start of that part, a token
    goes where an earlier one lies, or is looked for there.

    A prompt read at once starts at 0, and a piece that starts with a page has the right places in
    it. Most tests read prompts at once.
    """
    match node:
        case cst.BinaryOperation(left=cst.Name() as i):
            above = list(context.ancestors(node))
            loops: list[cst.For | cst.CompFor] = [a for a in above if isinstance(a, cst.For)]
            loops += [a.for_in for a in above if isinstance(a, cst.ListComp | cst.GeneratorExp)]
            for loop in loops:
                start = _start(loop.iter)
                if _is_place(node) and start is not None and same(loop.target, i):
                    yield node.with_changes(left=fill(SINCE, {"i": i, "start": start}))
                    return
        case cst.Call(args=[cst.Arg(value=start), cst.Arg(value=stop) as last]):
            loop_over = context.parent(node)
            if _start(node) is None or not isinstance(loop_over, cst.For | cst.CompFor):
                return
            scope = loop_over if isinstance(loop_over, cst.For) else context.parent(loop_over)
            places = [n for n in walk(scope or loop_over) if _is_place(n)]
            if any(same(n, loop_over.target) for place in places for n in walk(place)):
                length = fill(LENGTH, {"start": start, "stop": stop})
                yield node.with_changes(args=[last.with_changes(value=length)])


def _is_place(node: cst.CSTNode) -> bool:
    """Tell `i // page_size` and `i % page_size`."""
    match node:
        case cst.BinaryOperation(
            left=cst.Name(), operator=cst.FloorDivide() | cst.Modulo(), right=size
        ):
            return is_called(size, SIZE)
    return False


def _start(bounds: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return `start` of `range(start, stop)` where it is a variable."""
    match bounds:
        case cst.Call(args=[cst.Arg(value=cst.Name() | cst.Attribute() as start), cst.Arg()]):
            return start if is_called(bounds, "range|arange") else None
    return None
