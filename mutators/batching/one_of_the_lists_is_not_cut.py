"""A bug in lists that lie side by side."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, literal, mutator, name_of, uncommented

ROW = r"(\w+_)?(index|row|idx|slot|b|i|j)"


@mutator(
    topic="batching",
    family="guarded-filter-leaves-stale-rows",
    hints=[
        "Shorten or thin out what is held, go on with what is left, and look at every part of it.",
        "Which lists have an entry for the same thing, and is each of them cut?",
        "Lists that share their numbering are cut together, or none of them is right.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1772",
            "some lists per row were not filtered",
        ),
        Sighting(
            "https://github.com/jundot/omlx/pull/1824", "entries had slipped against their requests"
        ),
    ],
    mutates={
        """
        def truncate(seq, n):
            del seq.tokens[n:]
            del seq.hashes[n // block_size :]
        """: [
            """
            def truncate(seq, n):
                del seq.hashes[n // block_size :]
            """,
            """
            def truncate(seq, n):
                del seq.tokens[n:]
            """,
        ],
        """
        def drop(self, row):
            del self.params[row]
            self.streams.pop(row)
            self.n_dropped += 1
        """: [
            """
            def drop(self, row):
                del self.params[-1]
                self.streams.pop(row)
                self.n_dropped += 1
            """,
            """
            def drop(self, row):
                del self.params[row]
                self.streams.pop(-1)
                self.n_dropped += 1
            """,
        ],
        """
        def keep(self, n):
            self.ids = self.ids[:n]
            self.scores = self.scores[:n]
        """: [
            """
            def keep(self, n):
                self.scores = self.scores[:n]
            """,
            """
            def keep(self, n):
                self.ids = self.ids[:n]
            """,
        ],
    },
    spares=[
        """
        def drop(self, row):
            del self.params[row]
            self.n_dropped += 1
        """,
        """
        def drop(self, row):
            del self.params[row]
            del self.rows[:2]
        """,
        """
        def drop(self, row):
            # Both.
            del self.params[row]
            # Both.
            del self.streams[row]
        """,
    ],
)
def one_of_the_lists_is_not_cut(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """Of several lists that belong together one keeps the entries that the others lose.

    Tokens and their hashes, requests and their random streams, ids and scores: entry i of each is
    about the same thing. When entries go, they go from all of them. In the list that was left out
    every later entry is about something else.

    Where the last entries go, the rest stays in step for a while. A list that is too long, or has
    lost another entry than the rest, raises nothing.
    """
    own = _cut(node)
    beside = (*context.before(node)[-1:], *context.after(node)[:1])
    others = [cut for line in beside if (cut := _cut(line)) is not None]
    if own is None or not uncommented(node):
        return
    owner, held, row = own
    if not any(o == owner and h != held and (r is None) == (row is None) for o, h, r in others):
        return
    if row is not None:
        if is_called(row, ROW):
            yield node.deep_replace(row, literal(-1))
    elif context.can_spare(node):
        yield cst.RemoveFromParent()


def _cut(line: cst.CSTNode) -> tuple[str, str, cst.Name | None] | None:
    """Return owner and name of the list a line takes entries from, and the row if it is one."""
    match line:
        case cst.SimpleStatementLine(
            body=[
                cst.Del(
                    target=cst.Subscript(
                        value=cst.Attribute(value=owner) as held,
                        slice=[cst.SubscriptElement(slice=which)],
                    )
                )
            ]
        ):
            match which:
                case cst.Index(value=cst.Name() as row):
                    return name_of(owner), name_of(held), row
                case cst.Slice():
                    return name_of(owner), name_of(held), None
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    cst.Call(
                        func=cst.Attribute(cst.Attribute(value=owner) as held, cst.Name("pop")),
                        args=[cst.Arg(value=cst.Name() as row)],
                    )
                )
            ]
        ):
            return name_of(owner), name_of(held), row
        case cst.SimpleStatementLine(
            body=[
                cst.Assign(
                    targets=[cst.AssignTarget(target=cst.Attribute(value=owner) as target)],
                    value=cst.Subscript(
                        value=held, slice=[cst.SubscriptElement(cst.Slice(lower=None))]
                    ),
                )
            ]
        ) if target.deep_equals(held):
            return name_of(owner), name_of(target), None
    return None
