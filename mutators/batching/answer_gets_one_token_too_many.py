"""A bug in the limit of an answer."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, edge_moved_up, is_called, mutator

LIMIT = r"(\w+_)?(max_new_tokens|max_tokens|max_length|max_len|max_new|n_max|token_limit|limit)"
COUNT = r"len|n_\w+|num_\w+|step|(\w+_)?(generated|length|count)"


@mutator(
    topic="batching",
    family="max-new-tokens-off-by-one",
    hints=[
        "Ask for exactly one token, and then for exactly five, with a model that never stops.",
        "Where is the length compared with the limit, and is the newest token counted there?",
        "An answer that has as many tokens as it may have is complete.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/39258",
            "one token more than was asked for",
        ),
    ],
    mutates={
        "done = len(tokens) >= request.max_new_tokens": (
            "done = len(tokens) > request.max_new_tokens"
        ),
        "while self.n_generated < limit and not done: self.step()": (
            "while self.n_generated <= limit and not done: self.step()"
        ),
    },
    spares=[
        "if max_new_tokens < 1: raise ValueError(max_new_tokens)",
        "done = len(tokens) > max_new_tokens",
        "full = len(tokens) >= capacity",
    ],
)
def answer_gets_one_token_too_many(node: cst.Comparison) -> Iterator[cst.Comparison]:
    """An answer that is as long as it may be is continued by one more token.

    The limit says how many tokens an answer may have. The check stands behind the line that adds a
    token, so the count has the newest one in it, and an answer is complete when both are equal. A
    strict comparison lets another one in.

    Answers mostly end by themselves before the limit, and nobody counts the tokens of one that does
    not.
    """
    moved = edge_moved_up(
        node, lambda count: is_called(count, COUNT), lambda limit: is_called(limit, LIMIT)
    )
    if moved is not None and isinstance(
        node.comparisons[0].operator, cst.GreaterThanEqual | cst.LessThan
    ):
        yield moved
