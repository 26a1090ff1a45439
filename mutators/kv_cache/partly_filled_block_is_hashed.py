"""A bug in which blocks of a sequence may be found again."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mentions, mutator, pattern, walk

SIZE = r"(\w+_)?(block|page)_size|block_len|bs"
HASHES = r"(\w+_)?(hash|cached|key)\w*|\w*hashes"
CEILING = r"cdiv|ceil_div|div_up|ceildiv|round_up_div"
FLOOR = pattern("$n // $size", size=SIZE)
CEIL = pattern("$ceil($n, $size)")
NEGATED = pattern("-(-$n // $size)")


# Fits one subject: only the block manager hashes its blocks.
@mutator(
    topic="kv_cache",
    family="block-hash-not-chained",
    hints=[
        "Use a prompt that ends within a block, and let it grow. What is found again?",
        "How many blocks of a text may be looked up: those it begins, or those it fills?",
        "A block that still has room has no identity yet; only full blocks get a hash.",
    ],
    sightings=[
        Sighting("https://github.com/vllm-project/vllm/pull/5188", "on hashes of partial blocks"),
        Sighting(
            "https://github.com/vllm-project/aibrix/pull/2330",
            "a hash that did not tell texts apart",
        ),
    ],
    mutates={
        """
        def cdiv(a, b):
            return -(-a // b)

        def commit(seq, n):
            for i in range(len(seq.hashes), n // block_size):
                seq.hashes.append(hash_block(seq, i))
        """: """
        def cdiv(a, b):
            return -(-a // b)

        def commit(seq, n):
            for i in range(len(seq.hashes), cdiv(n, block_size)):
                seq.hashes.append(hash_block(seq, i))
        """,
        "del self.page_hashes[n // self.page_size :]": (
            "del self.page_hashes[-(-n // self.page_size) :]"
        ),
    },
    spares=[
        "n_pages = capacity // page_size",
        "del seq.tokens[n // 2 :]",
        "page = table[i // page_size]",
    ],
)
def partly_filled_block_is_hashed(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.CSTNode]:
    """A block that is not full yet counts among those that have a hash.

    A block is shared by the hash of its tokens. While it still fills up, its content changes under
    that hash, so the number of blocks with a hash is rounded down: only whole blocks count. Rounded
    up, the last block is offered after its first token. It goes on being written, and others find
    it by what it was.

    For lengths that are whole blocks both ways of rounding agree, and the table of the sequence
    itself is right in any case.
    """
    holes = FLOOR.match(node)
    if holes is None or not _counts_hashes(node, context):
        return
    ceiling = next(
        (
            f.name
            for f in context.module.body
            if isinstance(f, cst.FunctionDef) and is_called(f.name, CEILING)
        ),
        None,
    )
    if ceiling is not None:
        yield fill(CEIL, {**holes, "ceil": ceiling})
    else:
        yield fill(NEGATED, holes)


def _counts_hashes(node: cst.BinaryOperation, context: Context) -> bool:
    """Tell whether the quotient bounds a slice of hashes or a loop that makes or asks for them."""
    for above in context.ancestors(node):
        match above:
            case cst.Subscript(value=cut):
                return is_called(cut, HASHES) and any(isinstance(n, cst.Slice) for n in walk(above))
            case cst.For(iter=bounds):
                return any(n is node for n in walk(bounds)) and mentions(above.body, HASHES)
            case cst.BaseStatement():
                return False
    return False
