"""A bug in masks that are built rule by rule."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assigned,
    is_called,
    mentions,
    mutator,
    name_of,
    same,
)

MASK = (
    r"(\w+_)?(mask|visible|allowed|keep|kept|near|seen|ok|attend|can_see|valid|causal|blocked"
    r"|hidden|banned)"
)
RULE = r"\w*(window|span|chunk|causal|distance|doc|segment|prefix|mask|local|band)\w*"
ALL = r"(ones|ones_like|full|full_like|new_ones|new_full|zeros|zeros_like|new_zeros)"


@mutator(
    topic="masking",
    family="swa-diagonal-sign-and-overwrite",
    hints=[
        "Turn on one rule of the mask. Are the keys that were hidden without it still hidden?",
        "Follow the mask from its first line to the last. Does every rule build on those above?",
        "A further rule narrows the mask that is there; it never stands in its place.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/41228",
            "the window mask replaced the causal mask",
        ),
    ],
    mutates={
        """
        def visible(query, key, window=None):
            visible = key <= query
            if window is not None:
                visible = visible & (query - key < window)
            return visible
        """: """
        def visible(query, key, window=None):
            visible = key <= query
            if window is not None:
                visible = query - key < window
            return visible
        """,
        """
        mask = np.tril(np.ones((n, n), dtype=bool))
        if self.window:
            mask &= np.triu(np.ones((n, n), dtype=bool), 1 - self.window)
        """: """
        mask = np.tril(np.ones((n, n), dtype=bool))
        if self.window:
            mask = np.triu(np.ones((n, n), dtype=bool), 1 - self.window)
        """,
        """
        blocked = cols > rows
        if chunk_size:
            blocked = torch.logical_or(blocked, rows // chunk_size != cols // chunk_size)
        """: """
        blocked = cols > rows
        if chunk_size:
            blocked = rows // chunk_size != cols // chunk_size
        """,
    },
    spares=[
        """
        def visible(distance, causal):
            visible = torch.ones_like(distance, dtype=torch.bool)
            if causal:
                visible = visible & (distance >= 0)
            return visible
        """,
        """
        mask = causal
        mask = mask & (query - key < window)
        """,
        """
        if window is not None:
            flags = flags & READABLE
        """,
    ],
)
def window_replaces_the_mask_before_it(
    node: cst.Assign | cst.AugAssign, context: Context
) -> Iterator[cst.Assign]:
    """A rule that is turned on by a setting throws away the rules that came before it.

    A mask is built up: causality first, then, if the layer has one, a window, then chunks. Each
    rule narrows what is there. Where the mask of a rule is assigned instead of combined, the layer
    obeys this rule alone: with a window it looks back no further than it should, and at the same
    time ahead, into tokens that it is about to predict.

    Models without the setting never come here, and while decoding there is nothing ahead to see.
    """
    branch = context.enclosing(node, cst.If)
    if branch is None or context.parent(context.parent(node) or node) is not branch.body:
        return
    match node:
        case cst.AugAssign(mask, cst.BitAndAssign() | cst.BitOrAssign(), rule):
            pass
        case cst.Assign(
            [cst.AssignTarget(mask)],
            cst.BinaryOperation(left=left, operator=cst.BitAnd() | cst.BitOr(), right=rule),
        ) if same(mask, left):
            pass
        case cst.Assign(
            [cst.AssignTarget(mask)], cst.Call(args=[cst.Arg(left), cst.Arg(rule)]) as call
        ) if same(mask, left) and re.fullmatch(r"logical_(and|or)", name_of(call)):
            pass
        case _:
            return
    names_match = re.fullmatch(MASK, name_of(mask)) and mentions(rule, RULE)
    if names_match and not _starts_from_everything(mask, branch, context):
        yield cst.Assign([cst.AssignTarget(mask)], rule.with_changes(lpar=[], rpar=[]))


def _starts_from_everything(mask: cst.CSTNode, branch: cst.If, context: Context) -> bool:
    """Tell whether what stands above only filled the mask with one value."""
    if not context.before(branch):
        return False
    found = assigned(context.before(branch)[-1])
    return found is not None and same(found[0], mask) and is_called(found[1], ALL)
