"""A bug in the repetition penalty."""

from halfhour.mutators import Sighting, mutator


@mutator(
    topic="sampling",
    family="repetition-penalty-sign",
    hints=[
        "Penalise a token whose logit is -2 by 1.5. Is it less likely afterwards?",
        "In which direction does a division move a negative number?",
        "Positive logits are divided by the penalty, negative ones are multiplied by it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/issues/2302",
            "negative logits were made more likely",
        ),
        Sighting("https://github.com/huggingface/transformers/pull/2303", "the fix, and a debate"),
        Sighting("https://github.com/NVIDIA-NeMo/Speech/issues/8194", "the same division"),
    ],
    rewrites={
        "torch.where($x > 0, $x / $p, $x * $p)": "$x / $p",
        "torch.where($x >= 0, $x / $p, $x * $p)": "$x / $p",
        "torch.where($x < 0, $x * $p, $x / $p)": "$x / $p",
        "np.where($x > 0, $x / $p, $x * $p)": "$x / $p",
        "np.where($x < 0, $x * $p, $x / $p)": "$x / $p",
        "$x / $p if $x > 0 else $x * $p": "$x / $p",
        "$x * $p if $x < 0 else $x / $p": "$x / $p",
    },
    names={"p": r"(\w+_)?(penalty|penalties|factor|repetition|rep)"},
    mutates={
        "logits = torch.where(logits > 0, logits / penalty, logits * penalty)": (
            "logits = logits / penalty"
        ),
        "s = s * rep_penalty if s < 0 else s / rep_penalty": "s = s / rep_penalty",
    },
    spares=[
        "y = torch.where(x > 0, x / scale, x * scale)",
        "logits = logits / penalty",
    ],
)
def repetition_penalty_rewards_negative_logits() -> None:
    """Dividing by the penalty makes repeated tokens with negative logits more likely.

    The repetition penalty makes tokens that already occurred less likely. A division by a number
    above 1 does so for positive logits; a negative logit moves towards zero, that is upwards. So
    negative logits are multiplied instead, and either way the score falls.

    The first models it was tried on had positive logits at the top, where all that matters happens.
    Models whose best logits are negative start to repeat themselves the more, the higher the
    penalty.
    """
