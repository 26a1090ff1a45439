"""A bug in exchanges where everybody has something for everybody."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mutator, same


# Fits one subject: only one exchanges chunks between workers.
@mutator(
    topic="sharding",
    family="all-to-all-not-transposed",
    hints=[
        "Give every worker something else for every other one, and see who gets what.",
        "In the exchange, which index is the sender and which is the receiver?",
        "After the exchange worker j holds what each i had for j: rows become columns.",
    ],
    sightings=[
        Sighting(
            "https://github.com/helmholtz-analytics/heat/issues/425",
            "an exchange left a wrong order",
        ),
        Sighting(
            "https://github.com/ezyang/spmd_types/issues/4",
            "both sides of an exchange changed places",
        ),
    ],
    mutates={
        "received = [[chunks[i][j] for i in range(n)] for j in range(n)]": (
            "received = [[chunks[j][i] for i in range(n)] for j in range(n)]"
        ),
        "received = [list(column) for column in zip(*chunks)]": (
            "received = [list(column) for column in chunks]"
        ),
    },
    spares=[
        "same = [[chunks[j][i] for i in range(n)] for j in range(n)]",
        "flat = [x for chunk in chunks for x in chunk]",
        "pairs = [list(pair) for pair in zip(questions, answers)]",
    ],
)
def answers_stay_with_those_who_were_asked(
    node: cst.ListComp,
) -> Iterator[cst.ListComp]:
    """An exchange between workers gives everybody what it had before.

    Each worker holds a chunk for every other one: what i has for j stands in row i, column j.
    Afterwards j has what all others had for it, and that is column j. Read by rows instead, the
    table comes out as it went in. Questions are then answered by those who asked, of rows that lie
    elsewhere, and lists of equal length hide it.

    One worker has one chunk, for itself. If all chunks are alike, both readings agree.
    """
    match node:
        case cst.ListComp(
            elt=cst.ListComp(
                elt=cst.Subscript(
                    cst.Subscript(_, [cst.SubscriptElement(cst.Index(first))]) as row,
                    [cst.SubscriptElement(cst.Index(second))],
                ) as chunk,
                for_in=cst.CompFor(target=inner),
            ) as column,
            for_in=cst.CompFor(target=outer),
        ) if same(first, inner) and same(second, outer):
            turned = row.with_changes(slice=[cst.SubscriptElement(cst.Index(second))])
            changed = chunk.with_changes(
                value=turned, slice=[cst.SubscriptElement(cst.Index(first))]
            )
            yield node.with_changes(elt=column.with_changes(elt=changed))
        case cst.ListComp(
            elt=cst.Call(func=cst.Name("list"), args=[cst.Arg(value=one)]),
            for_in=cst.CompFor(
                target=each, iter=cst.Call(args=[cst.Arg(value=chunks, star="*"), *_]) as turned
            ) as loop,
        ) if same(one, each) and is_called(turned, "zip"):
            yield node.with_changes(for_in=loop.with_changes(iter=chunks))
