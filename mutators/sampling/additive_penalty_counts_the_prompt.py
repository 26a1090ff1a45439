"""A bug in presence and frequency penalties."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, pattern, same

OUTPUT = r"(\w+_)?(out|outputs?|generated|gen|completion|new|response)(_\w+)?"
SEEN = pattern("($a > 0) | ($b > 0)")
OCCURS = pattern("$counts > 0", counts=OUTPUT)


@mutator(
    topic="sampling",
    family="frequency-penalty-counts-prompt",
    hints=[
        "Give a prompt that repeats one word, and nothing generated yet. Is the word penalised?",
        "Which tokens does each of the three penalties look at?",
        "Presence and frequency count what was generated; only repetition looks at the prompt.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NVIDIA/TensorRT-LLM/pull/5623", "presence and frequency saw context"
        ),
        Sighting(
            "https://github.com/osaurus-ai/vmlx-swift/pull/294",
            "the ring was seeded with the prompt",
        ),
    ],
    mutates={
        """
        seen = (prompt_counts > 0) | (output_counts > 0)
        factor = torch.where(seen, repetition, 1.0)
        logits = logits - presence[:, None] * (output_counts > 0)
        """: """
        seen = (prompt_counts > 0) | (output_counts > 0)
        factor = torch.where(seen, repetition, 1.0)
        logits = logits - presence[:, None] * seen
        """,
    },
    spares=[
        "seen = (prompt_counts > 0) | (output_counts > 0)",
        """
        wide = (left > 0) | (right > 0)
        logits = logits - presence * (right > 0)
        """,
    ],
)
def additive_penalty_counts_the_prompt(
    node: cst.Comparison, context: Context
) -> Iterator[cst.BaseExpression]:
    """The presence penalty also falls on tokens that occur in the prompt only.

    Three penalties with three memories: repetition multiplies the scores of all tokens seen, those
    of the prompt included; presence and frequency are subtracted from what the answer itself has
    said so far. If the prompt counts for them too, the model avoids the user's own words, and the
    more so the longer the prompt.

    On a short prompt every one of these rules looks reasonable, and nobody compares two engines
    number by number.
    """
    if OCCURS.match(node) is None:
        return
    for line in context.before(node):
        match assigned(line):
            case cst.Name() as seen, either if (found := SEEN.match(either)) is not None:
                if any(same(found[part], node.left) for part in "ab") and is_called(
                    node.left, OUTPUT
                ):
                    yield seen
