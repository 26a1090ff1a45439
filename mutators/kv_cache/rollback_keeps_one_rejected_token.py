"""A bug in caches that can forget their newest tokens."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    called,
    edge_moved_up,
    fill,
    is_called,
    mutator,
    pattern,
)
from halfhour.mutators._idioms import LENGTH

FORGETS = re.compile(
    r"_?(\w+_)?(rollback|roll_back|rewind|truncate|trim|crop|undo|drop|forget)(_\w+)?"
)
POSITION = r"(\w+_)?(pos|positions?|idx|index|col|columns?|slots?)"
KEPT = rf"{LENGTH}|n|(n|num|new)_\w+|keep"
ONE_MORE = pattern("$n + 1")
SPACED = cst.Colon(whitespace_before=cst.SimpleWhitespace(" "))


@mutator(
    topic="kv_cache",
    family="speculative-rollback-wrong-amount",
    hints=[
        "Draft three tokens, reject one of them, go on. Compare with never having drafted it.",
        "After a rollback to n tokens, which positions does the cache still hold?",
        "Positions count from 0: n tokens hold the positions 0 to n - 1, and n itself must go.",
    ],
    sightings=[
        Sighting(
            "https://github.com/lablup/mlxcel/issues/994", "the draft cache was rewound too far"
        ),
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1109", "rejected tokens stayed in the cache"
        ),
    ],
    mutates={
        """
        def rollback(self, n_tokens):
            self.lengths = self.lengths - n_tokens
            dropped = self.positions >= self.lengths[:, None]
        """: """
        def rollback(self, n_tokens):
            self.lengths = self.lengths - n_tokens
            dropped = self.positions > self.lengths[:, None]
        """,
        """
        def truncate_cache(pos, new_len):
            return pos[pos < new_len]
        """: """
        def truncate_cache(pos, new_len):
            return pos[pos <= new_len]
        """,
        """
        def truncate(self, length):
            self.length = min(self.length, length)
        """: """
        def truncate(self, length):
            self.length = min(self.length, length + 1)
        """,
        """
        def trim_sequence(seq, n_tokens):
            del seq.token_ids[n_tokens:]
        """: """
        def trim_sequence(seq, n_tokens):
            del seq.token_ids[n_tokens + 1 :]
        """,
    },
    spares=[
        """
        def plan(self):
            return self.positions >= self.lengths[:, None]
        """,
        """
        def rollback(self, n):
            if n > self.length:
                raise ValueError(n)
        """,
        """
        def drop_blocks(seq, n_tokens, block_size):
            del seq.hashes[n_tokens // block_size :]
        """,
    ],
)
def rollback_keeps_one_rejected_token(
    node: cst.Comparison | cst.Call | cst.Del, context: Context
) -> Iterator[cst.CSTNode]:
    """A rollback leaves the first of the rejected tokens in the cache.

    Positions count from 0, so a row of `n` tokens holds the positions 0 to `n - 1`. Cutting back to
    `n` means that position `n` goes too. If it stays, the next token takes the same position: until
    its own entry overwrites the rejected one, it attends to both.

    While drafts are accepted nothing is cut and nothing is wrong, and one stale key among many
    changes logits by little. What notices is a run that is compared with one that never drafted.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or not FORGETS.fullmatch(function.name.value):
        return
    params = [param.name.value for param in function.params.params]
    match node:
        case cst.Comparison():
            moved = edge_moved_up(node, called(POSITION), called(LENGTH))
            if moved is not None:
                yield moved
        case cst.Call(func=cst.Name("min"), args=[cst.Arg(one), cst.Arg(other)]):
            for held, kept in ((one, other), (other, one)):
                if is_called(held, LENGTH) and _is_given(kept, params):
                    yield node.deep_replace(kept, fill(ONE_MORE, {"n": kept}))
                    return
        case cst.Del(
            cst.Subscript(slice=[cst.SubscriptElement(cst.Slice(lower=kept, upper=None) as cut)])
        ) if kept is not None and _is_given(kept, params):
            more = cut.with_changes(lower=fill(ONE_MORE, {"n": kept}), first_colon=SPACED)
            yield node.deep_replace(cut, more)


def _is_given(node: cst.CSTNode, params: list[str]) -> bool:
    """Tell a parameter that says how many tokens shall be kept."""
    return isinstance(node, cst.Name) and node.value in params and is_called(node, KEPT)
