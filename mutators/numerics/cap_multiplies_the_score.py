"""A bug in soft caps."""

from halfhour.mutators import Sighting, mutator


@mutator(
    topic="numerics",
    family="softcap-multiplies-the-logit",
    hints=[
        "Feed the cap a score of a million. How large may the result be?",
        "Which factor stands before the `tanh`, and how does it grow?",
        "The cap times `tanh` stays within the cap; `tanh` itself only says how near to it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/unslothai/unsloth-zoo/pull/593",
            "the logit stood where the cap belongs",
        ),
        Sighting(
            "https://github.com/unslothai/unsloth-zoo/pull/1029",
            "inference lacked the cap that training had",
        ),
    ],
    mutates={
        "scores = softcap * torch.tanh(scores / softcap)": (
            "scores = scores * torch.tanh(scores / softcap)"
        ),
        "return np.tanh(logits / self.cap) * self.cap": (
            "return np.tanh(logits / self.cap) * logits"
        ),
        "z = cap * (z / cap).tanh()": "z = z * (z / cap).tanh()",
    },
    spares=[
        "y = gate * torch.tanh(x / cap)",
        "y = torch.tanh(scores / cap)",
        "y = x * torch.tanh(softplus(x))",
    ],
    rewrites={
        "$cap * torch.tanh($x / $cap)": "$x * torch.tanh($x / $cap)",
        "torch.tanh($x / $cap) * $cap": "torch.tanh($x / $cap) * $x",
        "$cap * np.tanh($x / $cap)": "$x * np.tanh($x / $cap)",
        "np.tanh($x / $cap) * $cap": "np.tanh($x / $cap) * $x",
        "$cap * ($x / $cap).tanh()": "$x * ($x / $cap).tanh()",
        "($x / $cap).tanh() * $cap": "($x / $cap).tanh() * $x",
    },
)
def cap_multiplies_the_score() -> None:
    """A soft cap multiplies the score instead of the cap, and caps nothing.

    A soft cap maps a score to `cap * tanh(score / cap)`: small scores hardly change, large ones
    approach the cap. With the score as the factor, small scores become their square over the cap,
    all of them lose their sign, and large ones stay as large as they are.

    Positive scores keep their order, so that greedy decoding often picks the same token, and
    models without a cap never come here.
    """
