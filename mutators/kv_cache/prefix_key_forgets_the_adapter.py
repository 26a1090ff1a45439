"""A bug in caches that are found by what they hold."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

KEY_MAKER = r"\w*(hash|match|lookup|key|digest|fingerprint)\w*"
KEY = r"(\w+_)?(key|identity|hash|digest)"
EXTRA = r"(\w+_)?(adapter|lora|extra|salt|image|model|tenant)(_\w+)?"


# Fits one subject: only the block manager finds blocks by their content.
@mutator(
    topic="kv_cache",
    family="prefix-key-lacks-identity",
    hints=[
        "Send one prompt twice, with something else about the request changed. What is reused?",
        "What do keys and values depend on beside the tokens? Follow it into each lookup.",
        "All that the stored values depend on is part of the key that they are found by.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/12603",
            "images and adapters were not in the block hash",
        ),
        Sighting("https://github.com/dingodb/DingoCache/pull/116", "the layer was not in the key"),
    ],
    mutates={
        "h = hash_block(parent, chunk, seq.adapter)": "h = hash_block(parent, chunk)",
        """
        def admit(self, tokens, lora_id):
            pages = self.tree.match_prefix(tokens, lora=lora_id)
            self.start(tokens, pages, lora_id)
        """: """
        def admit(self, tokens, lora_id):
            pages = self.tree.match_prefix(tokens)
            self.start(tokens, pages, lora_id)
        """,
        "key = (parent, tuple(ids), request.cache_salt)": "key = (parent, tuple(ids))",
    },
    spares=[
        """
        def can_admit(self, tokens, adapter):
            return self.fits(self.match_prefix(tokens, adapter))
        """,
        "seq = Sequence(tokens, request.adapter)",
        "key = (parent, tuple(ids))",
        "pair = (tokens, request.adapter)",
    ],
)
def prefix_key_forgets_the_adapter(
    node: cst.Call | cst.Tuple, context: Context
) -> Iterator[cst.Call | cst.Tuple]:
    """A stored prefix is looked for by its tokens alone, not by what else made it what it is.

    Keys and values come from the tokens and from the weights that saw them. With adapters, images
    or a tenant's salt the same tokens have other values. The key of a stored block holds all of it,
    wherever it is built. Where one part is left out, a request gets the values of another.

    Tests seldom run two requests that differ in nothing but the adapter, and what comes back has
    the right shape and a plausible text.
    """
    match node:
        case cst.Call(args=[*first, cst.Arg(value=extra)]) if first and is_called(node, KEY_MAKER):
            if is_called(extra, EXTRA) and context.can_spare(extra):
                last = first[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
                yield node.with_changes(args=[*first[:-1], last])
        case cst.Tuple(elements=[*kept, cst.Element(value=extra)]) if len(kept) > 1:
            if _is_key(node, context) and is_called(extra, EXTRA) and context.can_spare(extra):
                end = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
                yield node.with_changes(elements=[*kept[:-1], end])


def _is_key(node: cst.Tuple, context: Context) -> bool:
    match context.parent(node):
        case cst.Assign(targets=[cst.AssignTarget(target=target)]):
            return is_called(target, KEY)
    return False
