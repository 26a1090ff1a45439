"""A bug in tables that are filled entry by entry."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, same, walk


@mutator(
    topic="tokenizer",
    family="duplicate-merge-last-wins",
    hints=[
        "Give the same entry twice. What has become of the first one?",
        "Which table is filled from a list that others wrote, and can its lines repeat?",
        "What is there already keeps its place: the first entry counts, or the second is refused.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ohdearquant/lattice/pull/260", "a repeated merge got the last rank"
        ),
        Sighting(
            "https://github.com/ohdearquant/lattice/issues/259", "found by a sweep over the source"
        ),
    ],
    mutates={
        """
        for rank, pair in enumerate(pairs):
            if pair in ranks:
                raise ValueError(f"{pair} is there twice")
            ranks[pair] = rank
        """: """
        for rank, pair in enumerate(pairs):
            ranks[pair] = rank
        """,
        """
        for rank, pair in enumerate(pairs):
            ranks.setdefault(pair, rank)
        """: """
        for rank, pair in enumerate(pairs):
            ranks[pair] = rank
        """,
        """
        def add(self, name):
            if not name or name in self.ids:
                raise ValueError(name)
            new_id = self.n
            self.ids[name] = new_id
        """: """
        def add(self, name):
            if not name:
                raise ValueError(name)
            new_id = self.n
            self.ids[name] = new_id
        """,
    },
    spares=[
        """
        if pair in ranks:
            raise ValueError(pair)
        kept[pair] = rank
        """,
        "groups.setdefault(key, []).append(item)",
        """
        if name not in ids:
            raise KeyError(name)
        ids[name] = value
        """,
    ],
)
def repeated_entry_replaces_the_first(
    node: cst.If | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """An entry that is there already is written once more, and the first one is lost.

    A table of merges, of special tokens or of requests has one entry per key. The order of a merge
    list is its meaning, so that a pair named again later must not move the pair to the later rank;
    and a request under the name of another one must not take its place. Assigning to a key says
    nothing when the key is taken.

    Clean files have no line twice, and clean callers never use a name again.
    """
    match node:
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    cst.Call(
                        cst.Attribute(table, cst.Name("setdefault")), [cst.Arg(key), cst.Arg(value)]
                    )
                )
            ]
        ):
            entry = cst.Subscript(table, [cst.SubscriptElement(cst.Index(key))])
            yield node.with_changes(body=[cst.Assign([cst.AssignTarget(entry)], value)])
        case cst.If(test=test, body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Raise()])])):
            if node.orelse is not None or any(line.comment for line in node.leading_lines):
                return
            if _asks_for(test, context.after(node)) and context.can_spare(node):
                yield cst.RemoveFromParent()
            match test:
                case cst.BooleanOperation(left, cst.Or(), right):
                    if _asks_for(right, context.after(node)):
                        yield node.with_changes(test=left)


def _asks_for(test: cst.BaseExpression, below: tuple[cst.BaseStatement, ...]) -> bool:
    """Tell whether `key in table` is asked of an entry that a line below writes."""
    match test:
        case cst.Comparison(left=key, comparisons=[cst.ComparisonTarget(cst.In(), table)]):
            parts = [part.value for part in key.elements] if isinstance(key, cst.Tuple) else [key]
            if not parts:
                return False  # `() in table`: no subscript is empty
            entry = cst.Subscript(table, [cst.SubscriptElement(cst.Index(part)) for part in parts])
            targets = [n for line in below for n in walk(line) if isinstance(n, cst.AssignTarget)]
            return any(same(written.target, entry) for written in targets)
    return False
