"""A bug in reading back weights with zero points."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mentions, mutator

CODES = r"q|qs|qw\w*|q_?weights?|codes?|quant\w*|unpacked|nibbles|(\w+_)?(int|q|u)\d*|weights?|w|x"
ZERO = r"(\w+_)?(zeros?|zps?|zero_?points?|qzeros)(_\w+)?"
CASTS = ("float", "half", "to", "astype", "int", "short", "type", "double")


# Fits one subject: only one file stores weights in few bits.
@mutator(
    topic="quantization",
    family="zero-point-underflow-wraps",
    hints=[
        "Quantize a weight with both signs. Which of its values come back, and which do not?",
        "What are the dtypes on both sides of each minus, and which values can they hold?",
        "Unsigned integers have nothing below zero: widen the operands, then take the difference.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ModelCloud/GPTQModel/pull/2351",
            "a zero point wrapped below zero to 15",
        ),
        Sighting(
            "https://github.com/ModelCloud/GPTQModel/issues/2350", "the report of the same wrap"
        ),
    ],
    mutates={
        "w = (q.float() - zero.float()[..., None]) * scale[..., None]": (
            "w = (q - zero[..., None]).float() * scale[..., None]"
        ),
        "w = scales * (codes.astype(np.float32) - zeros.astype(np.float32))": (
            "w = scales * (codes - zeros).astype(np.float32)"
        ),
        "w = (qweight.to(scale.dtype) - qzeros.unsqueeze(-1).to(scale.dtype)) * scale": (
            "w = (qweight - qzeros.unsqueeze(-1)).to(scale.dtype) * scale"
        ),
    },
    spares=[
        "w = (q.float() - 8) * scale",
        "w = (q - zero) * scale",
        "error = logits.float() - target.float()",
    ],
)
def unsigned_codes_wrap_below_zero(node: cst.BinaryOperation) -> Iterator[cst.Call]:
    """The zero point is subtracted while both are bytes, so that what is below it wraps around.

    Codes and zero points of an asymmetric format are stored as unsigned integers, and their
    difference has a sign. It must be taken in a type that holds one. Between bytes, 3 - 5 is 254,
    and a small negative weight becomes a huge positive one.

    Codes at or above the zero point come back exactly, and so does a tensor that is nowhere
    negative. The cast is there, only a few characters too late, and looks cheaper where it is.
    """
    match node:
        case cst.BinaryOperation(left, cst.Subtract(), right):
            codes, zero = _narrow(left), _narrow(right)
            if codes is None or zero is None:
                return
            if is_called(codes[0], CODES) and mentions(zero[0], ZERO):
                difference = node.with_changes(
                    left=codes[0], right=zero[0], lpar=[cst.LeftParen()], rpar=[cst.RightParen()]
                )
                yield codes[1].with_changes(
                    func=cst.Attribute(difference, cst.Name(_name(codes[1])))
                )


def _narrow(
    operand: cst.BaseExpression,
) -> tuple[cst.BaseExpression, cst.Call] | None:
    """Return what `x.float()` or `x.float()[..., None]` casts, without the cast, and the cast."""
    match operand:
        case cst.Call(cst.Attribute(source, cst.Name(method))) as cast if method in CASTS:
            return source, cast
        case cst.Subscript(value=below) if (found := _narrow(below)) is not None:
            return operand.with_changes(value=found[0]), found[1]
    return None


def _name(cast: cst.Call) -> str:
    assert isinstance(cast.func, cst.Attribute)
    return cast.func.attr.value
