"""A bug in attention that keeps the groups of heads apart."""

import re
from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

JOINS = r"flatten|reshape|view|rearrange"


# Fits one subject: only varlen_prefill has an axis for groups and one for the heads in them.
@mutator(
    topic="attention",
    family="gqa-tile-instead-of-interleave",
    hints=[
        "Let every head return its own number. In which order do the numbers come out?",
        "Follow the order of the two head axes from the queries to the joined output.",
        "Heads leave as they came in: group by group, and within a group one after the other.",
    ],
    sightings=[
        Sighting("https://github.com/apple/axlearn/pull/842", "order of heads changed unseen"),
        Sighting("https://github.com/EricLBuehler/candle-vllm/pull/52", "head order slip, fixed"),
    ],
    mutates={
        'out = torch.einsum("grqk,kgd->qgrd", probs, v).flatten(1, 2)': (
            'out = torch.einsum("grqk,kgd->qrgd", probs, v).flatten(1, 2)'
        ),
        "out = np.einsum('bgrqk,bgkd->bqgrd', p, v).reshape(b, q_len, h * d)": (
            "out = np.einsum('bgrqk,bgkd->bqrgd', p, v).reshape(b, q_len, h * d)"
        ),
    },
    spares=[
        'scores = torch.einsum("qgrd,kgd->grqk", groups, k)',
        'out = torch.einsum("bhqk,bkhd->bqhd", probs, v).flatten(2)',
        'y = torch.einsum("bij,bjk->bik", a, b).reshape(b, -1)',
    ],
)
def heads_leave_in_another_order(
    node: cst.SimpleString, context: Context
) -> Iterator[cst.SimpleString]:
    """The two head axes are joined in the wrong order at the end.

    With grouped heads the queries are viewed as [G, H / G]: consecutive heads form a group and
    share keys and values. At the end the two axes become one again, and the group must be the outer
    one. Joined the other way round, each head's output is complete and correct and lies in the
    place of another head, where the output projection expects something else.

    With one group, or with one head to each group, both orders are the same.
    """
    call = context.enclosing(node, cst.Call)
    if call is None or not is_called(call, "einsum") or not _is_joined(call, context):
        return
    if (found := re.fullmatch(r"(['\"])(\w+),\s*(\w+)\s*->\s*(\w+)\1", node.value)) is None:
        return
    weights, values, result = found.group(2), found.group(3), found.group(4)
    for group, within in pairwise(result):
        # The axis of the heads within a group is one that keys and values lack.
        shared = group in weights and group in values
        alone = within in weights and within not in values
        if (
            shared
            and alone
            and len(weights) >= 4
            and weights.index(within) == weights.index(group) + 1
        ):
            swapped = result.replace(group + within, within + group)
            yield node.with_changes(value=node.value.replace(result, swapped))
            return


def _is_joined(call: cst.Call, context: Context) -> bool:
    """Tell whether some axes of the result become one right away."""
    joined = context.parent(call)
    return isinstance(joined, cst.Attribute) and re.fullmatch(JOINS, joined.attr.value) is not None
