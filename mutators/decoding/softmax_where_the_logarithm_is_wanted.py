"""A bug in scores of tokens and sequences."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

LOGPROBS = r"(\w+_)?(log_?probs?|logp|lp|log_probabilities)"


@mutator(
    topic="decoding",
    family="probs-passed-where-logits-expected",
    hints=[
        "Which sign do the scores have, and what is the score of a sequence with two tokens?",
        "Follow a score back to the line where it is made of logits. Of which kind is it there?",
        "Sequences are scored by sums of log-probabilities, and these are never above zero.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm-ascend/pull/6685",
            "probabilities and logits taken for each other",
        ),
        Sighting(
            "https://github.com/keras-team/keras-core/pull/389",
            "a sampler was given the other kind",
        ),
    ],
    mutates={
        "logprobs = torch.log_softmax(logits.float(), dim=-1)": (
            "logprobs = torch.softmax(logits.float(), dim=-1)"
        ),
        "lp = F.log_softmax(logits, -1).gather(-1, ids)": (
            "lp = F.softmax(logits, -1).gather(-1, ids)"
        ),
        "log_probs = logits.log_softmax(dim=-1)": "log_probs = logits.softmax(dim=-1)",
        "logprobs = np.log(softmax(logits))": "logprobs = softmax(logits)",
    },
    spares=[
        "probs = torch.softmax(logits, dim=-1)",
        "loss = F.nll_loss(F.log_softmax(logits, dim=-1), target)",
        "entropy = -(p * np.log(p)).sum()",
    ],
)
def softmax_where_the_logarithm_is_wanted(
    node: cst.Name | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """Probabilities take the place of log-probabilities.

    The probability of a text is a product, and its logarithm a sum over the tokens. If the
    logarithm is left out, sums of probabilities are compared: they reward every further token, and
    a single impossible one costs next to nothing.

    Shapes and dtypes are the same, both kinds rank the tokens of one step alike, and masking with
    minus infinity works on either. Greedy choices never change.
    """
    match node:
        case cst.Name("log_softmax"):
            above = context.parent(node)
            call = context.parent(above) if isinstance(above, cst.Attribute) else above
            if isinstance(call, cst.Call) and _makes_logprobs(call, context):
                yield cst.Name("softmax")
        case cst.Call(args=[cst.Arg(value=cst.Call() as inner)]) if is_called(node, "log"):
            if is_called(inner, "softmax") and _makes_logprobs(node, context):
                yield inner


def _makes_logprobs(call: cst.CSTNode, context: Context) -> bool:
    """Tell whether what it becomes, perhaps behind a gather, is called log-probabilities."""
    line = context.enclosing(call, cst.Assign)
    if line is None or len(line.targets) != 1:
        return False
    inner = line.value
    while isinstance(inner, cst.Call) and inner is not call:
        inner = inner.func.value if isinstance(inner.func, cst.Attribute) else inner.func
    return inner is call and is_called(line.targets[0].target, LOGPROBS)
