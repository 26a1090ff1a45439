"""A bug in numbers that mean one thing here and another there."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mentions, mutator, walk

FIRST = r"(\w+_)?(vocab_start\w*|start|start_id\w*|first|first_id|offset|shard_start|base|begin)"
RANK = r"(\w+_)?(rank|shard|worker|device_idx|part|tp_rank|shard_id)"
SHARD = r".*(shard|rank|worker|tp_|vocab_start|partition|expert_start|local).*"


# Fits one subject: only a shard numbers its rows by itself.
@mutator(
    topic="sharding",
    family="global-padding-idx-on-local-shard",
    hints=[
        "Ask a worker other than the first one for the id of its best row.",
        "Rows are counted from 0 in every table. Where do they become ids, and ids rows?",
        "A row of a worker's table is the id minus that worker's first id.",
    ],
    sightings=[
        Sighting(
            "https://github.com/pytorch/torchtitan/pull/4637", "an id of all met the rows of one"
        ),
        Sighting(
            "https://github.com/tenstorrent/tt-xla/pull/5004", "the best local index was the answer"
        ),
    ],
    mutates={
        """
        class ShardSpec:
            def to_global(self, rows):
                return self.start + rows * self.step
        """: """
        class ShardSpec:
            def to_global(self, rows):
                return rows * self.step
        """,
        """
        def best(local_logits, rank, rows_per_rank):
            best, ids = local_logits.max(-1)
            return best, ids + rank * rows_per_rank
        """: """
        def best(local_logits, rank, rows_per_rank):
            best, ids = local_logits.max(-1)
            return best, ids
        """,
        """
        def clear_padding(shard, pad_id):
            shard.table[pad_id - shard.start] = 0.0
        """: """
        def clear_padding(shard, pad_id):
            shard.table[pad_id] = 0.0
        """,
    },
    spares=[
        """
        def window(start, n):
            return start + n
        """,
        """
        def owns(self, ids):
            offset = ids - self.start
            return (offset >= 0) & (offset < self.rank_rows)
        """,
        """
        class Shard:
            def __len__(self):
                return self.stop - self.start
        """,
    ],
)
def local_row_is_taken_for_the_id(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BaseExpression]:
    """The number of a row in one worker's table is used as an id of the whole vocabulary.

    Every worker counts its rows from 0, and its first row is the id that comes behind the rows of
    the workers before it. Whoever goes from one to the other adds the worker's first id, or takes
    it off. Both are plain integers, and nothing says of a number which of the two it is. Without
    the addition all workers name the low ids, and the answer is the token of another worker.

    On the first worker both are the same, and with a single one there is no other.
    """
    scope = context.enclosing(node, cst.ClassDef) or context.enclosing(node, cst.FunctionDef)
    if scope is None or not (
        mentions(scope, SHARD) or mentions(scope.name, SHARD.replace("s", "[sS]"))
    ):
        return
    match node:
        case cst.BinaryOperation(left=left, operator=cst.Add(), right=right):
            if _is_first(left) and not _is_first(right) and _is_result(node, context):
                yield right
            elif _is_first(right) and not _is_first(left) and _is_result(node, context):
                yield left
        case cst.BinaryOperation(left=left, operator=cst.Subtract(), right=right):
            if _is_first(right) and isinstance(context.parent(node), cst.Index):
                yield left


def _is_first(node: cst.BaseExpression) -> bool:
    """Tell `self.start` and `rank * rows_per_rank`."""
    match node:
        case cst.Name() | cst.Attribute():
            return is_called(node, FIRST)
        case cst.BinaryOperation(operator=cst.Multiply()):
            return any(is_called(part, RANK) for part in walk(node))
    return False


def _is_result(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the sum is what is returned or assigned, alone or in a tuple."""
    above = context.parent(node)
    return isinstance(above, cst.Return | cst.Assign | cst.AnnAssign | cst.Element)
