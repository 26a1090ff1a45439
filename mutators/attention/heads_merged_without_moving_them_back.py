"""A bug in multi-head attention."""

from halfhour.mutators import Sighting, mutator


@mutator(
    topic="attention",
    family="head-merge-without-transpose",
    hints=[
        "Change the last token of a prompt. Does the output at the first one change?",
        "Write down the shape of the heads' output just before they become one vector per token.",
        "[B, H, S, D] must become [B, S, H, D] before heads and dims can be joined.",
    ],
    sightings=[
        Sighting(
            "https://github.com/jsbaan/transformer-from-scratch/pull/6",
            "reshaped without the transpose, unnoticed for years",
        ),
        Sighting(
            "https://github.com/ajhalthor/Transformer-Neural-Network/pull/4", "the same, fixed"
        ),
        Sighting("https://github.com/reczoo/FuxiCTR/issues/30", "heads split without transposing"),
    ],
    rewrites={
        "$x.transpose(1, 2).reshape($b, $s, $m)": "$x.reshape($b, $s, $m)",
        "$x.transpose(1, 2).contiguous().view($b, $s, $m)": "$x.contiguous().view($b, $s, $m)",
        "$x.permute(0, 2, 1, 3).reshape($b, $s, $m)": "$x.reshape($b, $s, $m)",
        "$x.swapaxes(1, 2).reshape($b, $s, $m)": "$x.reshape($b, $s, $m)",
    },
    mutates={
        "return self.wo(out.transpose(1, 2).reshape(batch, q_len, -1))": (
            "return self.wo(out.reshape(batch, q_len, -1))"
        ),
        "ctx = ctx.transpose(1, 2).contiguous().view(b, s, n_heads * head_dim)": (
            "ctx = ctx.contiguous().view(b, s, n_heads * head_dim)"
        ),
    },
    spares=[
        "q = self.wq(x).view(batch, q_len, -1, head_dim).transpose(1, 2)",
        "w = w.transpose(1, 2).reshape(weight.shape)",
        "k = k.transpose(-1, -2)",
    ],
)
def heads_merged_without_moving_them_back() -> None:
    """The heads' outputs are joined while the head axis still stands before the sequence.

    Attention works on [B, H, S, D]. To give each token one vector again, the head axis moves behind
    the sequence and only then melts into it. A reshape to [B, S, H * D] without that step succeeds,
    since the number of elements is the same, and fills each token's vector with pieces of other
    tokens, later ones among them: causality is gone.

    With one token, as in decoding, or with one head, both are the same. A model trained with it
    learns to live with it, and passes its own tests.
    """
