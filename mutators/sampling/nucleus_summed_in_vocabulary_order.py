"""A bug in nucleus sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, mutator, name_of, walk


@mutator(
    topic="sampling",
    family="cumsum-on-unsorted-probs",
    hints=[
        "Rename the tokens: permute the vocabulary. Should the nucleus hold other words now?",
        "In which order are the probabilities added up, and in which order is the sum used?",
        "Mass is collected from the most likely token downwards, so it is summed in sorted order.",
    ],
    sightings=[
        Sighting("https://github.com/dmlc/gluon-nlp/issues/1481", "summed in vocabulary order"),
        Sighting(
            "https://github.com/ml-explore/mlx-examples/pull/602",
            "reversed along the wrong axis, right by accident",
        ),
    ],
    mutates={
        """
        def top_p_filter(logits, p):
            sorted_logits, order = torch.sort(logits, dim=-1, descending=True)
            probs = torch.softmax(sorted_logits, dim=-1)
            return sorted_logits, order, probs.cumsum(-1)
        """: """
        def top_p_filter(logits, p):
            sorted_logits, order = torch.sort(logits, dim=-1, descending=True)
            probs = torch.softmax(logits, dim=-1)
            return sorted_logits, order, probs.cumsum(-1)
        """,
        """
        def top_p_filter(logits, p):
            values, order = logits.sort(-1, descending=True)
            mass = values.softmax(-1).cumsum(-1)
            return values.masked_fill(mass > p, -INF)
        """: """
        def top_p_filter(logits, p):
            values, order = logits.sort(-1, descending=True)
            mass = logits.softmax(-1).cumsum(-1)
            return values.masked_fill(mass > p, -INF)
        """,
    },
    spares=[
        """
        def probabilities(logits):
            values, order = logits.sort(-1)
            return logits.softmax(-1), order, values
        """,
        """
        def only_use(logits):
            values, order = logits.sort(-1)
            return values.softmax(-1), order
        """,
    ],
)
def nucleus_summed_in_vocabulary_order(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """The cumulative mass is summed over the vocabulary's order, not from the most likely down.

    The nucleus is found by sorting: probabilities in falling order, their running sum, and a cut
    where it reaches p. If the sum runs over the unsorted probabilities, the i-th sum has nothing to
    do with the i-th best token, and the cut falls where the vocabulary happens to have collected
    enough mass.

    Every intermediate has the right shape, the last sum is still 1, and toy tests like to list
    their tokens from the most likely to the least, which is sorted already.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if name_of(node) != "softmax" or function is None or not arguments(node):
        return
    scores = arguments(node)[0].value
    raw = _sorted_from(scores, function)
    if isinstance(scores, cst.Name) and raw is not None and context.can_spare(scores):
        plain = scores.with_changes(value=raw)
        match node:
            case cst.Call(func=cst.Attribute(value=owner)) if owner is scores:
                yield node.with_changes(func=node.func.with_changes(value=plain))
            case _:
                yield node.with_changes(
                    args=[node.args[0].with_changes(value=plain), *node.args[1:]]
                )


def _sorted_from(scores: cst.BaseExpression, function: cst.FunctionDef) -> str | None:
    """Return `logits` if the function has `scores, order = torch.sort(logits)`."""
    for node in walk(function):
        match node:
            case cst.Assign(
                targets=[cst.AssignTarget(cst.Tuple(elements=[cst.Element(cst.Name(first)), _]))],
                value=cst.Call() as call,
            ) if name_of(call) == "sort" and name_of(scores) == first:
                match arguments(call):
                    case [cst.Arg(value=cst.Name(value=raw)), *_] if raw != first:
                        return raw
    return None
