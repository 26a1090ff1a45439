"""A bug in how scores are masked."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mentions, mutator, name_of, pattern

SCORES = r"(\w+_)?(scores?|attn|att|attn_weights|attention_scores|logits|sim|s|weights|qk)"
HIDDEN = r"\w*(mask|visible|hidden|blocked|allowed|keep|causal|banned|seen|invalid|pad)\w*"
LOWEST = [
    pattern(form)
    for form in (
        'float("-inf")',
        "float('-inf')",
        "-float('inf')",
        '-float("inf")',
        "-math.inf",
        "-np.inf",
        "-torch.inf",
        "-INF",
        "NEG_INF",
        "torch.finfo($t).min",
        "np.finfo($t).min",
    )
]


@mutator(
    topic="masking",
    family="finite-mask-sentinel-too-small",
    hints=[
        "Make all scores of a row very negative. Do hidden keys stay without weight?",
        "What stands in the place of a hidden score, and is any real score below it?",
        "A hidden score has to be lower than every score there can be: minus infinity.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ohdearquant/lattice/pull/373",
            "a finite stand-in beat genuine scores",
        ),
        Sighting(
            "https://github.com/flagos-ai/FlagAttention/issues/25", "-1e6 taken to get rid of NaN"
        ),
    ],
    mutates={
        'probs = scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)': (
            "probs = scores.masked_fill(~visible, -1e4).softmax(dim=-1)"
        ),
        "att = np.where(mask, att, -np.inf)": "att = np.where(mask, att, -1e4)",
        "softmax.update(scores.masked_fill(~visible, NEG_INF), v_tile)": (
            "softmax.update(scores.masked_fill(~visible, -1e4), v_tile)"
        ),
    },
    spares=[
        'logits = logits.masked_fill(logits < bar, float("-inf"))',
        "v = v.masked_fill(~visible, 0.0)",
        "running_max = torch.full(rows, NEG_INF)",
    ],
)
def masked_score_is_only_a_small_number(node: cst.Call) -> Iterator[cst.Call]:
    """Hidden keys get a score that a visible key may fall below.

    Hiding a key means to give it a score whose exponential is zero. Minus infinity does that
    whatever the other scores are. A large negative number does it only as long as the visible keys
    lie well above it: where they do not, the hidden key is the row's maximum and takes all weight.

    Trained models have scores in the single digits, where the exponential of -10000 is exactly
    zero, and the finite number is even praised for never giving NaN.
    """
    for at, arg in enumerate(node.args):
        if any(form.match(arg.value) is not None for form in LOWEST) and _masks_scores(node):
            args = [*node.args]
            args[at] = arg.with_changes(value=cst.parse_expression("-1e4"))
            yield node.with_changes(args=args)


def _masks_scores(node: cst.Call) -> bool:
    """Tell `scores.masked_fill(mask, low)` and `where(mask, scores, low)`."""
    if is_called(node, r"masked_fill_?") and isinstance(node.func, cst.Attribute):
        scores, mask = node.func.value, node.args[0].value
    elif is_called(node, "where") and len(node.args) == 3:
        mask = node.args[0].value
        scores = next((a.value for a in node.args[1:] if name_of(a.value) in _words(a.value)), mask)
    else:
        return False
    return mentions(mask, HIDDEN) and any(re.fullmatch(SCORES, word) for word in _words(scores))


def _words(node: cst.BaseExpression) -> list[str]:
    """Return the word of the node and of what its methods are called on."""
    words = [name_of(node)]
    while isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute):
        words += [name_of(arg.value) for arg in node.args]
        node = node.func.value
        words.append(name_of(node))
    if isinstance(node, cst.Call):
        words += [name_of(arg.value) for arg in node.args]
    return words
