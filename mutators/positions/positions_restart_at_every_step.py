"""A bug in the positions of tokens that are decoded with a cache."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    arguments,
    mentions,
    mutator,
    name_of,
    pattern,
    value_of,
)
from halfhour.mutators._idioms import LENGTH

POSITIONS = r"(\w+_)?(pos|positions?|pos_ids|position_ids|cache_position)"
PAST = rf"{LENGTH}|(\w+_)?(past|start|start_pos|past_kv_len|n_past|cached)"
SPAN = pattern("torch.arange($past, $past + $n)", past=PAST)


@mutator(
    topic="positions",
    family="decode-position-restarts-at-zero",
    hints=[
        "Feed a prompt at once, then again in two pieces. Do the logits agree?",
        "Print the positions of the second step. Where should they begin?",
        "A token's position counts everything before it in its row, the cached tokens included.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Blaizzy/mlx-vlm/issues/1983", "every decoded token got position 0"
        ),
        Sighting("https://github.com/Blaizzy/mlx-vlm/pull/1993", "the fix"),
        Sighting(
            "https://github.com/huggingface/candle/pull/899", "the bias row ignored the cache too"
        ),
    ],
    mutates={
        """
        def plan(self, q_len):
            column = torch.arange(q_len)[None, :]
            positions = self.lengths[:, None] + column
            return positions, column
        """: """
        def plan(self, q_len):
            column = torch.arange(q_len)[None, :]
            positions = column
            return positions, column
        """,
        "pos = torch.arange(q_len)[None] + cache.seq_len": "pos = torch.arange(q_len)[None]",
        "position_ids = torch.arange(past_len, past_len + q_len)": (
            "position_ids = torch.arange(q_len)"
        ),
    },
    spares=[
        "k_pos = torch.arange(kv_len)",
        "dest = self.lengths[:, None] + torch.arange(q_len)",
        "positions = base + torch.arange(q_len)",
    ],
)
def positions_restart_at_every_step(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """Positions are counted within the step, so every step starts again at 0.

    With a cache the model is fed in steps: a prompt or its chunks, then token by token. A new
    token's position is the number of tokens that its row has seen, plus its place in the step. If
    the first part is missing, every decoded token stands at position 0: its query and its key are
    rotated as if it opened the text, and a mask built from positions hides its past.

    Prefill in one piece starts at 0 anyway and is exact, and so is every test that compares only
    the logits of a prompt.
    """
    if not _becomes_positions(node, context):
        return
    if (found := SPAN.match(node)) is not None and isinstance(node, cst.Call):
        yield node.with_changes(args=[cst.Arg(found["n"]), *node.args[2:]])
    match node:
        case cst.BinaryOperation(operator=cst.Add(), left=left, right=right):
            function = context.enclosing(node, cst.FunctionDef)
            for past, step in ((left, right), (right, left)):
                if _is_past(past) and _counts_up(step, function):
                    yield step


def _is_past(node: cst.BaseExpression) -> bool:
    return mentions(node, PAST) and not mentions(node, "arange")


def _becomes_positions(node: cst.CSTNode, context: Context) -> bool:
    match context.parent(node):
        case cst.Assign(targets=[cst.AssignTarget(target)]):
            return name_of(target) != "" and mentions(target, POSITIONS)
    return False


def _counts_up(node: cst.BaseExpression, scope: cst.CSTNode | None) -> bool:
    """Tell whether the node is an `arange`, or a variable that was assigned one."""
    match value_of(node, scope):
        case cst.Subscript(value=cst.Call() as call) | (cst.Call() as call):
            return name_of(call) == "arange" and len(arguments(call)) > 0
    return False
