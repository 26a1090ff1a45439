"""A bug in pools whose blocks have several owners."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mentions, mutator, uncommented

OWNERS = r"(\w+_)?(ref_?counts?|refs?|ref_?cnt|n_refs|n_owners|use_count|n_users)"
FREE = r"(\w+_)?free(_\w+)?|freelist|lru(_\w+)?|evictable(_\w+)?"


# Fits one subject: only the block manager counts the owners of a block.
@mutator(
    topic="kv_cache",
    family="page-table-keeps-freed-pages",
    hints=[
        "Let two sequences share a block, end one, and fill the pool. What does the other read?",
        "When does a block enter and leave the queue of free ones, and who may still name it?",
        "A block is in the queue of free ones exactly as long as it has no owner.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang-jax/issues/1618",
            "places that a revived node took over were freed",
        ),
        Sighting(
            "https://github.com/sgl-project/mini-sglang/pull/142", "freed pages were still in use"
        ),
    ],
    mutates={
        """
        block.ref_count -= 1
        if block.ref_count == 0:
            self.free_queue[block_id] = None
        """: """
        block.ref_count -= 1
        self.free_queue[block_id] = None
        """,
        """
        if block.ref_count == 0:
            self.free_blocks.remove(block)
        block.ref_count += 1
        """: """
        block.ref_count += 1
        """,
        """
        def unref(self, page):
            self.refs[page] -= 1
            if not self.refs[page]:
                self.free_list.append(page)
            return page
        """: """
        def unref(self, page):
            self.refs[page] -= 1
            self.free_list.append(page)
            return page
        """,
    },
    spares=[
        """
        if block.ref_count == 0:
            self.waiting.append(block)
        """,
        """
        if block.ref_count == 0:
            self.free.append(block)
        else:
            self.shared += 1
        """,
        """
        if n_left == 0:
            self.free_queue[block_id] = None
        """,
    ],
)
def block_in_use_counts_as_free(
    node: cst.If,
) -> Iterator[cst.BaseStatement | cst.RemovalSentinel]:
    """A block that has an owner stands in the queue of free blocks.

    A shared block goes back to the pool with its last owner, and a free one that is revived leaves
    the queue with its first. Both depend on the count of owners. Without the test a block is free
    and in use at once, and the next sequence that needs room gets it and writes over it.

    A sequence that shares nothing never sees the difference, and the content is overwritten only
    when the queue has come round to it.
    """
    match node:
        case cst.If(test=test, orelse=None, body=cst.IndentedBlock([line])) if _no_owner(test):
            plain = uncommented(line) and all(above.comment is None for above in node.leading_lines)
            if not plain or not mentions(line, FREE):
                return
            if _takes_out(line):
                yield cst.RemoveFromParent()
            elif isinstance(line, cst.SimpleStatementLine):
                yield line.with_changes(leading_lines=node.leading_lines)


def _no_owner(test: cst.BaseExpression) -> bool:
    """Tell `block.ref_count == 0` and `not block.ref_count`."""
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=owners):
            return is_called(owners, OWNERS)
        case cst.Comparison(
            left=owners,
            comparisons=[
                cst.ComparisonTarget(cst.Equal() | cst.LessThanEqual(), cst.Integer(value="0"))
            ],
        ):
            return is_called(owners, OWNERS)
    return False


def _takes_out(line: cst.BaseStatement) -> bool:
    """Tell a line that takes the block out of the queue from one that puts it in."""
    match line:
        case cst.SimpleStatementLine(body=[cst.Del()]):
            return True
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call() as call)]):
            return is_called(call, "remove|discard|pop|popitem|erase")
    return False
