"""A bug in pools whose blocks are found by their content."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, uncommented

TAKES = r"_?(take|allocate|alloc|evict|pop|get|acquire|append|extend|overwrite|reuse)\w*"
FORGETS = r"_?(forget|unregister|invalidate|uncache|drop_hash|reset_hash|remove_hash)\w*"
INDEX = r"(\w+_)?(cached|by_hash|hash_to_block|hash_to_page|index|prefix_map|lookup)(_\w+)?"


# Fits one subject: only the block manager finds blocks by their content.
@mutator(
    topic="kv_cache",
    family="block-hash-not-chained",
    hints=[
        "Fill the pool until old blocks are reused, then ask for the first prompt again.",
        "When does a block's content change, and who tells the table it is found by?",
        "Before a block gets other content it must no longer be found by the old one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ovg-project/kvcached/issues/362", "a stale hash kept after eviction"
        ),
    ],
    mutates={
        """
        def take(self):
            block = self.blocks[self.free.popleft()]
            self.forget(block)
            block.ref_count = 1
            return block
        """: """
        def take(self):
            block = self.blocks[self.free.popleft()]
            block.ref_count = 1
            return block
        """,
        """
        def alloc(self, n):
            page = self.free_pages.pop()
            self.hash_to_page.pop(self.hashes[page], None)
            return page
        """: """
        def alloc(self, n):
            page = self.free_pages.pop()
            return page
        """,
        """
        def append(self, seq, token):
            if full(seq):
                seq.table.append(self.take())
            else:
                self.pool.forget(seq.table[-1])
            seq.tokens.append(token)
        """: """
        def append(self, seq, token):
            if full(seq):
                seq.table.append(self.take())
            seq.tokens.append(token)
        """,
    },
    spares=[
        """
        def take(self):
            # It gets other content.
            self.forget(block)
            return block
        """,
        """
        def free(self, seq):
            self.pool.forget(seq.block)
            self.done += 1
        """,
        """
        def take(self):
            self.pool.touch(block)
            return block
        """,
    ],
)
def evicted_block_can_still_be_found(
    node: cst.SimpleStatementLine | cst.If, context: Context
) -> Iterator[cst.If | cst.RemovalSentinel]:
    """A block gets new content and is still found by what it held before.

    A block that nobody uses keeps its content, and a table from hashes to blocks lets the next
    prompt revive it. Once it is handed out for other tokens, or written again, that entry must go
    first. If it stays, a prompt that was evicted long ago is said to be cached, and the block it is
    sent to holds the text of somebody else.

    With a large pool nothing is ever evicted, and the block tables look right at every step.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or not is_called(function.name, TAKES):
        return
    match node:
        case cst.If(orelse=cst.Else(body=cst.IndentedBlock([line]))):
            if _forgets(line) and uncommented(line) and context.can_spare(line):
                yield node.with_changes(orelse=None)
        case cst.SimpleStatementLine():
            if _forgets(node) and uncommented(node) and context.can_spare(node):
                yield cst.RemoveFromParent()


def _forgets(line: cst.CSTNode) -> bool:
    """Tell `pool.forget(block)`, `by_hash.pop(h, None)` and `del by_hash[h]`."""
    match line:
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call() as call)]):
            match call.func:
                case cst.Attribute(value=owner, attr=cst.Name(value="pop")):
                    return is_called(owner, INDEX)
            return is_called(call, FORGETS)
        case cst.SimpleStatementLine(body=[cst.Del(target=cst.Subscript() as entry)]):
            return is_called(entry, INDEX)
    return False
