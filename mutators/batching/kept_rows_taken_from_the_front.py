"""A bug in batches whose rows come and go."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mutator, pattern, same, walk

ROWS = r"index|indices|idx|rows|order|perm|keep_idx|kept_rows|selected|kept_indices"
FRONT = pattern("$x[: len($rows)]")


@mutator(
    topic="batching",
    family="filter-by-prefix-slice",
    hints=[
        "Let the first request of three finish and go on with the other two. Are they themselves?",
        "List all that is kept per row. Is every piece of it selected in the same way?",
        "Rows are kept by their numbers: the first n rows are the right ones only by luck.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang/pull/9252",
            "one tensor cut with [:n], the others indexed",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/issues/46612",
            "some of the state was not reordered with the beams",
        ),
    ],
    mutates={
        """
        def select_rows(self, index):
            self.k = self.k[:, index]
            self.lengths = self.lengths[index]
        """: """
        def select_rows(self, index):
            self.k = self.k[:, index]
            self.lengths = self.lengths[: len(index)]
        """,
        """
        tokens, scores = tokens[order], scores[order]
        """: [
            """
            tokens, scores = tokens[: len(order)], scores[order]
            """,
            """
            tokens, scores = tokens[order], scores[: len(order)]
            """,
        ],
    },
    spares=[
        "lengths = lengths[index]",
        """
        held = table[index]
        other = table[index]
        """,
        """
        tokens = tokens[keep]
        scores = scores[keep]
        """,
    ],
)
def kept_rows_taken_from_the_front(node: cst.Subscript, context: Context) -> Iterator[cst.CSTNode]:
    """One piece of per-row state keeps the first rows instead of the selected ones.

    A batch is many tensors that share their rows: tokens, lengths, positions, keys. When requests
    leave, or beams move, all of them are indexed with the same row numbers. A piece that is only
    cut to the new size has the right shape, and belongs to other requests.

    As long as the rows that leave are the last ones, the first `n` rows are the right ones; and in
    a batch of one there is nothing to confuse.
    """
    match node:
        case cst.Subscript(value=held, slice=[cst.SubscriptElement(cst.Index(cst.Name() as rows))]):
            scope = context.enclosing(node, cst.FunctionDef) or context.module
            if not is_called(rows, ROWS) or not _is_reassigned(held, node, context):
                return
            uses = [n for n in walk(scope) if isinstance(n, cst.SubscriptElement)]
            if sum(same(use.slice, node.slice[0].slice) for use in uses) > 1:
                yield fill(FRONT, {"x": held, "rows": rows})


def _is_reassigned(held: cst.BaseExpression, node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the selection replaces what it selects from: `x = x[rows]`."""
    line = context.enclosing(node, cst.Assign)
    if line is None or isinstance(context.parent(node), cst.Call | cst.Arg):
        return False
    targets = [target for t in line.targets for target in walk(t.target)]
    return not any(t is node for t in targets) and any(same(t, held) for t in targets)
