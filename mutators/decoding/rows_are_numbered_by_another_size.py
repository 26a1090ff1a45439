"""A bug in the numbers of rows that lie in groups."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, argument, is_called, mutator, name_of, walk

SIZE = re.compile(r"n_\w+|num_\w+|\w*_size|batch|vocab|beams?|groups|width")


@mutator(
    topic="decoding",
    family="beam-flat-offset-wrong-stride",
    hints=[
        "Take as many groups as you like, but not as many as a group has members. What breaks?",
        "Where does a row's number come from its group and its place? How large is a group?",
        "Group g starts at g times the size of a group; how many groups there are plays no part.",
    ],
    sightings=[
        Sighting(
            "https://github.com/violet-zct/pytorch_NMT/issues/10",
            "offsets were multiples of the batch size",
        ),
    ],
    mutates={
        "offset = torch.arange(batch_size)[:, None] * num_beams": (
            "offset = torch.arange(batch_size)[:, None] * batch_size"
        ),
        "starts = vocab_size * np.arange(beams)": "starts = beams * np.arange(beams)",
        """
        def place_of(experts, slots, n_experts, n_slots):
            place = experts[token] * n_slots + slots[token]
            return buffers.view(n_experts, n_slots, -1)[place]
        """: """
        def place_of(experts, slots, n_experts, n_slots):
            place = experts[token] * n_experts + slots[token]
            return buffers.view(n_experts, n_slots, -1)[place]
        """,
    },
    spares=[
        "positions = torch.arange(n_new) * stride",
        "offset = torch.arange(n_rows) * n_rows",
        """
        def slot_of(page, place, page_size):
            return page * page_size + place
        """,
    ],
)
def rows_are_numbered_by_another_size(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BinaryOperation]:
    """The first row of a group is counted with the number of groups instead of their size.

    Where groups lie one behind the other, as the beams of a prompt or the slots of an expert do,
    row `i` of group `g` has the number `g * size + i`. With any other factor the groups overlap,
    or leave gaps, and all but the first read what belongs to somebody else.

    Group 0 starts at 0 whatever the factor, and square cases, with as many groups as members, are
    right too. As long as the numbers stay in range nothing raises.
    """
    match node:
        case cst.BinaryOperation(left, cst.Multiply(), right):
            for numbers, size, side in ((left, right, "right"), (right, left, "left")):
                groups = _counted(numbers)
                if groups is None:
                    continue
                if _is_size(groups) and _is_size(size) and name_of(groups) != name_of(size):
                    yield node.with_changes(**{side: groups})
        case cst.BinaryOperation(
            left=cst.BinaryOperation(_, cst.Multiply(), cst.Name() as size) as start,
            operator=cst.Add(),
        ) if _is_size(size):
            other = _other_size(size, node, context)
            if other is not None and context.can_spare(size):
                yield node.with_changes(left=start.with_changes(right=other))


def _counted(numbers: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return `n` of `arange(n)` and of `arange(n)[:, None]`."""
    call = numbers.value if isinstance(numbers, cst.Subscript) else numbers
    if isinstance(call, cst.Call) and is_called(call, "arange|range"):
        return argument(call, 0)
    return None


def _is_size(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Name | cst.Attribute) and bool(SIZE.fullmatch(name_of(node)))


def _other_size(size: cst.Name, node: cst.CSTNode, context: Context) -> cst.Name | None:
    """Return the other size that the function is given, if there is exactly one."""
    function = context.enclosing(node, cst.FunctionDef)
    if function is None:
        return None
    names = {p.name.value for p in walk(function.params) if isinstance(p, cst.Param)}
    others = sorted(n for n in names if SIZE.fullmatch(n) and n != size.value)
    return cst.Name(others[0]) if size.value in names and len(others) == 1 else None
