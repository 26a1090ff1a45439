"""A bug in caches that can forget their newest tokens."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, called, edge_moved_up, mutator
from halfhour.mutators._idioms import LENGTH

FORGETS = re.compile(
    r"_?(\w+_)?(rollback|roll_back|rewind|truncate|trim|crop|undo|drop|forget)(_\w+)?"
)
POSITION = r"(\w+_)?(pos|positions?|idx|index|col|columns?|slots?)"


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
    ],
)
def rollback_keeps_one_rejected_token(
    node: cst.Comparison, context: Context
) -> Iterator[cst.Comparison]:
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
    moved = edge_moved_up(node, called(POSITION), called(LENGTH))
    if moved is not None:
        yield moved
