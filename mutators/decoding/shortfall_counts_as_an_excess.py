"""A bug in differences that stop at zero."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, integer, mutator, pattern

CUT_OFF = {
    pattern(before): pattern(after)
    for before, after in {
        "($a - $b).clamp(min=0)": "($a - $b).abs()",
        "($a - $b).clamp(min=0.0)": "($a - $b).abs()",
        "($a - $b).clamp(0)": "($a - $b).abs()",
        "($a - $b).clamp_min(0)": "($a - $b).abs()",
        "($a - $b).clamp_min(0.0)": "($a - $b).abs()",
        "($a - $b).relu()": "($a - $b).abs()",
        "($a - $b).clamp(min=0, max=$top)": "($a - $b).abs().clamp(max=$top)",
        "torch.clamp($a - $b, min=0)": "torch.abs($a - $b)",
        "torch.clamp($a - $b, min=0.0)": "torch.abs($a - $b)",
        "torch.relu($a - $b)": "torch.abs($a - $b)",
        "F.relu($a - $b)": "torch.abs($a - $b)",
        "np.maximum($a - $b, 0)": "np.abs($a - $b)",
        "np.maximum($a - $b, 0.0)": "np.abs($a - $b)",
        "np.clip($a - $b, 0, None)": "np.abs($a - $b)",
        "max($a - $b, 0)": "abs($a - $b)",
        "max($a - $b, 0.0)": "abs($a - $b)",
        "max(0, $a - $b)": "abs($a - $b)",
        "max(0.0, $a - $b)": "abs($a - $b)",
    }.items()
}


@mutator(
    topic="decoding",
    family="spec-residual-only-adjusts-rejected",
    hints=[
        "Let the second number be larger than the first. What is left of the difference?",
        "Which differences in this file are meant to stop at zero?",
        "Only what one has more than the other counts; what it lacks counts as nothing.",
    ],
    sightings=[
        Sighting(
            "https://github.com/SafeAILab/EAGLE/issues/20",
            "replacements not drawn from the positive part",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/pull/46665", "the residual lost its small parts"
        ),
    ],
    mutates={
        "excess = (target - draft).clamp(min=0.0)": "excess = (target - draft).abs()",
        "residual = np.maximum(p - q, 0)": "residual = np.abs(p - q)",
        "residual = F.relu(p - q)": "residual = torch.abs(p - q)",
        "n_over = max(len(ids) - limit, 0)": "n_over = abs(len(ids) - limit)",
    },
    spares=[
        "places = (mask.cumsum(-1) - 1).clamp(min=0)",
        "start = max(0, stop - window + 1)",
        "x = (p + q).clamp(min=0.0)",
        "gap = max(a - b, 1)",
    ],
)
def shortfall_counts_as_an_excess(node: cst.Call) -> Iterator[cst.CSTNode]:
    """A difference that should stop at zero is taken without its sign.

    After a rejection the replacement is drawn from where the target has more mass than the draft;
    where it has less, nothing is left to draw. In the same way a text that is shorter than the
    limit is over it by nothing. The absolute value turns each shortfall into an excess, and tokens
    that the drafter said too often come once more.

    Both results are never negative, they agree wherever the first number is the larger one, and a
    distribution that is normalised afterwards sums to 1 either way.
    """
    for before, after in CUT_OFF.items():
        found = before.match(node)
        if found is not None and integer(found["b"]) is None:
            yield fill(after, found)
