"""A bug where keys and values are moved side by side."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, uncommented

VALUE_WORDS = re.compile(r"(?<![a-zA-Z])v(?![a-zA-Z])|values?(?![a-z])")


# Fits one subject: elsewhere keys and values are arguments, which have to be used.
@mutator(
    topic="kv_cache",
    family="copy-on-write-too-small",
    hints=[
        "Move or copy part of the cache, then compare keys and values one by one with the source.",
        "Where the keys are written, are the values written as well, and the other way round?",
        "Keys and values of a token move together: a step that does one does the other.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/55112",
            "only part of a shared block was copied",
        ),
    ],
    mutates={
        """
        for src, dst in pairs:
            self.k[:, dst] = self.k[:, src]
            self.v[:, dst] = self.v[:, src]
        """: [
            """
            for src, dst in pairs:
                self.v[:, dst] = self.v[:, src]
            """,
            """
            for src, dst in pairs:
                self.k[:, dst] = self.k[:, src]
            """,
        ],
        """
        np.copyto(keys_pool[dst], keys_pool[src])
        np.copyto(values_pool[dst], values_pool[src])
        """: [
            """
            np.copyto(values_pool[dst], values_pool[src])
            """,
            """
            np.copyto(keys_pool[dst], keys_pool[src])
            """,
        ],
    },
    spares=[
        """
        k = k.float()
        v = v.float()
        """,
        """
        self.k[slot] = k
        self.lengths[slot] = 1
        """,
        """
        for dst in pages:
            # Both halves.
            self.k[dst] = self.k[0]
            self.v[dst] = self.v[0]
        """,
    ],
)
def values_stay_behind_their_keys(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.RemovalSentinel]:
    """Of the keys and the values of some tokens only one half is written.

    A cache is two tensors that share their layout, and each copy, import or write is two lines. If
    one of them is missing, the keys of a token meet the values of whoever had the place before.

    The weights of the attention are right, so are all shapes, and a place that was never used has
    zeros for values. The longer the text, the less one wrong value weighs.
    """
    pairs: list[tuple[cst.BaseStatement, cst.BaseStatement]]
    pairs = [(above, node) for above in context.before(node)[-1:]]
    pairs += [(node, below) for below in context.after(node)[:1]]
    for keys, values in pairs:
        if uncommented(keys, values) and _writes(keys) and _writes(values):
            alike = _as_keys(values) == _text(keys) != _text(values)
            if alike and context.can_spare(node):
                yield cst.RemoveFromParent()


def _writes(line: cst.CSTNode) -> bool:
    """Tell a line that writes into something which exists."""
    match line:
        case cst.SimpleStatementLine(
            body=[cst.Assign(targets=[cst.AssignTarget(cst.Subscript())])]
        ):
            return True
        case cst.SimpleStatementLine(body=[cst.Expr(value=cst.Call())]):
            return True
    return False


def _text(line: cst.CSTNode) -> str:
    return cst.Module([]).code_for_node(line).strip()


def _as_keys(line: cst.CSTNode) -> str:
    """Return the line's text with its values taken for keys."""
    return VALUE_WORDS.sub(
        lambda word: "key" + word[0][5:] if len(word[0]) > 1 else "k", _text(line)
    )
