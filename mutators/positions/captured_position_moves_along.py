"""A bug in counters that are tensors."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, assigned, is_called, mutator, same
from halfhour.mutators._idioms import LENGTH

COUNTER = rf"{LENGTH}|(\w+_)?(pos|positions?|pos_ids|position_ids|cache_position)"
OPERATORS: dict[type[cst.BaseBinaryOp], type[cst.BaseAugOp]] = {
    cst.Add: cst.AddAssign,
    cst.Subtract: cst.SubtractAssign,
}


@mutator(
    topic="positions",
    family="offset-alias-mutated-in-place",
    hints=[
        "Keep what a step was given, take another step, and look at it again. Has it changed?",
        "Who else holds the tensor that this line counts up?",
        "A counter that others have been given is replaced by a new one, never changed in place.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/issues/1097",
            "an in-place addition moved offsets already handed out",
        ),
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1396",
            "a captured value changed with the update",
        ),
    ],
    mutates={
        """
        def step(self, batch):
            batch.positions = batch.positions + 1
            return batch.positions[:, None]
        """: """
        def step(self, batch):
            batch.positions += 1
            return batch.positions[:, None]
        """,
        "self.lengths = self.lengths - n_tokens": "self.lengths -= n_tokens",
        "cache.offset = cache.offset + keys.shape[2]": "cache.offset += keys.shape[2]",
    },
    spares=[
        "positions = positions + 1",
        "self.scores = self.scores + 1",
        "self.lengths = n_new + lengths",
    ],
)
def captured_position_moves_along(
    node: cst.SimpleStatementLine,
) -> Iterator[cst.SimpleStatementLine]:
    """A counter is changed in place, and with it all that was handed out before.

    `x = x + n` makes a new tensor, `x += n` changes the old one. For a counter of positions the
    difference shows where somebody still holds the old one: a plan, a view of the prompt's
    positions, what the model was given one step ago. It changes under their hands.

    With a Python integer both are the same, and so they are as long as nobody looks back. Results
    of the current step are right.
    """
    match assigned(node):
        case (
            cst.Attribute() as target,
            cst.BinaryOperation(left=left, operator=operator, right=right),
        ) if same(left, target) and is_called(target, COUNTER) and type(operator) in OPERATORS:
            line = cst.AugAssign(target, OPERATORS[type(operator)](), right)
            yield node.with_changes(body=[line])
