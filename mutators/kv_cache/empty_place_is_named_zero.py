"""A bug in the name of a place that is none."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, argument, is_called, mutator

NONE = r"(\w+_)?(SKIP|EMPTY|NO_PAGE|NO_SLOT|NO_BLOCK|UNUSED|INVALID|PAD_SLOT(_ID)?|NONE)(_\w+)?"
NAMES = r"(\w+_)?(slots?|slot_mapping|tables?|pages|blocks|block_ids|page_ids|positions?|pos)"
FILLS = r"full|full_like|new_full|masked_fill|masked_fill_|fill_"


@mutator(
    topic="kv_cache",
    family="stale-block-table-tail",
    hints=[
        "Put a marker into page 0, then run a padded step that does not use it. Is it still there?",
        "What stands in the tables where there is no token or no page?",
        "No place needs a name that no real place has; 0 is a real one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/gittensor-ai-lab/sparkinfer/pull/146",
            "table rows were not set to -1",
        ),
        Sighting(
            "https://github.com/LMCache/LMCache/pull/2984", "block 0 and padding were confused"
        ),
    ],
    mutates={
        "slots += [SKIP] * n_padding": "slots += [0] * n_padding",
        "positions = torch.full((rows, size), EMPTY)": "positions = torch.full((rows, size), 0)",
        "block_tables[row, n:] = -1": "block_tables[row, n:] = 0",
        "pos = np.where(valid, pos, EMPTY)": "pos = np.where(valid, pos, 0)",
    },
    spares=[
        "labels += [IGNORE] * n_padding",
        "pos = x[:, -1]",
        "slots = torch.where(held, slots, -slots)",
        "n_slots = n_pages - 1",
    ],
)
def empty_place_is_named_zero(
    node: cst.Name | cst.UnaryOperation, context: Context
) -> Iterator[cst.Integer]:
    """What is to name no place at all is given the name of the first one.

    Tables are rectangles, and rows of a step are padded. What fills them up must not be mistaken
    for a slot, a page or a position, hence -1 or the like. With 0 in its place padding is written
    over the first slot, or an empty slot passes for the first token.

    0 never raises, it is in range everywhere. Where page 0 is free, or holds what is looked for,
    nothing is wrong, and short tests use the pages from 0 on.
    """
    match node:
        case cst.Name() if not is_called(node, NONE):
            return
        case cst.UnaryOperation() if not _is_minus_one(node):
            return
    if _fills(node, context) and _target_matches(node, context):
        yield cst.Integer("0")


def _is_minus_one(node: cst.UnaryOperation) -> bool:
    match node:
        case cst.UnaryOperation(cst.Minus(), cst.Integer(value="1")):
            return True
    return False


def _fills(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node is what a place is filled with, not an index or an operand."""
    match above := context.parent(node):
        case cst.Element():
            match context.parent(context.parent(above) or above):
                case cst.BinaryOperation(operator=cst.Multiply()):
                    return True
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript())]):
            return True
        case cst.Arg():
            match context.parent(above):
                case cst.Call() as call if is_called(call, FILLS):
                    return call.args[-1] is above or above.keyword is not None
                case cst.Call() as call if is_called(call, "where"):
                    return argument(call, 2, "other") is node
    return False


def _target_matches(node: cst.CSTNode, context: Context) -> bool:
    for above in context.ancestors(node):
        match above:
            case cst.Assign(targets=[cst.AssignTarget(target=target)]):
                return is_called(target, NAMES)
            case cst.AnnAssign(target=target) | cst.AugAssign(target=target):
                return is_called(target, NAMES)
    return False
