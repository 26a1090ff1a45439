"""A bug in batches whose rows come and go."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, integer, literal, mutator, same


@mutator(
    topic="batching",
    family="filter-by-prefix-slice",
    hints=[
        "Let the first of three seeded requests leave. Do the others draw what they drew alone?",
        "Follow every list that has one entry per request through a departure.",
        "All lists must lose the same entry, or each request behind it inherits its neighbour's.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang/pull/9252",
            "one piece of state was cut at the end instead",
        ),
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1772",
            "a removed row's slot survived in one list",
        ),
    ],
    mutates={
        """
        def remove(self, index):
            del self.params[index]
            del self.generators[index]
        """: [
            """
            def remove(self, index):
                del self.params[-1]
                del self.generators[index]
            """,
            """
            def remove(self, index):
                del self.params[index]
                del self.generators[-1]
            """,
        ],
        """
        def finish(self, slot):
            self.requests.pop(slot)
            self.lengths.pop(slot)
        """: [
            """
            def finish(self, slot):
                self.requests.pop(-1)
                self.lengths.pop(slot)
            """,
            """
            def finish(self, slot):
                self.requests.pop(slot)
                self.lengths.pop(-1)
            """,
        ],
    },
    spares=[
        """
        def remove(self, index):
            del self.params[index]
        """,
        """
        def remove(self, name):
            self.params.pop(name, None)
            self.generators.pop(name, None)
        """,
    ],
)
def departing_row_takes_anothers_state(
    node: cst.Index | cst.Arg, context: Context
) -> Iterator[cst.CSTNode]:
    """When a request leaves, one of its lists loses the last entry instead of its own.

    State per request is often spread over several lists that are joined by nothing but the row
    number. Every departure must take the same entry out of all of them. If one list is shortened at
    its end instead, it keeps the state of the one who left, and from there on every request works
    with its neighbour's: its random stream, its parameters, its length.

    All lists still have the same length. When the last row leaves, or all leave together, the slip
    is invisible.
    """
    line = context.statement(node)
    index = None if line is None else _departing(line)
    if line is None or node.value is not index:
        return
    siblings = (*context.before(line), line, *context.after(line))
    if sum(_leaves_with(index, sibling) for sibling in siblings) > 1:
        yield node.with_changes(value=literal(-1))


def _leaves_with(index: cst.BaseExpression, line: cst.BaseStatement) -> bool:
    other = _departing(line)
    return other is not None and same(other, index)


def _departing(line: cst.BaseStatement) -> cst.BaseExpression | None:
    """Return `i` for `del self.rows[i]` and for `self.rows.pop(i)`."""
    match line:
        case (
            cst.SimpleStatementLine(
                body=[
                    cst.Del(
                        cst.Subscript(
                            value=cst.Attribute(), slice=[cst.SubscriptElement(cst.Index(index))]
                        )
                    )
                ]
            )
            | cst.SimpleStatementLine(
                body=[
                    cst.Expr(
                        cst.Call(
                            func=cst.Attribute(value=cst.Attribute(), attr=cst.Name("pop")),
                            args=[cst.Arg(index)],
                        )
                    )
                ]
            )
        ):
            return index if integer(index) is None else None
    return None
