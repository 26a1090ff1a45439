"""A bug in masks that are composed of several rules."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, integer, is_called, mutator

NOTHING = r"(\w+_)?(PAD|PADDING|EMPTY|UNUSED|NO_TOKEN|PAD_POS|PAD_ID|pad_id|pad_token_id)"
PLACES = (
    r"(\w+_)?(pos|positions?|position_ids|ids?|key|keys|query|slots?|segments?|documents?|tokens)"
)


@mutator(
    topic="masking",
    family="mask-argument-never-passed",
    hints=[
        "Pad a row by one more slot. Does anything change for its tokens, or for the padding?",
        "Which number marks an empty slot, and does it pass the other comparisons by accident?",
        "An empty slot must be ruled out by name: its mark is a number like any other.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/48363",
            "the padding was lost on the fast path",
        ),
        Sighting(
            "https://github.com/huggingface/diffusers/issues/8886",
            "padded positions received real attention weight",
        ),
    ],
    mutates={
        "return (key != EMPTY) & causal & (recent | sink)": "return causal & (recent | sink)",
        "k_inside = (k_pos != PADDING) & (k_pos < limit)": "k_inside = k_pos < limit",
        "same = (q_ids[:, None] == k_ids[None]) & (q_ids != PAD)[:, None]": (
            "same = q_ids[:, None] == k_ids[None]"
        ),
        "keep = np.logical_and(positions != -1, positions >= start)": "keep = positions >= start",
    },
    spares=[
        "n_tokens = (ids != PAD).sum()",
        "chosen = (kind != OTHER) & recent",
        """
        def lasting(positions, recent):
            return (positions != EMPTY) & recent
        """,
    ],
)
def padding_counts_as_a_key(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """A mask no longer asks whether a slot holds a token at all.

    Empty slots are marked by a position that no token has, mostly -1. To the other rules it is a
    number like any other: it lies before every query, below every limit, and equals the mark of
    other padding. Only a condition of its own keeps such slots out, and without it they take a
    share of the attention, of the sinks, of the slots to be stored.

    Where nothing is padded there is nothing to keep out, and one batch of equal prompts after the
    other comes out right.
    """
    match node:
        case cst.BinaryOperation(left=left, operator=cst.BitAnd(), right=right):
            pass
        case cst.Call(args=[cst.Arg(value=left), cst.Arg(value=right)]) if is_called(
            node, "logical_and"
        ):
            pass
        case _:
            return
    for rule, rest in ((left, right), (right, left)):
        if _rules_out_padding(rule) and context.can_spare(rule):
            yield rest.with_changes(lpar=node.lpar, rpar=node.rpar)


def _rules_out_padding(node: cst.BaseExpression) -> bool:
    """Tell `key != EMPTY`, and `(ids != PAD)[:, None]`."""
    match node:
        case cst.Subscript(value=below):
            return _rules_out_padding(below)
        case cst.Comparison(left=place, comparisons=[cst.ComparisonTarget(cst.NotEqual(), mark)]):
            return is_called(place, PLACES) and (is_called(mark, NOTHING) or integer(mark) == -1)
    return False
