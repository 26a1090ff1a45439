"""A bug in block tables and in the books of what is free."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, uncommented

GIVES_BACK = r"_?(release|free|deref|unref|decref|give_back|return|recycle|put_back)(_\w+)?"
TABLE = r"(\w+_)?(tables?|pages|blocks|page_ids|block_ids|slots)"


# Fits one subject: only the block manager exchanges a block in a table.
@mutator(
    topic="kv_cache",
    family="page-table-keeps-freed-pages",
    hints=[
        "Let a sequence write into a block that another one shares. Which block does it name next?",
        "After a block is given back, who still names it?",
        "What names a block that was given back must name its successor from then on.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/mini-sglang/pull/142",
            "duplicate pages were freed and still in the table",
        ),
    ],
    mutates={
        """
        src, dst = seq.block_table[-1], pool.take()
        pool.release(src)
        seq.block_table[-1] = dst
        return src, dst
        """: """
        src, dst = seq.block_table[-1], pool.take()
        pool.release(src)
        return src, dst
        """,
        """
        n = len(shared_pages)
        self.page_table[row, :n] = shared_pages
        self.allocator.free(duplicates)
        return n
        """: """
        n = len(shared_pages)
        self.allocator.free(duplicates)
        return n
        """,
    },
    spares=[
        """
        dst = pool.take()
        pool.release(src)
        seq.block_table[-1] = dst
        """,
        """
        pool.touch(src)
        seq.block_table[-1] = dst
        return src, dst
        """,
        """
        pool.release(src)
        # The copy takes its place.
        seq.block_table[-1] = dst
        return src, dst
        """,
    ],
)
def table_keeps_the_block_it_gave_back(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.RemovalSentinel]:
    """A block is given back, and the table of the sequence goes on naming it.

    Giving a block back and taking its name out of the table belong together. If the table is not
    rewritten, the sequence reads and writes a block that has another owner, or soon will, and the
    block that was meant for it is lost.

    As long as the pool has other free blocks, the one given back keeps its content, and the
    sequence reads what it should. It needs a full pool or a second writer to show.
    """
    match assigned(node):
        case cst.Subscript() as entry, _ if is_called(entry, TABLE):
            around = (*context.before(node)[-1:], *context.after(node)[:1])
            spared = uncommented(node) and context.can_spare(node)
            if spared and any(_gives_back(line) for line in around):
                yield cst.RemoveFromParent()


def _gives_back(line: cst.BaseStatement) -> bool:
    match line:
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call() as call)]):
            return is_called(call, GIVES_BACK)
    return False
