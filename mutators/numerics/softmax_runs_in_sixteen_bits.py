"""A bug in probabilities made of 16-bit logits."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, arguments, is_called, mutator, name_of

SOFTMAX = r"softmax|log_softmax|logsumexp|log_sigmoid|logsigmoid"


@mutator(
    topic="numerics",
    family="probabilities-in-half-precision",
    hints=[
        "Give it bfloat16 logits. Do the probabilities of a row still sum to 1?",
        "In which dtype is the exponential taken when the model runs in 16 bits?",
        "Logits are cast to float32 before the softmax, not after it and not at all.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm-omni/pull/3252",
            "the softmax before sampling ran in 16 bits",
        ),
        Sighting(
            "https://github.com/Lightning-AI/litgpt/issues/2323",
            "a token of probability zero was drawn",
        ),
    ],
    mutates={
        "probs = torch.softmax(logits.float(), dim=-1)": "probs = torch.softmax(logits, dim=-1)",
        "logp = logits[:, -1].to(torch.float32).log_softmax(-1)": (
            "logp = logits[:, -1].log_softmax(-1)"
        ),
        "p = F.softmax(scores, dim=-1, dtype=torch.float32)": "p = F.softmax(scores, dim=-1)",
    },
    spares=[
        "probs = torch.softmax(logits, dim=-1)",
        "probs = torch.softmax(logits, dim=-1).float()",
        "x = torch.sigmoid(gate.float())",
    ],
)
def softmax_runs_in_sixteen_bits(node: cst.Call) -> Iterator[cst.CSTNode]:
    """Probabilities are computed in the dtype of the logits, 16 bits or not.

    A model in 16 bits returns logits in 16 bits, and bfloat16 keeps eight binary digits. The
    softmax over a vocabulary sums up many small numbers, and a log-probability is the difference of
    two that are large: both need float32. Without the cast, near candidates become equal, small
    probabilities become zero, and the result even has another dtype.

    For float32 logits the cast does nothing, so tests with plain random tensors cannot miss it.
    """
    if not is_called(node, SOFTMAX):
        return
    for at, given in enumerate(node.args):
        if given.keyword is not None and given.keyword.value == "dtype":
            kept = [arg for i, arg in enumerate(node.args) if i != at]
            kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
            yield node.with_changes(args=kept)
            return
    first = arguments(node)[0].value
    if (narrow := _uncast(first)) is not None:
        match node.func:
            case cst.Attribute(value=owner) if owner is first:
                yield node.with_changes(func=node.func.with_changes(value=narrow))
            case _:
                yield node.with_changes(
                    args=[node.args[0].with_changes(value=narrow), *node.args[1:]]
                )


def _uncast(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return `logits` of `logits.float()` and of `logits.to(torch.float32)`."""
    match node:
        case cst.Call(cst.Attribute(value, cst.Name("float")), []):
            return value
        case cst.Call(cst.Attribute(value, cst.Name("to" | "astype" | "type")), [cst.Arg(dtype)]):
            return value if name_of(dtype) == "float32" else None
    return None
