"""A bug in batches whose rows change places."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mentions, mutator, same, walk

ROWS = (
    r"index|indices|idx|rows|row_idx|order|perm|permutation|parents?|parent_\w+|beam_(idx|ids|rows)"
    r"|src_rows|selected|next_indices"
)
KEPT = r"keep(_\w+)?|kept(_\w+)?|alive|survivors"


@mutator(
    topic="decoding",
    family="beam-cache-not-reordered",
    hints=[
        "Let two rows change places, then go on. Does each go on from its own past?",
        "List what is kept per row. Which of these follow when the rows are chosen anew?",
        "All that belongs to a row moves with it, in the same step and by the same numbers.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/issues/46612",
            "caches under another name were not reordered",
        ),
        Sighting(
            "https://github.com/facebookresearch/fairseq2/pull/74",
            "the padding mask stayed behind",
        ),
    ],
    mutates={
        """
        def reorder(self, beam_idx):
            self.tokens = self.tokens[beam_idx]
            self.cache = reorder_cache(self.cache, beam_idx)
        """: [
            """
            def reorder(self, beam_idx):
                self.cache = reorder_cache(self.cache, beam_idx)
            """,
            """
            def reorder(self, beam_idx):
                self.tokens = self.tokens[beam_idx]
            """,
        ],
        """
        def step(tokens, cache, parents, new):
            tokens = np.concatenate([tokens[parents], new], axis=1)
            k, v = cache
            k, v = k[:, parents], v[:, parents]
            return tokens, (k, v)
        """: [
            """
            def step(tokens, cache, parents, new):
                tokens = np.concatenate([tokens, new], axis=1)
                k, v = cache
                k, v = k[:, parents], v[:, parents]
                return tokens, (k, v)
            """,
            """
            def step(tokens, cache, parents, new):
                tokens = np.concatenate([tokens[parents], new], axis=1)
                k, v = cache
                k, v = k, v[:, parents]
                return tokens, (k, v)
            """,
            """
            def step(tokens, cache, parents, new):
                tokens = np.concatenate([tokens[parents], new], axis=1)
                k, v = cache
                k, v = k[:, parents], v
                return tokens, (k, v)
            """,
        ],
    },
    spares=[
        """
        def select(self, rows):
            self.tokens = self.tokens[rows]
        """,
        """
        def read(self, rows):
            tokens = self.tokens[rows]
            lengths = self.lengths[rows]
            return tokens, lengths
        """,
        """
        def filter(self, keep):
            rows = torch.tensor(keep)
            self.tokens = self.tokens[rows]
            self.mask = self.mask[rows]
        """,
        """
        def write(self, rows, out):
            out[rows] = self.attend(rows)
            return out
        """,
        """
        def reorder(self, rows):
            # The cache is the model's memory of the text.
            self.cache = self.cache[rows]
            self.update(rows)
        """,
    ],
)
def one_state_keeps_its_old_rows(
    node: cst.SimpleStatementLine | cst.Subscript, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """One piece of per-row state stays where it was while the others move.

    Beams are chosen anew in every step: row 2 may go on with what was row 0. Tokens, scores, masks
    and caches are parallel, and each is indexed with the parents of the new rows. What is left out
    keeps its shape and belongs to other beams from then on.

    Greedy search never moves a row, nor does a beam that leads from start to end. Otherwise a text
    goes on from another one's past, which a fluent model covers up.
    """
    match node:
        case cst.SimpleStatementLine():
            found = assigned(node)
            plain = all(line.comment is None for line in node.leading_lines)
            if found is not None and plain and _chooses_rows(*found, node, context):
                yield cst.RemoveFromParent()
        case cst.Subscript(value=held):
            line = context.enclosing(node, cst.Assign)
            if line is None or line.value is node or not _is_by_rows(node):
                return
            if all(below is not node for below in walk(line.value)):
                return
            if _is_assigned(held, line) and _rows_are_used_elsewhere(node, context):
                yield held


def _chooses_rows(
    target: cst.BaseExpression, value: cst.BaseExpression, node: cst.CSTNode, context: Context
) -> bool:
    """Tell `x = x[rows]` and `x = reorder(x, rows)` from other assignments."""
    match value:
        case cst.Subscript(value=held) if same(held, target) and _is_by_rows(value):
            return _rows_are_used_elsewhere(node, context)
        case cst.Call(args=args) if any(is_called(arg.value, ROWS) for arg in args):
            owner = value.func.value if isinstance(value.func, cst.Attribute) else None
            moved = [arg.value for arg in args] if owner is None else [owner]
            return any(same(x, target) for x in moved) and _rows_are_used_elsewhere(node, context)
    return False


def _is_by_rows(node: cst.Subscript) -> bool:
    """Tell `x[rows]` and `x[:, rows]`."""
    match node.slice:
        case [*slices, cst.SubscriptElement(cst.Index(cst.Name() as rows))]:
            plain = all(isinstance(other.slice, cst.Slice) for other in slices)
            return plain and is_called(rows, ROWS)
    return False


def _is_assigned(held: cst.BaseExpression, line: cst.Assign) -> bool:
    return any(same(below, held) for target in line.targets for below in walk(target.target))


def _rows_are_used_elsewhere(node: cst.CSTNode, context: Context) -> bool:
    """Tell it also from a choice of the rows to keep: what stays behind would not fit any more."""
    function = context.enclosing(node, cst.FunctionDef)
    return function is not None and not mentions(function, KEPT) and context.can_spare(node)
