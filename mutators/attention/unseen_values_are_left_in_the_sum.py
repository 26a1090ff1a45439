"""A bug in attention over slots that may hold anything."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, pattern, walk

VALUES = r"v|values?|v_\w+|value_states|vs|xv"
SEEN = (
    r"\w*(unseen|seen|used|unused|visible|hidden|allowed|mask|valid|blocked|keep|empty|stale|real"
    r"|live)\w*"
)
CLEARED = [
    pattern(form)
    for form in (
        "$v.masked_fill($unseen, 0.0)",
        "$v.masked_fill($unseen, 0)",
        "torch.where($unseen, $v, 0.0)",
        "np.where($unseen, $v, 0.0)",
        "torch.where($unseen, 0.0, $v)",
        "np.where($unseen, 0.0, $v)",
    )
]


@mutator(
    topic="attention",
    family="unwritten-values-poison-the-output",
    hints=[
        "Put NaN into the values of a slot that nobody may see. Does it stay there?",
        "What is zero times NaN, and which product of the attention could come to compute it?",
        "A weight of zero removes finite values only: slots that nobody sees must be cleared.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/47305",
            "0 * NaN from slots behind the last token",
        ),
        Sighting(
            "https://github.com/Dao-AILab/flash-attention/issues/2374",
            "NaN in unused value slots reached the output",
        ),
        Sighting(
            "https://github.com/Dao-AILab/flash-attention/issues/1745", "the same from padding"
        ),
    ],
    mutates={
        """
        def attend(q, k, v, visible):
            v = v.float().masked_fill(~visible.any(dim=0)[:, None], 0.0)
            probs = softmax(q @ k.T, where=visible)
            return probs @ v
        """: """
        def attend(q, k, v, visible):
            v = v.float()
            probs = softmax(q @ k.T, where=visible)
            return probs @ v
        """,
        """
        def attend(probs, v, used):
            v = v.masked_fill(~used[:, None], 0.0)
            return probs @ v, used.sum()
        """: """
        def attend(probs, v, used):
            return probs @ v, used.sum()
        """,
        """
        def attend(probs, values, mask):
            return probs @ np.where(mask[:, None], values, 0.0), mask.sum()
        """: """
        def attend(probs, values, mask):
            return probs @ values, mask.sum()
        """,
    },
    spares=[
        "probs = probs.masked_fill(hidden, 0.0)",
        """
        def attend(probs, v, used):
            v = v.masked_fill(~used[:, None], 0.0)
            return probs @ v
        """,
        "v = v.masked_fill(first_step, 1.0)",
    ],
)
def unseen_values_are_left_in_the_sum(
    node: cst.Call | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """What a slot holds that no query may see still takes part, multiplied by zero.

    Hidden keys get a weight of exactly zero, and zero times a finite number is zero. Zero times NaN
    or infinity is NaN, and memory that was never written, or belonged to someone else, may hold
    either. Slots that nobody sees have to be cleared before the weighted sum, or be left out.

    Fresh memory is mostly zeros, so tests and short runs are exact. The NaN comes when pages are
    reused, once in a while, and takes whole rows with it.
    """
    if isinstance(node, cst.SimpleStatementLine):
        if (found := assigned(node)) is None:
            return
        kept = _uncleared(found[1])
        in_place = kept is not None and kept.deep_equals(found[0])
        if in_place and context.can_spare(_condition(found[1])):
            yield cst.RemoveFromParent()
    elif (kept := _uncleared(node)) is not None and context.can_spare(_condition(node)):
        line = context.statement(node)
        own = assigned(line) if line is not None else None
        if own is None or own[1] is not node or not kept.deep_equals(own[0]):
            yield kept


def _uncleared(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return the values that are cleared where nobody sees them."""
    for form in CLEARED:
        found = form.match(node)
        if found is None:
            continue
        seen = any(is_called(n, SEEN) for n in walk(found["unseen"]))
        if seen and is_called(_innermost(found["v"]), VALUES):
            return found["v"]
    return None


def _condition(node: cst.BaseExpression) -> cst.BaseExpression:
    for form in CLEARED:
        if (found := form.match(node)) is not None:
            return found["unseen"]
    return node


def _innermost(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return `v` of `v.float()`."""
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        node = node.func.value
    return node
