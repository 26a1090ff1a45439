"""A bug in feeding a prompt in chunks."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, same

POSITIONS = r"(\w+_)?(pos|positions?|pos_ids|position_ids|cache_position)"


# Fits one subject: only static batches hold the positions of a whole prompt and feed it in chunks.
@mutator(
    topic="positions",
    family="chunk-positions-take-suffix",
    hints=[
        "Feed a prompt in one piece, and again in three. Where do the results part?",
        "Print the positions that go with the first chunk. Are they those of its tokens?",
        "A chunk's positions lie where its tokens lie: from its start to its stop.",
    ],
    sightings=[
        Sighting(
            "https://github.com/EricLBuehler/mistral.rs/pull/2083",
            "a chunk got the last positions of the prompt",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/pull/10388", "only one of the bounds was applied"
        ),
    ],
    mutates={
        "logits = model(ids[:, start:stop], positions[:, start:stop])": (
            "logits = model(ids[:, start:stop], positions[:, start - stop :])"
        ),
        """
        for start in range(0, n, chunk):
            run(tokens[start : start + chunk], position_ids[start : start + chunk])
        """: """
        for start in range(0, n, chunk):
            run(tokens[start : start + chunk], position_ids[-chunk:])
        """,
    },
    spares=[
        "chunk = ids[:, start:stop]",
        "newest = positions[:, -1:]",
        "positions[:, start:stop] = 0",
    ],
)
def chunk_takes_the_last_positions(
    node: cst.Subscript, context: Context
) -> Iterator[cst.Subscript]:
    """Each chunk of a prompt gets the last positions of the whole prompt, not its own.

    A long prompt is fed in chunks, and what belongs to it by column is cut like its tokens. While
    decoding, the newest positions are at the end, and a slice from the end is the right one. In a
    chunk it has the right length and belongs to other tokens: all chunks but the last one are
    placed too far back, and on top of each other.

    A prompt of one chunk is right, and so is the last chunk of any prompt, from which the first
    token is sampled.
    """
    if not is_called(node.value, POSITIONS) or isinstance(context.parent(node), cst.AssignTarget):
        return
    match node.slice[-1]:
        case cst.SubscriptElement(cst.Slice(lower=cst.Name() as start, upper=stop, step=None)):
            if (length := _minus_length(start, stop)) is not None:
                compound = isinstance(length, cst.BinaryOperation)
                space = cst.SimpleWhitespace(" " if compound else "")
                part = cst.Slice(length, None, first_colon=cst.Colon(whitespace_before=space))
                kept = node.slice[-1].with_changes(slice=part)
                yield node.with_changes(slice=[*node.slice[:-1], kept])


def _minus_length(start: cst.Name, stop: cst.BaseExpression | None) -> cst.BaseExpression | None:
    """Return `start - stop`, or `-n` where the stop is `start + n`."""
    match stop:
        case cst.Name():
            return cst.BinaryOperation(start, cst.Subtract(), stop)
        case cst.BinaryOperation(left, cst.Add(), cst.Name() as n) if same(left, start):
            return cst.UnaryOperation(cst.Minus(), n)
    return None
