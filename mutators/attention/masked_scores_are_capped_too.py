"""A bug in models that cap their scores."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Sighting,
    assigned,
    is_called,
    mentions,
    mutator,
    pattern,
    same,
    swapped,
    uncommented,
)

CAPS = r"(\w+_)?(soft_?cap|cap|cap_scores|apply_softcap|capped|logit_cap)"
CAPPED = [
    pattern("$cap * torch.tanh($x / $cap)"),
    pattern("torch.tanh($x / $cap) * $cap"),
    pattern("$cap * np.tanh($x / $cap)"),
    pattern("np.tanh($x / $cap) * $cap"),
]
FILLED = [
    pattern("$capped.masked_fill($mask, $low)"),
    pattern("torch.where($mask, $capped, $low)"),
    pattern("np.where($mask, $capped, $low)"),
]


# Fits one subject: only decoder_block caps and masks its scores in one place.
@mutator(
    topic="attention",
    family="softcap-after-mask",
    hints=[
        "Take a cap of 2 and change the content of a hidden key. Does the output move?",
        "Two steps treat the scores before the softmax. What does each make of minus infinity?",
        "Scores are capped first and masked last, so that nothing brings a hidden one back.",
    ],
    sightings=[
        Sighting(
            "https://github.com/flashinfer-ai/flashinfer/pull/350",
            "masked scores came out as minus the cap",
        ),
        Sighting(
            "https://github.com/Dao-AILab/flash-attention/pull/1025",
            "small caps leak hidden keys",
        ),
    ],
    mutates={
        'scores = softcap(scores, cap).masked_fill(~visible, float("-inf"))': (
            'scores = softcap(scores.masked_fill(~visible, float("-inf")), cap)'
        ),
        "scores = np.where(keep, cap * np.tanh(scores / cap), -np.inf)": (
            "scores = cap * np.tanh(np.where(keep, scores, -np.inf) / cap)"
        ),
        """
        def attend(s, blocked, cap):
            s = cap * torch.tanh(s / cap)
            s = s.masked_fill(blocked, -math.inf)
            return s.softmax(-1)
        """: """
        def attend(s, blocked, cap):
            s = s.masked_fill(blocked, -math.inf)
            s = cap * torch.tanh(s / cap)
            return s.softmax(-1)
        """,
    },
    spares=[
        "logits = softcap(head(x), cap)",
        "scores = clip(scores, cap).masked_fill(~visible, 0.0)",
        """
        def attend(s, blocked, cap):
            s = cap * torch.tanh(s / cap)
            probs = s.masked_fill(blocked, -math.inf)
            return probs.softmax(-1)
        """,
    ],
)
def masked_scores_are_capped_too(
    node: cst.Call | cst.IndentedBlock,
) -> Iterator[cst.CSTNode]:
    """The cap is applied after the mask and gives hidden keys a score again.

    A cap squashes every score into (-cap, cap), minus infinity included, which becomes -cap. Keys
    that were hidden before take part in the softmax then, with the lowest score that the cap
    allows. So the mask has to come last.

    With a cap of 50 the weight of such a key is below what anyone compares, and the result looks
    exact; with small caps, or many hidden keys, the leak is plain to see.
    """
    if isinstance(node, cst.IndentedBlock):
        for at in range(len(node.body) - 1):
            capped, masked = assigned(node.body[at]), assigned(node.body[at + 1])
            if capped is None or masked is None or not same(capped[0], masked[0]):
                continue
            inner = _filled(masked[1])
            if inner is None or not same(inner, masked[0]):
                continue
            if _is_capped(capped[1], inner) and uncommented(*node.body[at : at + 2]):
                yield swapped(node, at)
        return
    capped_scores = _filled(node)
    if capped_scores is None:
        return
    scores = _scores_of(capped_scores)
    if scores is not None:
        masked_scores = node.deep_replace(capped_scores, scores)
        yield capped_scores.deep_replace(scores, masked_scores)


def _filled(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return what the mask is applied to."""
    for form in FILLED:
        found = form.match(node)
        if found is not None and mentions(found["low"], r"inf|float|NEG_INF|min|INF"):
            return found["capped"]
    return None


def _scores_of(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return what the cap is applied to."""
    for form in CAPPED:
        if (found := form.match(node)) is not None:
            return found["x"]
    match node:
        case cst.Call(func=cst.Name(), args=[cst.Arg(value=scores), _]) if is_called(node, CAPS):
            return scores
    return None


def _is_capped(value: cst.BaseExpression, scores: cst.BaseExpression) -> bool:
    inner = _scores_of(value)
    return inner is not None and same(inner, scores)
