"""A bug in the hashes by which equal prefixes find each other."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mutator

HASHES = r"(\w+_)?(hashes|keys|digests)"
ROOT = r"\w*(ROOT|root|SEED|seed|INIT|init|NONE_HASH|EMPTY)\w*"


# Fits one subject: only the block manager hashes its blocks.
@mutator(
    topic="kv_cache",
    family="block-hash-not-chained",
    hints=[
        "Cache a text of several blocks, step by step. Is a repetition found, and only that?",
        "From which earlier block does the hash of a block start, for the third block as well?",
        "A block's hash goes on from that of the block right before it, and so holds all its past.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/aibrix/pull/2330",
            "equal blocks after different prefixes collided",
        ),
    ],
    mutates={
        "parent_hash = seq.hashes[-1] if seq.hashes else ROOT_HASH": [
            "parent_hash = ROOT_HASH",
            "parent_hash = seq.hashes[0] if seq.hashes else ROOT_HASH",
        ],
        "prev = ROOT if not self.block_hashes else self.block_hashes[-1]": [
            "prev = ROOT",
            "prev = ROOT if not self.block_hashes else self.block_hashes[0]",
        ],
    },
    spares=[
        "newest = tokens[-1] if tokens else bos",
        "parent_hash = seq.hashes[index] if seq.hashes else ROOT_HASH",
        "last = layers[-1] if layers else ROOT",
    ],
)
def blocks_are_hashed_without_their_past(
    node: cst.IfExp,
) -> Iterator[cst.BaseExpression]:
    """The hash of a block does not go on from the block before it.

    What a token's keys and values are depends on everything before it. So a block is known by its
    own tokens and by the hash of its predecessor, which in turn holds all that came earlier. If a
    later block starts again at the root, or from some other block, two texts that share a passage
    are taken for one, and a text that was truly seen before is not found.

    The first blocks are hashed rightly, and tests seldom use prompts of three blocks and more.
    """
    match node:
        case cst.IfExp(body=cst.Subscript() as newest, orelse=root):
            first = "body"
        case cst.IfExp(body=root, orelse=cst.Subscript() as newest):
            first = "orelse"
        case _:
            return
    match newest.slice:
        case [cst.SubscriptElement(cst.Index(cst.UnaryOperation(cst.Minus(), cst.Integer("1"))))]:
            pass
        case _:
            return
    if is_called(newest, HASHES) and is_called(root, ROOT):
        yield root
        front = newest.with_changes(slice=[cst.SubscriptElement(cst.Index(cst.Integer("0")))])
        yield node.with_changes(**{first: front})
