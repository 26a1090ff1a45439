"""A bug in log-probabilities that are reported beside the sampled tokens."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mentions, mutator, name_of, same, walk

LOGITS = r"(\w+_)?(logits?|scores?|logprobs?)"


@mutator(
    topic="sampling",
    family="logprobs-from-mutated-logits",
    hints=[
        "Compare the logits that you passed in before the call and after it.",
        "Which lines write into a tensor in place, and whose tensor is it?",
        "`float()` returns the same tensor if it is float32 already: in-place edits need a copy.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/30846",
            "raw log-probabilities came from edited logits",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/29680",
            "processors were made to work on copies",
        ),
    ],
    mutates={
        """
        def process(self, logits, bias):
            scores = logits.float().clone()
            for token, b in bias.items():
                scores[:, token] += b
            return scores
        """: """
        def process(self, logits, bias):
            scores = logits.float()
            for token, b in bias.items():
                scores[:, token] += b
            return scores
        """,
        """
        def block(logits, banned):
            out = logits.copy()
            out[banned] = -np.inf
            return out
        """: """
        def block(logits, banned):
            out = logits
            out[banned] = -np.inf
            return out
        """,
        """
        def forbid(logprobs, eos):
            logprobs = logprobs.clone()
            logprobs[:, eos] = -INF
            return logprobs
        """: """
        def forbid(logprobs, eos):
            logprobs[:, eos] = -INF
            return logprobs
        """,
    },
    spares=[
        """
        def scale(logits, t):
            scores = logits.clone()
            return scores / t
        """,
        """
        def store(cache, row):
            kept = cache.clone()
            kept[row] = 0
            return kept
        """,
    ],
)
def logits_processed_without_a_clone(
    node: cst.Call | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.BaseExpression | cst.RemovalSentinel]:
    """Biases and bans are written into the caller's logits, and into what is reported of them.

    Processors edit scores in place, which is fine on a copy. `float()` is no copy when the tensor
    is float32 already, and neither is a slice or a view. Without a clone the caller's logits change
    under its feet, and whatever is computed from them afterwards, such as the log-probabilities of
    the raw model, is that of the edited ones.

    Half-precision models get their copy from `float()` and are right. Requests without bias, bans
    or minimum lengths edit nothing. The text is right in any case, the numbers beside it are not.
    """
    line = context.statement(node)
    match None if line is None else assigned(line):
        case target, cst.Call(cst.Attribute(source, cst.Name("clone" | "copy")), []) as copy:
            if not mentions(source, LOGITS):
                return
            if not any(_writes_into(name_of(target), below) for below in context.after(node)):
                return
            if same(target, source) and node is line:
                yield cst.RemoveFromParent()
            elif not same(target, source) and node is copy:
                yield source


def _writes_into(name: str, line: cst.CSTNode) -> bool:
    """Tell whether the line has `name[...] = ...`, `name[...] += ...` or `name.fill_(...)`."""
    for node in walk(line):
        match node:
            case cst.AssignTarget(cst.Subscript(value=held)) | cst.AugAssign(cst.Subscript(held)):
                if name_of(held) == name:
                    return True
            case cst.Call(func=cst.Attribute(value=held, attr=cst.Name(value=method))):
                if name_of(held) == name and method.endswith("_") and not method.startswith("_"):
                    return True
    return False
