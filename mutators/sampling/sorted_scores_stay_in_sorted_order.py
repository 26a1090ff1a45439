"""A bug in filters that work on sorted scores."""

from halfhour.mutators import Sighting, mutator


@mutator(
    topic="sampling",
    family="sorted-values-never-scattered-back",
    hints=[
        "Filter three logits that are not in order, with filters that remove nothing.",
        "Which token does the i-th value of the result belong to?",
        "`order[i]` says where the i-th best token lives: values go back there by a scatter.",
    ],
    sightings=[
        Sighting(
            "https://github.com/lucidrains/PaLM-rlhf-pytorch/issues/60",
            "gathered with the sorting indices",
        ),
        Sighting("https://github.com/Blaizzy/mlx-vlm/pull/1094", "another row's mapping was used"),
    ],
    rewrites={
        "$blank.scatter($dim, $order, $scores)": "$scores.gather($dim, $order)",
        "$blank.scatter_($dim, $order, $scores)": "$scores.gather($dim, $order)",
        "torch.scatter($blank, $dim, $order, $scores)": "torch.gather($scores, $dim, $order)",
    },
    names={
        "blank": r"empty_like|zeros_like|full_like|empty|zeros|new_zeros|new_empty",
        "order": r"(\w+_)?(order|indices|idx|index|perm|sort_ids|ids)",
    },
    mutates={
        "return torch.empty_like(logits).scatter(-1, order, sorted_logits)": (
            "return sorted_logits.gather(-1, order)"
        ),
        "x = torch.zeros_like(probs).scatter_(-1, sorted_indices, kept)": (
            "x = kept.gather(-1, sorted_indices)"
        ),
    },
    spares=[
        "counts = counts.scatter_add(1, ids, ones)",
        "mask = mask.scatter(1, sorted_indices, drop)",
    ],
)
def sorted_scores_stay_in_sorted_order() -> None:
    """The filtered scores are attached to other tokens than their own.

    A filter sorts the scores, cuts them, and must bring them back into the vocabulary's order. Sort
    returns the permutation `order` with `sorted[i] = scores[order[i]]`; its inverse is a scatter,
    `result[order[i]] = sorted[i]`. A gather with the same indices applies the permutation a second
    time instead of undoing it.

    The values are all there, their shape and their sum are right, and a permutation that is its own
    inverse, such as any single swap, hides it. Two-token tests pass, and so do sorted ones.
    """
