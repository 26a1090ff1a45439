"""A bug where some rows of a batch are picked by their numbers."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    fill,
    is_called,
    mentions,
    mutator,
    pattern,
    same,
    walk,
)

PICKS = pattern("$picked.append($number)")


@mutator(
    topic="batching",
    family="guarded-filter-leaves-stale-rows",
    hints=[
        "Pick rows so that one in front is left out. Are those picked the ones that were meant?",
        "Where rows are numbered and picked in one line: which comes first?",
        "A row's number is its place among all rows, also of those that are not picked.",
    ],
    sightings=[
        Sighting(
            "https://github.com/microsoft/sarathi-serve/pull/18",
            "sampled rows were matched with the wrong requests",
        ),
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1772",
            "rows read a neighbour's entry after a removal",
        ),
    ],
    mutates={
        "rows = [cu[i + 1] - 1 for i, chunk in enumerate(chunks) if chunk.sample]": (
            "rows = [cu[i + 1] - 1 for i, _ in enumerate(c for c in chunks if c.sample)]"
        ),
        """
        keep = []
        for b, row in enumerate(rows):
            if row.finished is None:
                keep.append(b)
        """: """
        keep = []
        for row in rows:
            if row.finished is None:
                keep.append(len(keep))
        """,
    },
    spares=[
        "rows = [i for i, _ in enumerate(chunks)]",
        "rows = [x for i, x in enumerate(xs) if i > 0]",
        """
        order = []
        for b, row in enumerate(rows):
            order.append(b)
        """,
    ],
)
def rows_are_numbered_after_the_choice(
    node: cst.CompFor | cst.For, context: Context
) -> Iterator[cst.CompFor | cst.For]:
    """Rows get their numbers after some were left out, and the numbers point to others.

    Tensors of a batch are indexed by the place of a row among all of them. When only some rows are
    wanted, their places are noted first and the others left out then. Counted the other way round,
    the numbers are 0, 1, 2 without a gap: places among the chosen, used as places among all.

    Where nothing in front is left out both are the same, the number of rows is right, and each
    number names a row that exists.
    """
    match node:
        case cst.CompFor(
            target=cst.Tuple(elements=[cst.Element(value=cst.Name() as number), item]) as both,
            iter=cst.Call(args=[cst.Arg(value=xs)]) as numbered,
            ifs=[kept],
        ) if is_called(numbered, "enumerate") and isinstance(item.value, cst.Name):
            x = item.value.value
            taken = any(mentions(part, x[0]) for part in (kept, xs)) and x != x[0]
            if taken or mentions(kept, number.value) or _reads(node, x, context):
                return
            chosen = _chosen(x, xs, kept)
            ignored = [both.elements[0], item.with_changes(value=cst.Name("_"))]
            yield node.with_changes(
                target=both.with_changes(elements=ignored),
                iter=numbered.with_changes(args=[cst.Arg(chosen)]),
                ifs=[],
            )
        case cst.For(
            target=cst.Tuple(elements=[cst.Element(value=cst.Name() as number), item]),
            iter=cst.Call(args=[cst.Arg(value=rows)]) as numbered,
        ) if is_called(numbered, "enumerate"):
            uses = [n for n in walk(node.body) if isinstance(n, cst.Name) and same(n, number)]
            appends = [n for n in walk(node.body) if isinstance(n, cst.Call) and n.args]
            for call in appends:
                guarded = context.enclosing(call, cst.If) is not None
                picked = PICKS.match(call)
                last = len(uses) == 1 and call.args[0].value is uses[0]
                if picked is not None and guarded and last:
                    length = fill(pattern("len($picked)"), picked)
                    body = node.body.with_deep_changes(call.args[0], value=length)
                    yield node.with_changes(target=item.value, iter=rows, body=body)


def _reads(node: cst.CompFor, x: str, context: Context) -> bool:
    """Tell whether the comprehension's element needs the item."""
    match context.parent(node):
        case cst.ListComp(elt=elt) | cst.GeneratorExp(elt=elt) | cst.SetComp(elt=elt):
            return mentions(elt, x)
    return True


def _chosen(x: str, xs: cst.BaseExpression, kept: cst.CompIf) -> cst.GeneratorExp:
    """Return `x for x in xs if kept`, with a short name for x."""
    short = cst.Name(x[0])
    condition = kept
    for name in [n for n in walk(kept) if isinstance(n, cst.Name) and n.value == x]:
        condition = condition.with_deep_changes(name, value=x[0])
    return cst.GeneratorExp(short, cst.CompFor(short, xs, ifs=[condition]), lpar=[], rpar=[])
