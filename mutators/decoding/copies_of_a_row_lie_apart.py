"""A bug where every prompt gets several rows."""

from halfhour.mutators import Sighting, mutator

SCALAR = r"(?!.*(lens|lengths?|counts|sizes|new)).*"
FEW = r"(\w+_)?(k|top_k|n|num_beams|beams|beam_size|n_beams|groups|n_rep|n_samples|num_return\w*)"


@mutator(
    topic="decoding",
    family="beam-expand-order-mismatch",
    hints=[
        "Take two unlike prompts and two copies of each. Whose is the second row?",
        "Write down the order of the rows after they have been multiplied.",
        "Copies of one row are neighbours: a a b b, where other code counts on groups.",
    ],
    sightings=[
        Sighting(
            "https://github.com/jadore801120/attention-is-all-you-need-pytorch/issues/28",
            "encoder rows tiled, decoder rows repeated",
        ),
        Sighting("https://github.com/wenet-e2e/west/pull/121", "generations met other features"),
    ],
    rewrites={
        "$x.repeat_interleave($n, dim=0)": "torch.cat([$x] * $n)",
        "$x.repeat_interleave($n, 0)": "torch.cat([$x] * $n)",
        "torch.repeat_interleave($x, $n, dim=0)": "torch.cat([$x] * $n)",
        "torch.repeat_interleave($x, $n, 0)": "torch.cat([$x] * $n)",
        "$x.repeat_interleave($k)": "$x.repeat($k)",
        "np.repeat($x, $n, axis=0)": "np.concatenate([$x] * $n)",
        "np.repeat($x, $n, 0)": "np.concatenate([$x] * $n)",
        "mx.repeat($x, $n, axis=0)": "mx.concatenate([$x] * $n)",
        "[$a for $a in $x for _ in range($n)]": "[$a for _ in range($n) for $a in $x]",
    },
    names={"n": SCALAR, "k": FEW},
    mutates={
        "tokens = prompt.repeat_interleave(num_beams, dim=0)": (
            "tokens = torch.cat([prompt] * num_beams)"
        ),
        "memory = np.repeat(memory, beam_size, axis=0)": (
            "memory = np.concatenate([memory] * beam_size)"
        ),
        "owner = ids.repeat_interleave(top_k)": "owner = ids.repeat(top_k)",
        "rows = [p for p in prompts for _ in range(n)]": (
            "rows = [p for _ in range(n) for p in prompts]"
        ),
    },
    spares=[
        "k = k.repeat_interleave(groups, dim=1)",
        "ids = starts.repeat_interleave(lengths)",
        "x = x.repeat_interleave(counts, dim=0)",
        "x = x.repeat(k, 1)",
    ],
)
def copies_of_a_row_lie_apart() -> None:
    """Rows are laid out a b a b where other code expects a a b b.

    With several rows per prompt, row `i` belongs to prompt `i // n`: the copies of one prompt are
    neighbours, and a view of shape `[prompts, n, ...]` finds them together. Laying the whole batch
    down `n` times gives as many rows, and all but the first and the last go to somebody else.

    One prompt, or one copy, has the same order both ways, and no shape tells them apart.
    """
