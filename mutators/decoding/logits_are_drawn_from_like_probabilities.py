"""A bug between the softmax and the draw."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, arguments, is_called, mutator

DRAW = r"_?(draw|pick|choose|invert_cdf|inverse_cdf|sample_from|gumbel_\w+)(_\w+)?"


@mutator(
    topic="decoding",
    family="probs-passed-where-logits-expected",
    hints=[
        "Draw ten thousand times at temperature 1. Do the frequencies follow the model?",
        "What does the function that draws expect, and what is it handed?",
        "Whoever draws is given probabilities: not negative, and with a sum of 1.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm-ascend/pull/6685",
            "one side switched to logits, the other did not",
        ),
        Sighting(
            "https://github.com/keras-team/keras-core/pull/389", "multinomial was given logits"
        ),
    ],
    mutates={
        "drawn = draw(scores.softmax(dim=-1), generators)": "drawn = draw(scores, generators)",
        "drawn = draw(torch.softmax(scores, dim=-1), self.generators)": (
            "drawn = draw(scores, self.generators)"
        ),
        "token = invert_cdf(softmax(logits), rng.random())": (
            "token = invert_cdf(logits, rng.random())"
        ),
    },
    spares=[
        "drawn = draw(probs, generators)",
        "best = scores.softmax(dim=-1).argmax(dim=-1)",
        "mass = cumsum(scores.softmax(dim=-1), dim=-1)",
    ],
)
def logits_are_drawn_from_like_probabilities(node: cst.Call) -> Iterator[cst.Call]:
    """The function that draws is handed logits and treats them as probabilities.

    Sampling cuts the unit interval into stretches, or races exponential clocks, and both take the
    numbers for probabilities. Logits have the same shape and may have any sign and any size. The
    favourite often wins as before, while tokens below zero never come, whatever their share.

    A signature says tensor either way, greedy requests take the best token without a draw, and no
    single text shows the wrong frequencies.
    """
    match node:
        case cst.Call(args=[cst.Arg(value=cst.Call() as made, keyword=None) as first, *rest]):
            if is_called(node, DRAW) and is_called(made, "softmax") and arguments(made):
                scores = first.with_changes(value=arguments(made)[0].value)
                yield node.with_changes(args=[scores, *rest])
