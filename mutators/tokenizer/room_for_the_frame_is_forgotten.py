"""A bug in cutting inputs to a length."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, pattern

LIMIT = (
    r"(\w+_)?(max_length|max_len|max_seq_len|max_tokens|max_model_len|n_max|budget|limit"
    r"|context_length)"
)
FRAME = r"len|num_special\w*|n_special\w*|n_added|\w*reserved\w*|\w*max_new_tokens|n_frame"
EXCESS = pattern("$n + $frame - $limit", frame=FRAME, limit=LIMIT)
ONE_MORE = pattern("min($n, $limit - 1)", limit=LIMIT)
ROOM = pattern("$limit - $frame", frame=FRAME, limit=LIMIT)


@mutator(
    topic="tokenizer",
    family="frame-not-counted-in-truncation",
    hints=[
        "Cut a text that is too long to a small limit. How long is the result, all included?",
        "What is put around the text after it was cut, and who has made room for it?",
        "The limit holds for the whole: what is added later must be counted before the cut.",
    ],
    sightings=[
        Sighting(
            "https://github.com/pytorch-ignite/trainite/pull/161",
            "cut without room for the end token",
        ),
        Sighting(
            "https://github.com/facebookresearch/mmf/pull/383", "three added tokens went uncounted"
        ),
    ],
    mutates={
        "excess = max(len(ids) + len(added) - max_length, 0)": (
            "excess = max(len(ids) - max_length, 0)"
        ),
        "ids = ids[: self.max_length - num_special_tokens]": "ids = ids[: self.max_length]",
        "kept = prompt[: max_model_len - max_new_tokens]": "kept = prompt[: max_model_len]",
        "draft = propose(min(max_draft, budget - 1))": "draft = propose(min(max_draft, budget))",
    },
    spares=[
        "n_missing = max_length - n_tokens",
        "if len(ids) + len(added) > max_length:\n    raise ValueError(max_length)",
        "rows = [row + [pad] * (max_length - len(row)) for row in rows]",
    ],
)
def room_for_the_frame_is_forgotten(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """An input is cut to the limit, and then something is added to it.

    A limit on the length is one on the whole: the text and the tokens that frame it, the prompt and
    the answer that follows, the guesses and the token that comes on top of them. The first part is
    cut, so the rest must be taken off the limit beforehand. If it is not, the result is a few
    tokens too long, or loses its last ones where it is cut again, and with them the token that ends
    it.

    Only inputs near the limit are cut at all, and a few tokens too many raise no error here.
    """
    if isinstance(node, cst.Call):
        if (found := ONE_MORE.match(node)) is not None:
            last = node.args[1].with_changes(value=found["limit"])
            yield node.with_changes(args=[node.args[0], last])
    elif (found := EXCESS.match(node)) is not None:
        yield node.with_changes(left=found["n"])
    elif (found := ROOM.match(node)) is not None:
        edge = next((a for a in context.ancestors(node) if isinstance(a, cst.Slice)), None)
        if edge is not None and not is_called(found["frame"], "len"):
            yield found["limit"]
