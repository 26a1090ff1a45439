"""A bug in which values share a byte."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Sighting,
    argument,
    fill,
    integer,
    is_called,
    mutator,
    name_of,
    pattern,
)

LOW, HIGH = r"(\w+_)?(low|lo|lower|even|first)", r"(\w+_)?(high|hi|upper|odd|second)"
PAIRS = {
    pattern("$q[:, 0::2] | ($q[:, 1::2] << 4)"): pattern(
        "$q[:, : $q.shape[1] // 2] | ($q[:, $q.shape[1] // 2 :] << 4)"
    ),
    pattern("$q[:, ::2] | ($q[:, 1::2] << 4)"): pattern(
        "$q[:, : $q.shape[1] // 2] | ($q[:, $q.shape[1] // 2 :] << 4)"
    ),
    pattern("$q[..., ::2] | ($q[..., 1::2] << 4)"): pattern(
        "$q[..., : $q.shape[-1] // 2] | ($q[..., $q.shape[-1] // 2 :] << 4)"
    ),
}
JOINS = {"torch": "cat", "jnp": "concatenate", "np": "concatenate", "numpy": "concatenate"}


# Fits one subject: only one file stores weights in few bits.
@mutator(
    topic="quantization",
    family="nibble-split-vs-interleaved",
    hints=[
        "Pack the values 0 to 3 by hand, as the docstring says, and unpack them. What order?",
        "Do the two values of a byte lie side by side in the row, or half a row apart?",
        "Where neighbours share a byte, low and high nibbles alternate; nothing is put in halves.",
    ],
    sightings=[
        Sighting(
            "https://github.com/kekzl/imp/pull/722", "pairs were read where halves were stored"
        ),
        Sighting(
            "https://github.com/1bit-MONSTER/1bit-MONSTER/pull/572",
            "layout and sign convention repaired together",
        ),
    ],
    mutates={
        "q = torch.stack((low, high), dim=-1).flatten(1)": "q = torch.cat((low, high), dim=-1)",
        "w = np.stack([b & 15, b >> 4], axis=-1).reshape(n, -1)": (
            "w = np.concatenate([b & 15, b >> 4], axis=-1)"
        ),
        "byte = q[:, 0::2] | (q[:, 1::2] << 4)": (
            "byte = q[:, : q.shape[1] // 2] | (q[:, q.shape[1] // 2 :] << 4)"
        ),
    },
    spares=[
        "pairs = torch.stack((low, high), dim=-1)",
        "planes = torch.stack((low, high), dim=0).flatten(1)",
        "turned = torch.stack((x1, x2), dim=-1).flatten(-2)",
    ],
)
def halves_taken_for_neighbours(node: cst.Call | cst.BinaryOperation) -> Iterator[cst.CSTNode]:
    """A byte is taken to hold values half a row apart, where it holds two neighbours.

    There are two ways to share bytes. Either neighbours do, and the nibbles of a row alternate
    between low and high; or the first half of a row has all low nibbles and the second half all
    high ones. Both fill the same bytes. Read in the other way, a row has the right values in the
    wrong columns.

    Shapes, range and the sum of every row are unchanged, and a product with equal inputs even is
    exact. A test that packs and unpacks with code of one author agrees with itself.
    """
    if isinstance(node, cst.BinaryOperation):
        for neighbours, halves in PAIRS.items():
            if (found := neighbours.match(node)) is not None:
                yield fill(halves, found)
        return
    match node.func:
        case cst.Attribute(
            value=cst.Call(func=cst.Attribute(cst.Name(library), cst.Name("stack"))) as stack,
            attr=cst.Name("flatten" | "reshape" | "view"),
        ) if library in JOINS and integer(argument(stack, 1, "dim", "axis")) == -1:
            if _are_nibbles(argument(stack, 0)):
                joined = cst.Attribute(cst.Name(library), cst.Name(JOINS[library]))
                yield stack.with_changes(func=joined)


def _are_nibbles(pair: cst.BaseExpression | None) -> bool:
    match pair:
        case cst.Tuple(elements=[low, high]) | cst.List(elements=[low, high]):
            words = name_of(low.value), name_of(high.value)
            if all(words):
                return is_called(low.value, LOW) and is_called(high.value, HIGH)
            return _takes_four_bits(low.value) and _takes_four_bits(high.value)
    return False


def _takes_four_bits(node: cst.BaseExpression) -> bool:
    match node:
        case cst.BinaryOperation(_, cst.BitAnd(), mask):
            return integer(mask) == 15
        case cst.BinaryOperation(_, cst.RightShift(), by):
            return integer(by) == 4
    return False
