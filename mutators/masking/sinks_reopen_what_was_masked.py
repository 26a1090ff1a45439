"""A bug in masks that are composed of several rules."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, mentions, mutator

ALWAYS_VISIBLE = r"\w*(sinks?|prefix|global|image|anchor|system|pinned)\w*"


@mutator(
    topic="masking",
    family="mask-composition-order",
    hints=[
        "Which keys can the very first token of a row attend to? What about an empty slot?",
        "Look at how the rules of the mask are combined, and which of them can overrule which.",
        "A rule that shows keys may only widen the window; padding and the future stay hidden.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/issues/35855",
            "the visible prefix re-opened masked padding",
        ),
    ],
    mutates={
        "return (key != EMPTY) & causal & (recent | sink)": (
            "return (key != EMPTY) & causal & recent | sink"
        ),
        "ok = real & (is_sink | near) & same_doc": "ok = (real & is_sink | near) & same_doc",
        "ok = (in_window | is_sink) & causal": "ok = in_window | is_sink & causal",
    },
    spares=[
        "seen = (prompt > 0) | (output > 0)",
        "allowed = causal & (recent & sink)",
        "flags = base & (READ | WRITE)",
    ],
)
def sinks_reopen_what_was_masked(node: cst.BinaryOperation) -> Iterator[cst.BinaryOperation]:
    """A rule that keeps some keys in sight overrules causality and padding as well.

    A mask is an intersection: a key must exist, and must not lie in the future, and must be near or
    be one of those that always stay in sight. Only the last two are alternatives. `&` binds more
    tightly than `|`, so without its parentheses the alternative stands beside the whole mask: the
    sinks (or the prefix) are visible to everybody, even before they exist, and so is every empty
    slot whose mark happens to satisfy the same comparison.

    Rows of equal length, past their sinks and without padding look right, because there the other
    rules hold for the sinks anyway.
    """
    if not isinstance(node.operator, cst.BitAnd):
        return
    match node:
        case cst.BinaryOperation(right=cst.BinaryOperation(operator=cst.BitOr()) as either):
            if either.lpar and mentions(either, ALWAYS_VISIBLE):
                masked = node.with_changes(right=either.left, lpar=[], rpar=[])
                yield either.with_changes(left=masked, lpar=node.lpar, rpar=node.rpar)
        case cst.BinaryOperation(left=cst.BinaryOperation(operator=cst.BitOr()) as either):
            if either.lpar and mentions(either, ALWAYS_VISIBLE):
                masked = node.with_changes(left=either.right, lpar=[], rpar=[])
                yield either.with_changes(right=masked, lpar=node.lpar, rpar=node.rpar)
