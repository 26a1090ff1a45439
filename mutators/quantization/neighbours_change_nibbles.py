"""A bug in packing two values to the byte."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, grouped, integer, is_called, mutator

LOW, HIGH = r"(\w+_)?(low|lo|lower|even|first)", r"(\w+_)?(high|hi|upper|odd|second)"


@mutator(
    topic="quantization",
    family="nibble-low-high-swapped",
    hints=[
        "Pack the values 1 and 2, and look at the byte. Which digit is which?",
        "Which of two neighbours has the low half of the byte, and do both directions agree?",
        "The first of two neighbours has the low nibble, in what is written as in what is read.",
    ],
    sightings=[
        Sighting("https://github.com/pytorch/ao/issues/2939", "the second value had the low half"),
    ],
    mutates={
        "packed = q[:, 0::2] | (q[:, 1::2] << 4)": "packed = q[:, 1::2] | (q[:, 0::2] << 4)",
        """
        low, high = packed & 0x0F, packed >> 4
        return torch.stack((low, high), dim=-1).flatten(1)
        """: """
        low, high = packed & 0x0F, packed >> 4
        return torch.stack((high, low), dim=-1).flatten(1)
        """,
        "w = np.stack([b & 15, b >> 4], axis=-1).reshape(n, -1)": (
            "w = np.stack([b >> 4, b & 15], axis=-1).reshape(n, -1)"
        ),
        "byte = (second << 4) + first": "byte = (first << 4) + second",
    },
    spares=[
        "word = high | (low << 8)",
        "both = torch.stack((cos, sin), dim=-1)",
        "low, high = packed & 0x0F, packed >> 4",
    ],
)
def neighbours_change_nibbles(
    node: cst.BinaryOperation | cst.Tuple | cst.List, context: Context
) -> Iterator[cst.CSTNode]:
    """Of two values that share a byte, each is taken for the other.

    Two values of four bits share a byte, and a format says which of them has the low half. If one
    direction puts the first value there and the other takes the second value from there, neighbours
    change places in every pair. Each weight is then applied to its neighbour's input.

    The range, the mean and the histogram of the weights stay as they are. Where packing and
    unpacking are wrong together, or where only their shapes are tested, nothing is seen until a
    file comes from another tool.
    """
    match node:
        case cst.BinaryOperation(left, cst.BitOr() | cst.Add(), right):
            if (first := _shifted(right)) is not None and _shifted(left) is None:
                yield node.with_changes(left=grouped(first), right=_shift(right, left))
            elif (first := _shifted(left)) is not None and _shifted(right) is None:
                yield node.with_changes(left=_shift(left, right), right=grouped(first))
        case cst.Tuple(elements=[low, high]) | cst.List(elements=[low, high]):
            call = context.parent(context.parent(node) or node)
            joins = call is not None and is_called(call, "stack|cat|concat|concatenate|dstack")
            if joins and _is_low(low.value) and _is_high(high.value):
                elements = [low.with_changes(value=high.value), high.with_changes(value=low.value)]
                yield node.with_changes(elements=elements)


def _shifted(node: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return `b` of `b << 4`."""
    match node:
        case cst.BinaryOperation(value, cst.LeftShift(), by) if integer(by) == 4:
            return value
    return None


def _shift(node: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression:
    """Let another value be shifted."""
    assert isinstance(node, cst.BinaryOperation)
    return node.with_changes(left=grouped(value))


def _is_low(node: cst.BaseExpression) -> bool:
    match node:
        case cst.BinaryOperation(_, cst.BitAnd(), mask):
            return integer(mask) == 15
    return isinstance(node, cst.Name) and is_called(node, LOW)


def _is_high(node: cst.BaseExpression) -> bool:
    match node:
        case cst.BinaryOperation(_, cst.RightShift(), by):
            return integer(by) == 4
    return isinstance(node, cst.Name) and is_called(node, HIGH)
