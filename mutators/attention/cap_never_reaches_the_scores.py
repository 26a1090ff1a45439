"""A bug in models that cap their scores."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator
from halfhour.mutators._idioms import without_optional

CAP = r"(\w+_)?(soft_?)?cap(ping)?|logits?_soft_?cap|attn_logit_softcapping"


@mutator(
    topic="attention",
    family="softcap-dropped",
    hints=[
        "Multiply the queries by 50. Is there still a bound on what the softmax gets to see?",
        "Follow the cap from the settings to the scores, on every path that computes some.",
        "Each path that makes scores has to cap them, or a cap in the settings means nothing.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang/issues/33915",
            "the cap went to a call that ignored it",
        ),
        Sighting("https://github.com/vllm-project/vllm-metal/issues/665", "zero at both calls"),
    ],
    mutates={
        """
        def scores_of(q, k, scale, softcap=None):
            s = (q @ k.mT) * scale
            return s if softcap is None else softcap * tanh(s / softcap)

        def attend(q, k, v, softcap):
            if softcap is not None and softcap <= 0:
                raise ValueError(softcap)
            return scores_of(q, k, 1.0, softcap).softmax(-1) @ v
        """: """
        def scores_of(q, k, scale, softcap=None):
            s = (q @ k.mT) * scale
            return s if softcap is None else softcap * tanh(s / softcap)

        def attend(q, k, v, softcap):
            if softcap is not None and softcap <= 0:
                raise ValueError(softcap)
            return scores_of(q, k, 1.0).softmax(-1) @ v
        """,
        "out = ops.flash_decode(q, cache, scale=self.scale, logits_soft_cap=self.cap)": (
            "out = ops.flash_decode(q, cache, scale=self.scale)"
        ),
        """
        def split(q, kv, softcap):
            a = part(q, kv[0], causal=False, softcap=softcap)
            b = part(q, kv[1], causal=True, softcap=softcap)
            return merge(a, b)

        def part(q, kv, *, causal, softcap):
            return softcap
        """: [
            """
        def split(q, kv, softcap):
            a = part(q, kv[0], causal=False, softcap=None)
            b = part(q, kv[1], causal=True, softcap=softcap)
            return merge(a, b)

        def part(q, kv, *, causal, softcap):
            return softcap
        """,
            """
        def split(q, kv, softcap):
            a = part(q, kv[0], causal=False, softcap=softcap)
            b = part(q, kv[1], causal=True, softcap=None)
            return merge(a, b)

        def part(q, kv, *, causal, softcap):
            return softcap
        """,
        ],
    },
    spares=[
        """
        def attend(q, k, softcap):
            return ops.flash_decode(q, k, softcap=softcap)
        """,
        "limit = plan(capacity=64)",
    ],
)
def cap_never_reaches_the_scores(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """One path computes scores without the cap that the model was trained with.

    Some models squash their scores into (-cap, cap) before the softmax. The cap comes from the
    settings and has to reach every place that computes scores: prefill, decoding, and each part of
    a split computation. Where it is left out, large scores stay as large as they are.

    The cap is nearly the identity for small scores, so short prompts give the same tokens. A path
    that forgets it works, and only drifts where a head is very sure of itself.
    """
    found = list(without_optional(node, context, CAP))
    yield from found
    for at, arg in enumerate(node.args):
        if found or not _passes_on_a_cap(arg) or not context.can_spare(arg.value):
            continue
        args = [*node.args]
        args[at] = arg.with_changes(value=cst.Name("None"))
        yield node.with_changes(args=args)


def _passes_on_a_cap(arg: cst.Arg) -> bool:
    """Tell `softcap=softcap`, a keyword that cannot be left out, from other arguments."""
    match arg:
        case cst.Arg(keyword=cst.Name(value=keyword), value=cst.Name(value=name)):
            return keyword == name and "softcap" in name.replace("_", "")
    return False
