"""A bug in presence and frequency penalties."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, pattern, same, walk

OUTPUT = r"(\w+_)?(out|outputs?|generated|gen|completion|new|response)(_\w+)?"
EITHER = pattern("$prompt | $output", prompt=r"(\w+_)?prompts?(_\w+)?")
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
        """
        in_output = output_counts > 0
        factor = torch.where(in_prompt | in_output, repetition, 1.0)
        logits = logits - presence[:, None] * in_output
        """: """
        in_output = in_prompt | (output_counts > 0)
        factor = torch.where(in_prompt | in_output, repetition, 1.0)
        logits = logits - presence[:, None] * in_output
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
    if (united := _used_with_the_prompt(node, context)) is not None:
        yield united
        return
    for line in context.before(node):
        match assigned(line):
            case cst.Name() as seen, either if (found := SEEN.match(either)) is not None:
                if any(same(found[part], node.left) for part in "ab") and is_called(
                    node.left, OUTPUT
                ):
                    yield seen


def _used_with_the_prompt(node: cst.Comparison, context: Context) -> cst.BinaryOperation | None:
    """Return `prompt | (counts > 0)` where a line below unites what is assigned with the prompt."""
    line = context.statement(node)
    found = None if line is None else assigned(line)
    if found is None or found[1] is not node:
        return None
    for below in (n for after in context.after(node) for n in walk(after)):
        either = EITHER.match(below)
        if either is not None and same(either["output"], found[0]):
            grouped = node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
            return cst.BinaryOperation(either["prompt"], cst.BitOr(), grouped)
    return None
