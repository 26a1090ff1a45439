"""A bug in right-padded batches."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, integer, is_called, literal, mutator
from halfhour.mutators._idioms import LENGTH, NEW_COUNT

OUTPUTS = r"(\w+_)?(logits|logprobs|hidden(_states)?|outputs?|out|h|x|scores)"


@mutator(
    topic="batching",
    family="sampled-from-wrong-row-of-flat-batch",
    hints=[
        "Put a short prompt beside a long one. Is its first generated token still the same?",
        "At which column does each row of the padded batch end?",
        "The next token follows from a row's last real token, at its length - 1.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/tpu-inference/pull/125",
            "the next token was read at the wrong position",
        ),
        Sighting(
            "https://github.com/abetlen/llama-cpp-python/pull/1179", "the index was one short"
        ),
    ],
    mutates={
        """
        def prefill(model, tokens, lengths, row):
            logits = model(tokens, lengths)
            return logits[row, lengths - 1]
        """: """
        def prefill(model, tokens, lengths, row):
            logits = model(tokens, lengths)
            return logits[row, -1]
        """,
    },
    spares=[
        """
        def last(logits, lengths, row):
            return logits[row, lengths - 1]
        """,
        """
        def shift(lengths, table):
            return table[lengths - 1], lengths
        """,
    ],
)
def short_prompt_answered_from_its_padding(
    node: cst.Subscript, context: Context
) -> Iterator[cst.Subscript]:
    """The answer is read at the last column of the batch, which for short rows is padding.

    Right padding puts all rows at the same start and lets them end where they end. The logits that
    follow a prompt stand at its last real token, at `length - 1`, a different column for each row.
    The last column is the right one for the longest prompt only; the others get what the model
    says behind a run of padding tokens.

    One prompt, or prompts of one length, are exact, and so are all later steps, in which every row
    has one column.
    """
    match node:
        case cst.Subscript(value=value, slice=[first, cst.SubscriptElement(cst.Index(column))]):
            if not _is_one_less_than_a_length(column) or not is_called(value, OUTPUTS):
                return
            if context.can_spare(column):
                last = node.slice[1].with_changes(slice=cst.Index(literal(-1)))
                yield node.with_changes(slice=[first, last])


def _is_one_less_than_a_length(column: cst.BaseExpression) -> bool:
    match column:
        case cst.BinaryOperation(cst.Name() as left, cst.Subtract(), one):
            return integer(one) == 1 and is_called(left, f"{LENGTH}|{NEW_COUNT}")
    return False
