"""A bug where an id is optional and may be 0."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, pattern

IDS = (
    r"(\w+_)?(bos|eos|pad|unk|sep|cls|mask|stop|token|start|end|padding)(_token)?_?(id|idx|index)"
    r"|bos|eos|pad|unk|padding_idx|max_length"
)
GIVEN = pattern("$id is not None", id=IDS)
MISSING = pattern("$id is None", id=IDS)


@mutator(
    topic="tokenizer",
    family="token-id-zero-is-falsy",
    hints=[
        "Every id is a legal one. What if it is the very first?",
        "Some arguments may be left out. How is it told whether one was given?",
        "An id of 0 is an id: only None means that there is none.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/28824", "`if token_id` fails for id 0"
        ),
        Sighting(
            "https://github.com/sgl-project/sglang/issues/8313", "a check by truth failed for id 0"
        ),
    ],
    mutates={
        """
        if bos_token_id is not None:
            ids.insert(0, bos_token_id)
        """: """
        if bos_token_id:
            ids.insert(0, bos_token_id)
        """,
        "keep = mask if self.pad_id is None else mask & (tokens != self.pad_id)": (
            "keep = mask if not self.pad_id else mask & (tokens != self.pad_id)"
        ),
        "added = [token_id for token_id in (bos, eos) if token_id is not None]": (
            "added = [token_id for token_id in (bos, eos) if token_id]"
        ),
    },
    spares=[
        "if weight is not None:\n    x = x * weight",
        "if eos_id:\n    done = tokens == eos_id",
        """
        if eos_id is not None and not 0 <= eos_id < vocab_size:
            raise ValueError(f"eos_id {eos_id} is not in [0, {vocab_size})")
        """,
    ],
)
def token_id_zero_counts_as_missing(
    node: cst.Comparison, context: Context
) -> Iterator[cst.BaseExpression]:
    """Whether there is an id is asked by its truth, and the id 0 is false.

    Many ids are optional: a model may have no token for the beginning, no padding, no token that
    ends an answer. None says so. The number 0 is an id like any other, and in many vocabularies it
    is just the one for padding or for the end; but in a condition it counts as false, as None does,
    and the token is treated as if it did not exist.

    With every vocabulary whose special ids lie elsewhere the two questions have one answer.
    """
    check = context.enclosing(node, cst.If)
    if check is not None and any(above is check.test for above in (node, *context.ancestors(node))):
        match check.body.body[0]:
            case cst.SimpleStatementLine(body=[cst.Raise()]):
                return
    if (found := GIVEN.match(node)) is not None:
        yield found["id"]
    if (found := MISSING.match(node)) is not None:
        yield cst.UnaryOperation(cst.Not(), found["id"])
