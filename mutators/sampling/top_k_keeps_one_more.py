"""A bug in top-k sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    called,
    edge_moved_up,
    fill,
    is_called,
    mutator,
    pattern,
)
from halfhour.mutators._idioms import TOP_K

RANKED = r"\w*(sorted|order|rank|by_prob|likel|best|candidates|argsort|top)\w*"
RANK = r"(\w+_)?(ranks?|arange|places?)"
ONE_MORE = pattern("$k + 1")
SPACED = cst.Colon(whitespace_after=cst.SimpleWhitespace(" "))


@mutator(
    topic="sampling",
    family="topk-rank-off-by-one",
    hints=[
        "Set top-k to 1. Is that the same as taking the most likely token?",
        "Count the tokens that are left with top-k 2, among four unlike ones.",
        "Ranks count from 0: the k best are the ranks 0 to k - 1.",
    ],
    sightings=[
        Sighting(
            "https://github.com/kingoflolz/mesh-transformer-jax/issues/164",
            "k + 1 candidates, top_k=1 was not greedy",
        ),
    ],
    mutates={
        "for token in _by_probability(probs)[:k]: keep(token)": (
            "for token in _by_probability(probs)[: k + 1]: keep(token)"
        ),
        "kept = order[: self.top_k]": "kept = order[: self.top_k + 1]",
        "drop = rank >= k[:, None]": "drop = rank > k[:, None]",
        "keep = torch.arange(vocab) < top_k": "keep = torch.arange(vocab) <= top_k",
        "keep = self.top_k > ranks": "keep = self.top_k >= ranks",
    },
    spares=[
        "first = tokens[:k]",
        "kth = ranked[k - 1]",
        "low = logits < kth",
    ],
)
def top_k_keeps_one_more(
    node: cst.Slice | cst.Comparison, context: Context
) -> Iterator[cst.CSTNode]:
    """Top-k leaves k + 1 tokens.

    Of the tokens in falling order of probability, the first k stay: the ranks 0 to k - 1. One rank
    more and the best token beyond the limit can be drawn as well.

    With the usual k of 40 or 50 nobody counts, and the 41st token is rare. It shows at the edges:
    top-k 1 should be greedy and is not.
    """
    match node:
        case cst.Slice(lower=None, upper=k, step=None) if k is not None and is_called(k, TOP_K):
            sliced = context.enclosing(node, cst.Subscript)
            if sliced is not None and is_called(sliced.value, RANKED):
                yield node.with_changes(first_colon=SPACED, upper=fill(ONE_MORE, {"k": k}))
        case cst.Comparison():
            moved = edge_moved_up(node, called(RANK), called(TOP_K))
            if moved is not None:
                yield moved
