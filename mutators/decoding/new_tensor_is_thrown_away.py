"""A bug in calls that return a new tensor."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, arguments, assigned, is_called, mutator, same

COPYING = r"masked_fill|index_fill|index_select|index_copy|index_add|scatter(_add)?|clamp|clip|roll"
HELPER = (
    r"_?(reorder|rearrange|permute|select|gather|sort|forbid|mask|ban|block|suppress|filter|"
    r"process|apply|penali[sz]e)(_\w+)?"
)


@mutator(
    topic="decoding",
    family="beam-reorder-result-discarded",
    hints=[
        "What does the caller hold after the call: the old values or the new ones?",
        "Which calls in this file return what they made, and is each result kept?",
        "A function that leaves its argument alone has done nothing for who drops its result.",
    ],
    sightings=[
        Sighting(
            "https://github.com/awslabs/sockeye/pull/731",
            "re-ordered states were returned and not taken",
        ),
    ],
    mutates={
        "self.state = reorder_rows(self.state, rows)": "reorder_rows(self.state, rows)",
        "scores = scores.masked_fill(banned, -math.inf)": "scores.masked_fill(banned, -math.inf)",
        """
        def step(self, scores, ids):
            scores = self._apply_penalties(scores, ids)
            excess = np.clip(excess, 0, None)
            return scores, excess
        """: [
            """
            def step(self, scores, ids):
                self._apply_penalties(scores, ids)
                excess = np.clip(excess, 0, None)
                return scores, excess
            """,
            """
            def step(self, scores, ids):
                scores = self._apply_penalties(scores, ids)
                np.clip(excess, 0, None)
                return scores, excess
            """,
        ],
    },
    spares=[
        "scores.masked_fill_(banned, -math.inf)",
        "kept = scores.masked_fill(banned, -math.inf)",
        "logits = logits.float()",
        "mask = apply_window(positions, mask)",
    ],
)
def new_tensor_is_thrown_away(
    node: cst.SimpleStatementLine,
) -> Iterator[cst.SimpleStatementLine]:
    """A call that returns a new tensor is made as if it changed the old one.

    Most operations leave what they are given alone and return a copy. Their work is in the result:
    where nobody assigns it, the variable still holds what it held before, in the same shape. Only
    in-place operations, whose names end with an underscore, may be called for their effect.

    The line reads as if it did its job, and nothing complains about a result that is dropped. Who
    checks by comparing sums will not see that rows kept their old order either.
    """
    match assigned(node):
        case target, cst.Call() as call if is_called(call, f"{COPYING}|{HELPER}"):
            first = [*arguments(call)[:1], *call.args[:1]]
            if any(same(arg.value, target) for arg in first):
                yield node.with_changes(body=[cst.Expr(call.with_changes(lpar=[], rpar=[]))])
