"""A bug in masks whose rules come in an order."""

import re
from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import Sighting, assigned, mentions, mutator, name_of, pattern, same

MASK = r"(\w+_)?(mask|visible|allowed|keep|seen|ok|bias|attend|can_see)"
OPENS = r"\w*(prefix|sink|image|global|anchor|prompt|system|bidirectional)\w*"
CLOSES = r"\w*(segment|doc|pad|padding|valid|same|seq_ids|real|batch)\w*"
CHAIN = pattern("$m.masked_fill($opened, $zero).masked_fill($closed, $low)")


# Fits one subject: only attention_masks opens keys again after it has hidden some.
@mutator(
    topic="masking",
    family="mask-composition-order",
    hints=[
        "Put two texts with a prefix each, or padding, into one row. Who can see whose prefix?",
        "Which lines of the mask hide keys, which ones show keys again, and in what order?",
        "What shows keys comes first; what no rule may overrule, other texts, padding, comes last.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/issues/35855",
            "two statements changed places and padding was visible",
        ),
    ],
    mutates={
        """
        mask = causal(q_pos, k_pos)
        if prefix_len is not None:
            mask = mask | prefix_mask(q_pos, k_pos, prefix_len)
        mask = mask & segment_mask(q_seg, k_seg)
        """: """
        mask = causal(q_pos, k_pos)
        mask = mask & segment_mask(q_seg, k_seg)
        if prefix_len is not None:
            mask = mask | prefix_mask(q_pos, k_pos, prefix_len)
        """,
        """
        keep = np.tril(ones)
        keep |= is_image[:, None] & is_image[None, :]
        keep &= valid[None, :]
        """: """
        keep = np.tril(ones)
        keep &= valid[None, :]
        keep |= is_image[:, None] & is_image[None, :]
        """,
        "bias = bias.masked_fill(is_prefix, 0.0).masked_fill(is_padding, low)": (
            "bias = bias.masked_fill(is_padding, low).masked_fill(is_prefix, 0.0)"
        ),
    },
    spares=[
        """
        mask = mask & causal
        mask = mask & segment_mask(q_seg, k_seg)
        """,
        """
        mask = mask | prefix_mask
        # Last, since it must hold for prefixes, too.
        mask = mask & segment_mask
        """,
        "logits = logits.masked_fill(a, 0.0).masked_fill(b, low)",
    ],
)
def prefix_is_opened_after_all_else(
    node: cst.IndentedBlock | cst.Module | cst.Call,
) -> Iterator[cst.CSTNode]:
    """Keys that are always shown are shown last, and come out of hiding with everything else.

    Some rules of a mask hide keys and some show them: a prefix, an image, a sink. What they show
    must still belong to the same text and be a token at all, so these two conditions come at the
    end. In the other order the last word is "show", and the prefix of a neighbouring text, or a
    slot of padding, is visible.

    With one text to a row and no padding the order makes no difference.
    """
    if isinstance(node, cst.Call):
        found = CHAIN.match(node)
        if found is None or not _is_nothing(found["zero"]):
            return
        if mentions(found["opened"], OPENS) and mentions(found["closed"], CLOSES):
            func = cst.ensure_type(node.func, cst.Attribute)
            inner = cst.ensure_type(func.value, cst.Call)
            first = inner.with_changes(args=node.args)
            yield node.with_changes(func=func.with_changes(value=first), args=inner.args)
        return
    for at, (opens, closes) in enumerate(pairwise(node.body)):
        opened, closed = _combined(opens, cst.BitOr), _combined(closes, cst.BitAnd)
        if opened is None or closed is None or not same(opened[0], closed[0]):
            continue
        if mentions(opened[1], OPENS) and mentions(closed[1], CLOSES):
            yield node.with_changes(
                body=[*node.body[:at], closes, opens, *node.body[at + 2 :]],
            )


def _is_nothing(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer | cst.Float) and float(node.value) == 0


def _combined(
    line: cst.CSTNode, operator: type[cst.BaseBinaryOp]
) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Return mask and rule of `mask = mask | rule` and `mask |= rule`, also below an `if`."""
    if not isinstance(line, cst.If | cst.SimpleStatementLine) or _is_commented(line):
        return None
    match line:
        case cst.If(body=cst.IndentedBlock([below]), orelse=None):
            return _combined(below, operator)
        case cst.SimpleStatementLine([cst.AugAssign(target, augmented, added)]):
            wanted = cst.BitOrAssign if operator is cst.BitOr else cst.BitAndAssign
            return (target, added) if isinstance(augmented, wanted) else None
    match assigned(line):
        case (mask, cst.BinaryOperation(left=left, right=rule) as value):
            fits = isinstance(value.operator, operator) and same(mask, left)
            return (mask, rule) if fits and re.fullmatch(MASK, name_of(mask)) else None
    return None


def _is_commented(line: cst.If | cst.SimpleStatementLine) -> bool:
    return any(above.comment is not None for above in line.leading_lines)
