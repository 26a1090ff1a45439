"""A bug in nucleus sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    called,
    edge_moved_up,
    is_called,
    mutator,
    same,
    walk,
)
from halfhour.mutators._idioms import MASS, PROBS, TOP_P

BEFORE = r"before|(mass|cum|sum)_before|exclusive(_\w+)?|shifted(_\w+)?|prev(ious)?_mass"


@mutator(
    topic="sampling",
    family="top-p-extra-token-at-equality",
    hints=[
        "Four tokens share the probability equally. How many are left with p = 0.5?",
        "What happens when a sum of probabilities is exactly p?",
        "Reaching p is enough: a nucleus whose mass equals p takes no further token.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/issues/18976",
            "one token too many when the sum equals top_p",
        ),
        Sighting("https://github.com/huggingface/transformers/pull/18984", "the fix, debated"),
        Sighting("https://github.com/BlinkDL/ChatRWKV/pull/170", "the same extra token"),
    ],
    mutates={
        "drop = mass - sorted_probs >= p[:, None]": "drop = mass - sorted_probs > p[:, None]",
        "gone = (before >= top_p[:, None]) & (top_p < 1)[:, None]": (
            "gone = (before > top_p[:, None]) & (top_p < 1)[:, None]"
        ),
        "keep = probs.cumsum(-1) - probs < self.top_p": (
            "keep = probs.cumsum(-1) - probs <= self.top_p"
        ),
        "drop = self.top_p <= shifted": "drop = self.top_p < shifted",
        "drop = ascending_cumsum <= 1 - p[:, None]": "drop = ascending_cumsum < 1 - p[:, None]",
        """
        for token in ranked:
            if mass >= p:
                break
            mass += probs[token]
        """: """
        for token in ranked:
            if mass > p:
                break
            mass += probs[token]
        """,
    },
    spares=[
        "drop = mass >= p",
        "low = probs < p",
        "late = before >= limit",
    ],
)
def top_p_takes_one_more_at_equality(
    node: cst.Comparison, context: Context
) -> Iterator[cst.Comparison]:
    """A nucleus whose mass is exactly p takes one token more.

    The nucleus is the smallest set whose mass reaches p: it is complete when the mass *equals* p.
    The next token in the order, judged by the mass before it, must go at equality already.

    Sums of random float probabilities hardly ever equal p, and where they do, rounding serves as an
    excuse. But distributions are not always random: a few tokens of equal probability, quantised
    logits, a test by hand with halves and quarters all meet p exactly.
    """
    judges = called(MASS) if _stops_a_loop(node, context) else _is_mass_before
    moved = edge_moved_up(node, judges, called(TOP_P))
    if moved is None:
        moved = edge_moved_up(node, _is_rest, called(MASS))
    if moved is not None:
        yield moved


def _is_rest(node: cst.BaseExpression) -> bool:
    """Tell `1 - p`, with which the mass of a rising order is compared."""
    match node:
        case cst.BinaryOperation(left=one, operator=cst.Subtract(), right=p):
            return isinstance(one, cst.Integer | cst.Float) and is_called(p, TOP_P)
    return False


def _is_mass_before(node: cst.BaseExpression) -> bool:
    match node:
        case cst.BinaryOperation(left=mass, operator=cst.Subtract(), right=probs):
            return is_called(mass, MASS) and is_called(probs, PROBS)
    return is_called(node, BEFORE)


def _stops_a_loop(node: cst.Comparison, context: Context) -> bool:
    """Tell `if mass >= p: break` above the line that adds the next token's probability."""
    match context.parent(node):
        case cst.If(body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Break()])])) as check:
            below = [n for line in context.after(check) for n in line.children]
            sums = [n.target for n in below if isinstance(n, cst.AugAssign)]
            return any(same(compared, total) for compared in walk(node) for total in sums)
    return False
