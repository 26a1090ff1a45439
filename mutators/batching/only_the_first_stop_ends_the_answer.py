"""A bug in what ends an answer."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, argument, is_called, mutator

STOPS = (
    r"(\w+_)?(eos_ids|eos_token_ids|stop_ids|stop_token_ids|stop_tokens|stops|stop_sequences"
    r"|stop_strings|stop_words|end_ids|stop)"
)


@mutator(
    topic="batching",
    family="only-one-eos-id-honoured",
    hints=[
        "Give several tokens or texts that are to end the answer, and let the last one come up.",
        "Where is what was generated compared with what ends it, and with how much of that?",
        "Any one of the given ends is an end, not only the one that is named first.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Blaizzy/mlx-vlm/pull/2112",
            "one EOS id replaced the other instead of joining it",
        ),
        Sighting(
            "https://github.com/InternLM/lmdeploy/pull/3148", "fewer ids than the template has"
        ),
    ],
    mutates={
        "done = token in self.eos_ids": "done = token in self.eos_ids[:1]",
        "done = done | torch.isin(tokens, eos_token_ids)": (
            "done = done | torch.isin(tokens, eos_token_ids[:1])"
        ),
        "found = any(text.endswith(stop) for stop in request.stop_strings)": (
            "found = any(text.endswith(stop) for stop in request.stop_strings[:1])"
        ),
    },
    spares=[
        "known = token in vocab",
        "done = token == eos_id",
        "if () in request.stop: raise ValueError(request.stop)",
        "names = [name for name in fields]",
    ],
)
def only_the_first_stop_ends_the_answer(
    node: cst.Comparison | cst.Call | cst.CompFor, context: Context
) -> Iterator[cst.CSTNode]:
    """Of several tokens or texts that end an answer, only the first one does.

    Models have more than one end: of the text, of the turn, of a tool call, and requests bring
    their own. An answer ends with any of them. If only the first is looked for, the others are
    ordinary tokens, and the answer runs on behind them until its limit.

    A model with one EOS id, or a test with one stop, cannot tell the difference.
    """
    if any(isinstance(above, cst.Raise) for above in context.ancestors(node)):
        return
    match node:
        case cst.Comparison(
            left=cst.Name() | cst.Attribute() | cst.Subscript(),
            comparisons=[cst.ComparisonTarget(operator=cst.In(), comparator=stops) as target],
        ) if is_called(stops, STOPS) and _is_plain(stops):
            yield node.with_changes(comparisons=[target.with_changes(comparator=_first(stops))])
        case cst.Call(args=[*_, cst.Arg(value=stops) as arg]) if is_called(node, "isin|in1d"):
            if argument(node, 1) is stops and is_called(stops, STOPS) and _is_plain(stops):
                front = arg.with_changes(value=_first(stops))
                yield node.with_changes(args=[*node.args[:-1], front])
        case cst.CompFor(iter=stops) if is_called(stops, STOPS) and _is_plain(stops):
            match context.parent(node):
                case cst.GeneratorExp(elt=cst.Comparison() | cst.Call()):
                    yield node.with_changes(iter=_first(stops))


def _is_plain(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name | cst.Attribute)


def _first(stops: cst.BaseExpression) -> cst.Subscript:
    one = cst.Slice(lower=None, upper=cst.Integer("1"))
    return cst.Subscript(stops, [cst.SubscriptElement(one)])
