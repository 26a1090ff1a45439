"""A bug in the positions of padded rows."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    fill,
    integer,
    is_called,
    mutator,
    pattern,
)

MASK = r"(\w+_)?(mask|valid|real|attention_mask|pad_mask)(_\w+)?"
COLUMNS = {
    "torch": pattern("torch.arange($m.shape[-1], device=$m.device).expand_as($m)"),
    "np": pattern("np.broadcast_to(np.arange($m.shape[-1]), $m.shape)"),
}


@mutator(
    topic="positions",
    family="left-pad-positions-not-derived",
    hints=[
        "Answer a short prompt alone, then beside a long one. Does it matter?",
        "At which position does the first real token of a row stand that was padded?",
        "Positions count real tokens: they are the running sum of the mask, less 1.",
    ],
    sightings=[
        Sighting(
            "https://github.com/unslothai/unsloth/issues/3699",
            "one arange served rows of different padding",
        ),
        Sighting(
            "https://github.com/ndif-team/nnsight/pull/673",
            "prompts shorter than the longest were mispredicted",
        ),
    ],
    mutates={
        "positions = (mask.long().cumsum(dim=-1) - 1).clamp(min=0)": (
            "positions = torch.arange(mask.shape[-1], device=mask.device).expand_as(mask)"
        ),
        """
        pos_ids = torch.cumsum(mask, dim=1) - 1
        pos_ids = pos_ids.masked_fill(mask == 0, 1)
        """: """
        pos_ids = torch.arange(mask.shape[-1], device=mask.device).expand_as(mask)
        pos_ids = pos_ids.masked_fill(mask == 0, 1)
        """,
        "pos = np.maximum(np.cumsum(mask, axis=-1) - 1, 0)": (
            "pos = np.maximum(np.broadcast_to(np.arange(mask.shape[-1]), mask.shape), 0)"
        ),
    },
    spares=[
        "slots = counts.cumsum(dim=0) - 1",
        "n_before = mask.cumsum(dim=-1)",
        "last = mask.sum(dim=-1) - 1",
    ],
)
def positions_count_the_padding(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """Tokens are numbered by the column they stand in, padding included.

    In a batch that is padded on the left, the first token of a short prompt stands in a later
    column than that of a long one. Its position is 0 all the same: positions count the real tokens
    before it, which is what the running sum of the mask gives. Numbered by column, every row but
    the longest is shifted by its padding.

    A single prompt has no padding, and prompts of equal length neither. With rotary embeddings and
    a right mask a constant shift even cancels, until positions are used in another way.
    """
    match node:
        case cst.Call(func=cst.Attribute(value=cst.BinaryOperation() as count)):
            if is_called(node, "clamp|clip|clamp_min") and (mask := _counted(count)) is not None:
                yield fill(COLUMNS["torch"], {"m": mask})
        case cst.BinaryOperation() if (mask := _counted(node)) is not None:
            above = context.parent(node)
            if not isinstance(above, cst.Attribute):
                numpy = isinstance(node.left, cst.Call) and _is_numpy(node.left)
                yield fill(COLUMNS["np" if numpy else "torch"], {"m": mask})


def _is_numpy(call: cst.Call) -> bool:
    match call.func:
        case cst.Attribute(cst.Name("np" | "numpy")):
            return True
    return False


def _counted(node: cst.BinaryOperation) -> cst.Name | None:
    """Return `mask` of `mask.long().cumsum(-1) - 1`."""
    if not isinstance(node.operator, cst.Subtract) or integer(node.right) != 1:
        return None
    if not isinstance(node.left, cst.Call) or not is_called(node.left, "cumsum"):
        return None
    counted = argument(node.left, 0)
    while isinstance(counted, cst.Call) and is_called(counted, "long|int|to|astype|float"):
        counted = argument(counted, 0)
    return counted if isinstance(counted, cst.Name) and is_called(counted, MASK) else None
