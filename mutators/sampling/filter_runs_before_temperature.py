"""A bug in the order of a sampler's steps."""

import re
from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Sighting,
    assigned,
    mentions,
    mutator,
    name_of,
    same,
    swapped,
    uncommented,
    walk,
)
from halfhour.mutators._idioms import TEMPERATURE

FILTER = re.compile(r"_?(\w+_)?(top_?p|min_?p|nucleus|typical|filter|warp|truncat\w*|tail)(_\w+)?")


@mutator(
    topic="sampling",
    family="temperature-after-truncation",
    hints=[
        "Raise the temperature far above 1. Does the set of possible tokens grow with it?",
        "Which distribution does each filter look at?",
        "Temperature comes first: a filter must see the probabilities that are drawn from.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/8686",
            "a refactoring had moved temperature behind top-p",
        ),
        Sighting("https://github.com/mlc-ai/mlc-llm/pull/951", "two back ends, two orders"),
        Sighting("https://github.com/fishaudio/fish-speech/pull/1150", "the same order slip"),
    ],
    mutates={
        """
        def process(scores, temperature, min_p):
            scores = scores / temperature[:, None]
            scores = apply_min_p(scores, min_p)
            return scores
        """: """
        def process(scores, temperature, min_p):
            scores = apply_min_p(scores, min_p)
            scores = scores / temperature[:, None]
            return scores
        """,
        """
        def sample(logits, t, p):
            logits /= t
            logits = top_p_filter(logits, p)
        """: """
        def sample(logits, t, p):
            logits = top_p_filter(logits, p)
            logits /= t
        """,
        """
        def process(scores, temperature, min_p):
            scores = scores / temperature
            if bad(scores):
                raise ValueError("no finite score")
            scores = apply_min_p(scores, min_p)
        """: """
        def process(scores, temperature, min_p):
            scores = apply_min_p(scores, min_p)
            scores = scores / temperature
            if bad(scores):
                raise ValueError("no finite score")
        """,
    },
    spares=[
        """
        def process(scores, temperature, k):
            scores = scores / temperature
            scores = apply_top_k(scores, k)
        """,
        """
        def process(scores, temperature, p):
            scores = scores / temperature
            kept = top_p_filter(scores, p)
        """,
    ],
)
def filter_runs_before_temperature(node: cst.IndentedBlock) -> Iterator[cst.IndentedBlock]:
    """A filter measures probabilities at temperature 1, and temperature is applied afterwards.

    Top-p, min-p and their like look at probabilities, and those depend on the temperature: a high
    one flattens the distribution, so that more tokens are needed to reach p. If temperature comes
    after the filter, the set of possible tokens never changes with it, only the draw among them.

    At temperature 1 both orders are the same, and so they are with top-k alone, which looks only at
    ranks. Some projects document the other order on purpose; what counts is the contract.
    """
    for at, (scales, filters) in enumerate(pairwise(node.body)):
        scores = _scaled(scales)
        if scores is None or not uncommented(scales):
            continue
        if _filtered(filters, scores) and uncommented(filters):
            yield swapped(node, at)
        elif _only_checks(filters) and len(node.body) > at + 2:
            late = node.body[at + 2]
            if _filtered(late, scores) and uncommented(late):
                body = [*node.body[:at], late, scales, filters, *node.body[at + 3 :]]
                yield node.with_changes(body=body)


def _only_checks(line: cst.BaseStatement) -> bool:
    """Tell `if bad: raise ...`."""
    match line:
        case cst.If(body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Raise()])]), orelse=None):
            return True
    return False


def _scaled(line: cst.BaseStatement) -> cst.BaseExpression | None:
    """Return `x` for `x = x / temperature` and `x /= temperature`."""
    match line:
        case cst.SimpleStatementLine([cst.AugAssign(target, cst.DivideAssign(), value)]):
            return target if mentions(value, TEMPERATURE) else None
    match assigned(line):
        case scores, cst.BinaryOperation(left=left, operator=cst.Divide(), right=right):
            return scores if same(scores, left) and mentions(right, TEMPERATURE) else None
    return None


def _filtered(line: cst.BaseStatement, scores: cst.BaseExpression) -> bool:
    """Tell `x = filter(x, ...)`."""
    match assigned(line):
        case target, cst.Call() as call if same(target, scores):
            return FILTER.fullmatch(name_of(call)) is not None and any(
                same(n, scores) for n in walk(call)
            )
    return False
