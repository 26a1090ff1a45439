"""A bug between functions that pass on logits and probabilities."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    assigned,
    fill,
    is_called,
    mutator,
    pattern,
    walk,
)

NORMALISES = r"_?(to_|get_|compute_)?(probs|probabilities)|logits_to_probs"
LOGITS = r"(\w+_)?(logits?|scores)"
PROBS = r"probs|probabilities|weights"
SOFTMAX = pattern("$x.softmax(dim=-1)")


@mutator(
    topic="decoding",
    family="probs-passed-where-logits-expected",
    hints=[
        "How sure is the model of its favourite before the function, and how sure afterwards?",
        "Is what goes into the softmax made of logits, or did another softmax see it before?",
        "Logits become probabilities once, at one place, and stay what they are from there on.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm-ascend/pull/6685",
            "a signature changed from one kind to the other",
        ),
    ],
    mutates={
        "target_probs = self._probs(logits[n - 1 :])": (
            "target_probs = self._probs(logits[n - 1 :].softmax(dim=-1))"
        ),
        "q = to_probs(model(ids)[-1], temperature)": (
            "q = to_probs(model(ids)[-1].softmax(dim=-1), temperature)"
        ),
        """
        def sample(logits, temperature):
            probs = torch.softmax(logits / temperature, dim=-1)
            token = torch.multinomial(probs, 1)
            return token, F.log_softmax(logits, dim=-1).gather(-1, token)
        """: """
        def sample(logits, temperature):
            probs = torch.softmax(logits / temperature, dim=-1)
            token = torch.multinomial(probs, 1)
            return token, F.log_softmax(probs, dim=-1).gather(-1, token)
        """,
    },
    spares=[
        "probs = to_probs(weights, temperature)",
        "self._probs(logits.softmax(dim=-1))",
        """
        def sample(logits):
            logprobs = logits.log_softmax(dim=-1)
            probs = logprobs.exp()
            return probs
        """,
    ],
)
def softmax_is_taken_twice(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """What already are probabilities is taken for logits and goes through a second softmax.

    A softmax turns differences of logits into ratios. Numbers between 0 and 1 differ by less than
    1, so a second one makes of any distribution a nearly flat one: the favourite of a million is at
    most e times as likely as the least of them.

    The result is positive, sums to 1 and ranks the tokens as before, so greedy decoding and every
    check of the shape agree. Only what is drawn, or reported as likely, is off.
    """
    first = argument(node, 0)
    if is_called(node, NORMALISES) and node.args:
        given = node.args[0].value
        owner = given.value if isinstance(given, cst.Subscript) else given
        if is_called(owner, LOGITS) or (owner is not given and isinstance(owner, cst.Call)):
            again = cst.ensure_type(fill(SOFTMAX, {"x": given}), cst.Call)
            yield node.with_changes(args=[node.args[0].with_changes(value=again), *node.args[1:]])
    elif first is not None and is_called(node, "log_softmax|softmax") and is_called(first, LOGITS):
        probs = _made_before(first, node, context)
        if probs is not None:
            yield cst.ensure_type(node.deep_replace(first, probs), cst.Call)


def _made_before(
    logits: cst.BaseExpression, node: cst.CSTNode, context: Context
) -> cst.Name | None:
    """Return `probs` where a line above made it of these logits."""
    for line in context.before(node):
        match assigned(line):
            case cst.Name() as probs, cst.Call() as made if is_called(probs, PROBS):
                if is_called(made, "softmax") and any(_is_same(n, logits) for n in walk(made)):
                    return cst.Name(probs.value)
    return None


def _is_same(node: cst.CSTNode, other: cst.CSTNode) -> bool:
    """Tell whether both are one variable."""
    match node, other:
        case cst.Name(value=name), cst.Name(value=wanted):
            return name == wanted
    return False
