"""A bug in minimum output lengths."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, called, edge_moved_up, mutator

MINIMUM = r"(\w+_)?min_(new_)?(tokens|length|len)(_\w+)?"
COUNT = (
    r"len|(?!max_)(\w+_)?"
    r"(step|steps|length|generated|produced|n_tokens|num_tokens|cur_len|n_out)(_\w+)?"
)


@mutator(
    topic="sampling",
    family="min-tokens-off-by-one",
    hints=[
        "Ask for at least two tokens from a model that always wants to stop. How many come?",
        "At which length of the output is EOS first allowed?",
        "An output that has reached the minimum may end: EOS is blocked only below it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/46243", "EOS blocked one step too long"
        ),
    ],
    mutates={
        "blocked = len(outputs[row]) < params.min_new_tokens": (
            "blocked = len(outputs[row]) <= params.min_new_tokens"
        ),
        "if self.min_tokens > step: scores[eos] = -INF": (
            "if self.min_tokens >= step: scores[eos] = -INF"
        ),
    },
    spares=[
        "short = len(prompt) < limit",
        "bad = min_tokens < 0",
        "if params.min_length > params.max_length: fail()",
    ],
)
def eos_blocked_one_step_too_long(node: cst.Comparison) -> Iterator[cst.Comparison]:
    """EOS stays impossible for one token after the minimum length has been reached.

    With a minimum of n tokens, EOS is ruled out while the output is shorter than n. Once it has n
    tokens the next one may be EOS: the minimum is reached without it. Comparing with `<=`, or the
    position of the last token instead of the length, forces one token more than was asked for.

    The minimum is 0 by default and the rule then never applies; and an answer that does not want to
    end just there looks the same. The extra token is an odd last word.
    """
    moved = edge_moved_up(node, called(COUNT), called(MINIMUM))
    if moved is not None:
        yield moved
