"""A bug in the first step of a beam search."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mentions, mutator, walk

SCORES = r"(\w+_)?(beam_?scores?|scores?|log_?probs?|lls?|totals?|sums?)"
INFINITY = r"inf|INF|NEG_INF|neg_inf|infinity"


# Fits one subject: only a beam search starts with several copies of one text.
@mutator(
    topic="decoding",
    family="beam-all-start-identical",
    hints=[
        "Look at all beams after the first step. How many different tokens are among them?",
        "Before the first step all beams of a prompt are alike. How many of them may compete?",
        "In the first step one beam per prompt counts, for its copies offer the same again.",
    ],
    sightings=[
        Sighting(
            "https://github.com/facebookresearch/ParlAI/pull/2047",
            "all hypotheses came out the same",
        ),
        Sighting("https://github.com/facebookresearch/ParlAI/issues/2007", "a user's report of it"),
    ],
    mutates={
        """
        def start(self, b, k):
            self.beam_scores = torch.full((b, k), -math.inf)
            self.beam_scores[:, 0] = 0.0
        """: """
        def start(self, b, k):
            self.beam_scores = torch.full((b, k), -math.inf)
            self.beam_scores[:] = 0.0
        """,
        """
        def start(b, k):
            scores = np.zeros((b, k))
            scores[:, 1:] = -np.inf
            return scores
        """: """
        def start(b, k):
            scores = np.zeros((b, k))
            return scores
        """,
    },
    spares=[
        """
        def shift(b, k):
            scores = torch.zeros(b, k)
            scores[:, 0] = 0.0
        """,
        """
        def mask(b, k):
            logits = torch.full((b, k), -math.inf)
            logits[:, 0] = 0.0
        """,
    ],
)
def every_beam_starts_alive(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """All beams of a prompt compete in the first step, though they are the same text.

    A search starts with as many copies of the prompt as it has beams. Each copy would offer the
    same tokens with the same scores, and the best of them would be chosen several times. So all but
    one start with a score of minus infinity, and the first step spreads the one that is left.

    If all start with zero, the beams are twins from then on and the search is greedy. Its answer is
    a good one all the same.
    """
    match assigned(node):
        case cst.Subscript(
            value=scores, slice=[cst.SubscriptElement(cst.Slice()) as rows, which]
        ), value:
            if not is_called(scores, SCORES):
                return
            match which.slice, value:
                case cst.Index(cst.Integer("0")), cst.Integer() | cst.Float():
                    if _filled(scores, node, context) and float(value.value) == 0:
                        line = cst.ensure_type(node.body[0], cst.Assign)
                        cell = cst.ensure_type(line.targets[0].target, cst.Subscript)
                        all_rows = rows.with_changes(comma=cst.MaybeSentinel.DEFAULT)
                        every = line.targets[0].with_changes(
                            target=cell.with_changes(slice=[all_rows])
                        )
                        yield node.with_changes(body=[line.with_changes(targets=[every])])
                case cst.Slice(lower=cst.Integer("1"), upper=None), low if mentions(low, INFINITY):
                    yield cst.RemoveFromParent()


def _filled(scores: cst.BaseExpression, node: cst.CSTNode, context: Context) -> bool:
    """Tell whether a line above fills the scores with minus infinity."""
    for line in context.before(node):
        match assigned(line):
            case target, cst.Call() as made if is_called(made, "full|full_like|new_full"):
                if target.deep_equals(scores) and any(mentions(n, INFINITY) for n in walk(made)):
                    return True
    return False
