"""A bug in looking up the probability of a token."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    arguments,
    fill,
    is_called,
    mutator,
    pattern,
)

SCORES = r"(\w+_)?(probs?|probabilities|log_?probs?|log_softmax|softmax|logits?|p|q)"
TOKENS = r"(\w+_)?(ids?|tokens?|token_ids?|input_ids|targets?|labels?|chosen|picked)"
LARGEST = pattern("$x.amax(dim=-1)")
LARGEST_KEPT = pattern("$x.amax(dim=-1, keepdim=True)")
LARGEST_OF_ARRAY = pattern("$x.max(axis=-1, keepdims=True)")


@mutator(
    topic="decoding",
    family="spec-accept-ratio-wrong-denominator",
    hints=[
        "Take a token that is not the likeliest one. What is said of its probability?",
        "Where are the probabilities of given tokens looked up, and where does the token enter?",
        "The probability of a token is the entry at its id, however likely others are.",
    ],
    sightings=[
        Sighting(
            "https://github.com/1bit-MONSTER/1bit-MONSTER/issues/637",
            "divided by the largest probability of the row",
        ),
    ],
    mutates={
        """
        def ratio(draft_probs, ids, p):
            q = draft_probs.gather(-1, ids[..., None]).squeeze(-1)
            return p.gather(-1, ids[..., None]).squeeze(-1) / q
        """: [
            """
            def ratio(draft_probs, ids, p):
                q = draft_probs.amax(dim=-1)
                return p.gather(-1, ids[..., None]).squeeze(-1) / q
            """,
            """
            def ratio(draft_probs, ids, p):
                q = draft_probs.gather(-1, ids[..., None]).squeeze(-1)
                return p.amax(dim=-1) / q
            """,
        ],
        """
        def report(logprobs, token_ids):
            chosen = torch.gather(logprobs, -1, token_ids[:, None])
            return token_ids, chosen
        """: """
        def report(logprobs, token_ids):
            chosen = logprobs.amax(dim=-1, keepdim=True)
            return token_ids, chosen
        """,
        """
        def score(probs, ids):
            p = np.take_along_axis(probs, ids[:, None], axis=-1)
            return ids, p
        """: """
        def score(probs, ids):
            p = probs.max(axis=-1, keepdims=True)
            return ids, p
        """,
    },
    spares=[
        """
        def score(probs, ids):
            return probs.gather(-1, ids[:, None])
        """,
        """
        def look_up(cos, ids):
            return ids, cos.gather(-1, ids)
        """,
        """
        def kth(sorted_logits, k):
            return k, sorted_logits.gather(-1, k[:, None] - 1)
        """,
    ],
)
def favourite_speaks_for_the_chosen_token(
    node: cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """The largest probability of a row is taken for the one of the token in question.

    What is accepted, scored or reported is a certain token, drafted or drawn, and its probability
    stands at its id. The maximum of the row belongs to the favourite. The two are the same as long
    as the favourite is chosen; for any other token the number is too large.

    Greedy decoding chooses nothing else, and most drawn tokens are favourites as well. Too large a
    number still is a probability.
    """
    squeezed = is_called(node, "squeeze")
    match node:
        case cst.Call(func=cst.Attribute(value=cst.Call() as looked_up)) if squeezed:
            call: cst.Call = looked_up
        case _:
            call = node
            above = context.parent(node)
            if isinstance(above, cst.Attribute) and is_called(above, "squeeze"):
                return
    if not is_called(call, "gather|take_along_axis|take_along_dim"):
        return
    of_array = is_called(call, "take_along_axis")
    tokens = argument(call, 1 if of_array else 2, "index", "indices")
    given = arguments(call)
    if tokens is None or not is_called(tokens, TOKENS) or not is_called(given[0].value, SCORES):
        return
    if not context.can_spare(tokens):
        return
    largest = LARGEST_OF_ARRAY if of_array else LARGEST_KEPT
    yield fill(LARGEST if squeezed else largest, {"x": given[0].value})
