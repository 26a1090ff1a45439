"""A bug in distributing ids in one of several ways."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, walk
from halfhour.mutators._idioms import returned_at_once

DEALT = ("cyclic", "interleaved", "strided", "round_robin", "striped", "zigzag", "per_part")


# Fits one subject: only a sharded table is dealt out in two ways.
@mutator(
    topic="sharding",
    family="fused-weight-contiguous-shard",
    hints=[
        "Share the table out in the other way, and compare element by element.",
        "There are two ways to share out. Which steps have to know which of them it is?",
        "Rows go back in the way in which they were dealt out, and owners are found so, too.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NVIDIA-NeMo/Automodel/pull/1324",
            "parts were cut as one run of rows",
        ),
        Sighting(
            "https://github.com/ndif-team/nnsight/pull/719", "a test compared rows in any order"
        ),
    ],
    mutates={
        """
        def owner(self, ids):
            if self.strategy == "cyclic":
                return ids % self.n_workers
            return ids // self.rows
        """: """
        def owner(self, ids):
            return ids // self.rows
        """,
        """
        def merge(self, parts):
            merged = np.concatenate(parts)
            if self.layout == "interleaved":
                merged = np.stack(parts, axis=1).reshape(-1)
            return merged[: self.n_real]
        """: """
        def merge(self, parts):
            merged = np.concatenate(parts)
            return merged[: self.n_real]
        """,
        """
        def build(n, strategy="block"):
            return partition(n, strategy)

        def partition(n, strategy="block"):
            return strategy == "cyclic"
        """: """
        def build(n, strategy="block"):
            return partition(n)

        def partition(n, strategy="block"):
            return strategy == "cyclic"
        """,
    },
    spares=[
        """
        if self.strategy == "beam":
            return beam(ids)
        """,
        """
        if strategy == "cyclic":
            raise ValueError(strategy)
        """,
    ],
)
def dealt_ids_are_read_as_runs(
    node: cst.IndentedBlock | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """One step takes it that every worker has a run of ids, though they were dealt out one by one.

    Rows can be shared out as runs, or dealt out in turn. Looking up the owner of an id, cutting the
    table and putting columns together again are three sides of one rule, and each must follow the
    way that was chosen. A step that always goes by runs gets the right number of rows of the right
    shape, in the wrong order.

    Runs are the default, and each number of rows is right either way.
    """
    match node:
        case cst.IndentedBlock(body=lines):
            for at, line in enumerate(lines[:-1]):
                if _is_the_other_way(line) and context.can_spare(line):
                    rest = [*lines[:at], *lines[at + 1 :]]
                    yield node.with_changes(body=returned_at_once(rest))
        case cst.Call(args=[*others, cst.Arg(value=value, keyword=None)]) if others:
            if is_called(value, "strategy|layout|order|scheme") and _has_a_default(node, context):
                last = others[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
                yield node.with_changes(args=[*others[:-1], last])


def _is_the_other_way(line: cst.CSTNode) -> bool:
    """Tell `if strategy == "cyclic":` with a way of its own in one line below."""
    match line:
        case cst.If(
            test=cst.Comparison(
                comparisons=[cst.ComparisonTarget(cst.Equal(), cst.SimpleString() as word)]
            ),
            body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Return() | cst.Assign()])]),
            orelse=None,
        ):
            return word.evaluated_value in DEALT and not any(n.comment for n in line.leading_lines)
    return False


def _has_a_default(node: cst.Call, context: Context) -> bool:
    """Tell whether the function below this name does without its last argument."""
    for other in walk(context.module):
        match other:
            case cst.FunctionDef(name=name, params=cst.Parameters(params=[*_, last])) if (
                isinstance(node.func, cst.Name) and name.value == node.func.value
            ):
                return last.default is not None and len(node.args) == len(other.params.params)
    return False
