"""A bug in giving tokens places in their experts' buffers."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    assignments,
    integer,
    literal,
    mutator,
    name_of,
    walk,
)

ACROSS: dict[int | None, int] = {0: 1, -2: -1}
"""The axis of the experts beside that of the tokens."""


# Fits one subject: only experts have queues.
@mutator(
    topic="moe",
    family="capacity-cumsum-over-singleton",
    hints=[
        "Send three tokens to one expert that has two slots. Is anybody turned away?",
        "Places in a queue are a running count: along which axis, and who stands on that axis?",
        "An expert counts the tokens before this one; a token's row has only its own choice.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/48421",
            "every token counted as its expert's first",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/issues/48293",
            "a report on the same router",
        ),
    ],
    mutates={
        """
        def slots(ids, n_experts, capacity):
            wanted = F.one_hot(ids, n_experts)
            places = wanted.cumsum(dim=0) - 1
            return places < capacity
        """: """
        def slots(ids, n_experts, capacity):
            wanted = F.one_hot(ids, n_experts)
            places = wanted.cumsum(dim=1) - 1
            return places < capacity
        """,
        """
        def drop(router_probs, capacity):
            expert_mask = torch.nn.functional.one_hot(router_probs.argmax(-1), n_experts)
            token_priority = torch.cumsum(expert_mask, dim=-2)
            return expert_mask * (token_priority <= capacity)
        """: """
        def drop(router_probs, capacity):
            expert_mask = torch.nn.functional.one_hot(router_probs.argmax(-1), n_experts)
            token_priority = torch.cumsum(expert_mask, dim=-1)
            return expert_mask * (token_priority <= capacity)
        """,
        """
        def slots(ids, n_experts):
            mask = np.eye(n_experts, dtype=int)[ids]
            position_in_expert = np.cumsum(mask, 0) * mask
            return position_in_expert.max(-1)
        """: """
        def slots(ids, n_experts):
            mask = np.eye(n_experts, dtype=int)[ids]
            position_in_expert = np.cumsum(mask, 1) * mask
            return position_in_expert.max(-1)
        """,
    },
    spares=[
        """
        def positions(mask):
            positions = mask.cumsum(dim=0) - 1
            return positions
        """,
        """
        def load(ids, n_experts):
            wanted = F.one_hot(ids, n_experts)
            return wanted.sum(dim=0)
        """,
    ],
)
def queue_counted_across_the_experts(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """A token's place in its expert's queue is counted along the experts, and is always the first.

    With one row per token and one column per expert, the running count down a column numbers the
    tokens that an expert gets. Along a row there is a single one, the token's own choice: the count
    there is 1 for everybody. All get the first slot of the buffer, nobody is ever turned away,
    and tokens of one expert write over each other.

    Both counts have the same shape. While each expert has one token at most they agree where it
    matters, and a test with ample room for few tokens is just that.
    """
    if name_of(node) != "cumsum":
        return
    counted, axis = argument(node, 0, "input", "a"), argument(node, 1, "dim", "axis")
    along = ACROSS.get(integer(axis))
    if along is None or not isinstance(counted, cst.Name):
        return
    scope = context.enclosing(node, cst.FunctionDef) or context.module
    made = [n for value in assignments(scope, counted.value) for n in walk(value)]
    if any(name_of(n) in ("one_hot", "eye") for n in made):
        args = [
            arg.with_changes(value=literal(along)) if arg.value is axis else arg
            for arg in node.args
        ]
        yield node.with_changes(args=args)
