"""A bug in caches that can forget their newest tokens."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Sighting,
    assigned,
    is_called,
    mutator,
    same,
    swapped,
    uncommented,
    walk,
)
from halfhour.mutators._idioms import LENGTH


# Fits one subject: only this cache marks its slots beside its lengths.
@mutator(
    topic="kv_cache",
    family="spec-rollback-silently-noop",
    hints=[
        "Forget some tokens, then ask the cache which positions it still holds.",
        "Follow one length through the function that shortens it. Which value is read, and when?",
        "What is beyond the new length can only be found once the length is the new one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1109", "a rollback that did nothing, unseen"
        ),
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1427", "the same for full rotating caches"
        ),
    ],
    mutates={
        """
        def rollback(self, n_tokens):
            self.lengths = self.lengths - n_tokens

            dropped = self.positions >= self.lengths[:, None]
            self.positions = self.positions.masked_fill(dropped, EMPTY)
        """: """
        def rollback(self, n_tokens):
            dropped = self.positions >= self.lengths[:, None]

            self.lengths = self.lengths - n_tokens
            self.positions = self.positions.masked_fill(dropped, EMPTY)
        """,
        """
        def trim(self, n):
            self.offset -= n
            self.keys[self.offset :] = 0
        """: """
        def trim(self, n):
            self.keys[self.offset :] = 0
            self.offset -= n
        """,
    },
    spares=[
        """
        def rollback(self, n):
            self.lengths = self.lengths - n
            self.calls = self.calls + 1
        """,
        """
        def rollback(self, n):
            # The new length decides what goes.
            self.lengths = self.lengths - n
            self.positions[self.positions >= self.lengths[:, None]] = EMPTY
        """,
    ],
)
def rollback_asks_the_old_length(node: cst.IndentedBlock) -> Iterator[cst.IndentedBlock]:
    """What lies beyond the new length is looked for while the length is still the old one.

    A rollback has two halves: the length shrinks, and the entries beyond it are forgotten. Done in
    the wrong order the second half compares with the old length, beyond which there is nothing, and
    forgets nothing. The counter is right afterwards, so every check of the length passes, while the
    rejected tokens stay in sight of those that follow.

    Nothing raises, a cache without rejected drafts is exact, and later writes overwrite the stale
    entries one by one.
    """
    for at, (shrinks, reads) in enumerate(pairwise(node.body)):
        length = _shrunk_length(shrinks)
        if length is None or not uncommented(shrinks, reads):
            continue
        if not _assigns(reads, length) and any(same(below, length) for below in walk(reads)):
            yield swapped(node, at)


def _shrunk_length(line: cst.BaseStatement) -> cst.BaseExpression | None:
    """Return `self.lengths` for `self.lengths = self.lengths - n` and `self.lengths -= n`."""
    match line:
        case cst.SimpleStatementLine(
            body=[cst.AugAssign(operator=cst.SubtractAssign(), target=cst.Attribute() as target)]
        ):
            return target if is_called(target, LENGTH) else None
    match assigned(line):
        case (
            cst.Attribute() as target,
            cst.BinaryOperation(left=left, operator=cst.Subtract()),
        ) if same(target, left) and is_called(target, LENGTH):
            return target
    return None


def _assigns(line: cst.BaseStatement, target: cst.BaseExpression) -> bool:
    found = assigned(line)
    return found is not None and same(found[0], target)
