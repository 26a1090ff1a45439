"""A bug in routers whose load is kept even by a bias."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    assigned,
    mentions,
    mutator,
    name_of,
    same,
    walk,
)

BIAS = r"(\w+_)?(bias|biases|correction|score_correction_bias)"
SCORES = re.compile(r"(\w+_)?(scores?|probs?|weights|affinit\w+|gates?|router_\w+)(_\w+)?")


# Fits one subject: only a router ranks by biased scores.
@mutator(
    topic="moe",
    family="routing-bias-leaks-into-weights",
    hints=[
        "Give one expert a bias so large that it wins anyway. What should its share be then?",
        "Which of two tensors picks the experts, and from which are the weights read?",
        "A bias that evens the load decides who is chosen; weights come from the bare scores.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/12002",
            "weights were taken from the biased scores",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/41647", "the same in another model"
        ),
    ],
    mutates={
        """
        def route(self, scores, k):
            scores_for_choice = scores + self.e_score_correction_bias
            ids = torch.topk(scores_for_choice, k, dim=-1).indices
            weights = scores.gather(-1, ids)
            return weights, ids
        """: """
        def route(self, scores, k):
            scores_for_choice = scores + self.e_score_correction_bias
            ids = torch.topk(scores_for_choice, k, dim=-1).indices
            weights = scores_for_choice.gather(-1, ids)
            return weights, ids
        """,
        """
        def route(probs, bias, k):
            ranked = probs if bias is None else probs + bias[None]
            ids = np.argsort(-ranked, axis=-1)[:, :k]
            return np.take_along_axis(probs, ids, axis=-1), ids
        """: """
        def route(probs, bias, k):
            ranked = probs if bias is None else probs + bias[None]
            ids = np.argsort(-ranked, axis=-1)[:, :k]
            return np.take_along_axis(ranked, ids, axis=-1), ids
        """,
    },
    spares=[
        """
        def route(scores, k):
            ids = scores.topk(k).indices
            return scores.gather(-1, ids)
        """,
        """
        def project(hidden, bias, ids):
            shifted = hidden + bias
            return hidden.gather(-1, ids), shifted
        """,
        """
        def route(self, scores, k):
            biased = scores + self.bias
            return biased.topk(k)
        """,
    ],
)
def selection_bias_weighs_the_choice(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """The bias that evens out the experts' load also changes how much a chosen expert weighs.

    Without a balancing loss, a bias per expert is moved up and down until all are busy. It enters
    the ranking alone. The weights of the chosen are their scores as the router gave them; read from
    the biased copy they shift with the load, and may be negative or far too large.

    The chosen experts are the right ones, so that tests on ids pass. A fresh layer has a bias of
    zero, and a balanced one has small values: the output is only a little off.
    """
    if name_of(node) not in ("gather", "take_along_axis", "take_along_dim"):
        return
    source = argument(node, 0, "input", "arr")
    if not isinstance(source, cst.Name) or not SCORES.fullmatch(source.value):
        return
    for line in context.before(node):
        match assigned(line):
            case cst.Name() as biased, value if not same(biased, source):
                if _is_biased(value, source):
                    new = node.deep_replace(source, source.with_changes(value=biased.value))
                    assert isinstance(new, cst.Call)
                    yield new


def _is_biased(value: cst.BaseExpression, scores: cst.Name) -> bool:
    """Tell whether the value has `scores + bias` in it."""
    return any(
        isinstance(n, cst.BinaryOperation)
        and isinstance(n.operator, cst.Add)
        and same(n.left, scores)
        and mentions(n.right, BIAS)
        for n in walk(value)
    )
