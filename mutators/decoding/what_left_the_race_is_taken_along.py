"""A bug in loops whose members leave one by one."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mentions, mutator

GONE = r"_?(\w+_)?(done|is_done|finished|is_finished|ended|stopped|aborted|cancelled|completed?)"
THERE = r"_?(\w+_)?(running|active|alive|open|unfinished|pending)"
INFINITY = r"inf|INF|NEG_INF|neg_inf|infinity"


@mutator(
    topic="decoding",
    family="beam-extends-finished-hypothesis",
    hints=[
        "Let one member end long before the others. What becomes of it in the steps after that?",
        "By what does the loop know that a member is out, and where does it ask?",
        "What is finished, or impossible, takes no part any more: every step has to skip it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/facebookresearch/ParlAI/issues/2058",
            "beam search went on after the end",
        ),
        Sighting(
            "https://github.com/OpenNMT/OpenNMT-py/issues/137",
            "a finished beam was advanced again",
        ),
    ],
    mutates={
        """
        for row, score in enumerate(scores):
            if score > -math.inf and not self.done[row // k]:
                self.add(row, score)
        """: [
            """
            for row, score in enumerate(scores):
                if not self.done[row // k]:
                    self.add(row, score)
            """,
            """
            for row, score in enumerate(scores):
                if score > -math.inf:
                    self.add(row, score)
            """,
        ],
        """
        for beam in beams:
            if beam.finished:
                continue
            beam.extend(next_token(beam))
        """: """
        for beam in beams:
            beam.extend(next_token(beam))
        """,
        """
        for i, token in steps:
            if i not in running:
                continue
            out[i].append(token)
        """: """
        for i, token in steps:
            out[i].append(token)
        """,
    },
    spares=[
        """
        for beam in beams:
            if beam.empty:
                continue
            beam.extend(1)
        """,
        """
        for beam in beams:
            if beam.finished:
                return beam
        """,
        "ready = started and not failed[row]",
    ],
)
def what_left_the_race_is_taken_along(
    node: cst.BooleanOperation | cst.If, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """A member that is finished, or was never possible, takes part in the step.

    Members of a batch leave one by one, while their places stay until the end: beams that have
    ended, requests that were aborted, slots with a score of minus infinity. Each step has to skip
    them. Where it does not, they grow beyond their end, or come back as results of their own.

    As long as all end in the same step there is nobody to skip, and texts are often cut at their
    first end token when they are printed.
    """
    match node:
        case cst.BooleanOperation(left=left, operator=cst.And(), right=right):
            if context.enclosing(node, cst.For) is None:
                return
            for part, other in ((left, right), (right, left)):
                if _is_in_the_race(part) and context.can_spare(part):
                    yield other
        case cst.If(
            test=test,
            body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Continue() | cst.Break()])]),
            orelse=None,
        ):
            plain = all(line.comment is None for line in node.leading_lines)
            if plain and _is_out(test) and context.after(node) and context.can_spare(node):
                yield cst.RemoveFromParent()


def _is_in_the_race(test: cst.BaseExpression) -> bool:
    """Tell `not done[row]` and `score > -math.inf`."""
    match test:
        case cst.UnaryOperation(cst.Not(), flag):
            return is_called(flag, GONE)
        case cst.Comparison(
            comparisons=[cst.ComparisonTarget(cst.GreaterThan() | cst.NotEqual(), low)]
        ):
            return _is_minus_infinity(low)
    return False


def _is_out(test: cst.BaseExpression) -> bool:
    """Tell `done[row]`, `i not in running`, `status is Status.ABORTED`, `score == -math.inf`."""
    match test:
        case cst.Comparison(comparisons=[cst.ComparisonTarget(cst.NotIn(), members)]):
            return is_called(members, THERE)
        case cst.Comparison(comparisons=[cst.ComparisonTarget(cst.Is() | cst.Equal(), what)]):
            return is_called(what, f"(?i:{GONE})") or _is_minus_infinity(what)
    return is_called(test, GONE)


def _is_minus_infinity(value: cst.BaseExpression) -> bool:
    match value:
        case cst.UnaryOperation(cst.Minus(), bound):
            return is_called(bound, INFINITY)
        case cst.Call(cst.Name("float"), [cst.Arg(cst.SimpleString(text))]):
            return text.strip("'\"") == "-inf"
    return mentions(value, INFINITY)
