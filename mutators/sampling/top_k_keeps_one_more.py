"""A bug in top-k sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    called,
    edge_moved_up,
    fill,
    integer,
    is_called,
    mentions,
    mutator,
    pattern,
    walk,
)
from halfhour.mutators._idioms import TOP_K

RANKED = r"\w*(sorted|order|rank|by_prob|likel|best|candidates|argsort|top)\w*"
RANK = r"(\w+_)?(ranks?|arange|places?)"
VOCAB = r"(\w+_)?(vocab(_size)?|n_vocab|V)"
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
        "n_kept = torch.where(k == -1, vocab_size, k).clamp(max=vocab_size)": (
            "n_kept = torch.where(k == -1, vocab_size, k + 1).clamp(max=vocab_size)"
        ),
        "low = logits < torch.topk(logits, top_k)[0][..., -1, None]": (
            "low = logits < torch.topk(logits, top_k + 1)[0][..., -1, None]"
        ),
        "kth = logits.topk(self.top_k, dim=-1).values[..., -1:]": (
            "kth = logits.topk(self.top_k + 1, dim=-1).values[..., -1:]"
        ),
    },
    spares=[
        "first = tokens[:k]",
        "kth = ranked[k - 1]",
        "low = logits < kth",
        "weights, experts = router.topk(top_k, dim=-1)",
    ],
)
def top_k_keeps_one_more(
    node: cst.Slice | cst.Comparison | cst.Call, context: Context
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
        case cst.Call(args=[cst.Arg(off), cst.Arg(one), cst.Arg(other)]) if is_called(
            node, "where"
        ):
            for k, everything in ((one, other), (other, one)):
                if _is_k(k) and is_called(everything, VOCAB) and mentions(off, TOP_K):
                    yield node.deep_replace(k, fill(ONE_MORE, {"k": k}))
        case cst.Call() if is_called(node, "topk") and _is_cut_off(node, context):
            k = argument(node, 1, "k")
            if k is not None and _is_k(k):
                yield node.deep_replace(k, fill(ONE_MORE, {"k": k}))


def _is_k(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name | cst.Attribute) and is_called(node, TOP_K)


def _is_cut_off(call: cst.Call, context: Context) -> bool:
    """Tell whether the last of the values is taken, as the least that may stay."""
    above = context.parent(call)
    while isinstance(above, cst.Attribute | cst.Subscript):
        match above:
            case cst.Subscript(slice=parts):
                if any(integer(n) == -1 for part in parts for n in walk(part)):
                    return True
        above = context.parent(above)
    return False
