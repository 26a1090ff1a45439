"""A bug where a tensor is rescaled before it is used."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, assignments, mutator, name_of, same, walk

SCALE = re.compile(r"(\w+_)?(scales?|smooth\w*|absmax|amax|s|factors?)")
TENSOR = re.compile(r"(\w+_)?(w|weights?|q|absmax|scales?|x|codes?|zeros?|k|v)(_\w+)?")
PLAIN = ("detach", "float", "to", "clone", "contiguous", "astype", "copy", "double", "half")


@mutator(
    topic="quantization",
    family="nested-absmax-not-used",
    hints=[
        "Turn the optional scaling on, and compare with the layer without it. Do they agree?",
        "Two variables stand for nearly the same tensor: which one has been rescaled by now?",
        "A tensor that was rescaled goes on in its new form; the old one has had its day.",
    ],
    sightings=[
        Sighting(
            "https://github.com/bitsandbytes-foundation/bitsandbytes/pull/1549",
            "scales were decoded, the encoded ones applied",
        ),
    ],
    mutates={
        """
        def __init__(self, weight, amax=None):
            w = weight.detach().float()
            if amax is not None:
                w = w * smooth_scale(amax)
            self.amax = w.abs().amax()
            self.q = quantize(w, 32)
        """: """
        def __init__(self, weight, amax=None):
            w = weight.detach().float()
            if amax is not None:
                w = w * smooth_scale(amax)
            self.amax = w.abs().amax()
            self.q = quantize(weight, 32)
        """,
        """
        def dequantize(state, q):
            absmax = decode(state.absmax)
            absmax = absmax * state.outer_scale
            peak = absmax.max()
            return lookup(q, absmax) / peak
        """: """
        def dequantize(state, q):
            absmax = decode(state.absmax)
            absmax = absmax * state.outer_scale
            peak = absmax.max()
            return lookup(q, state.absmax) / peak
        """,
    },
    spares=[
        """
        def pack(weight, scale):
            w = weight.float()
            w = w / scale
            return pack(w)
        """,
        """
        def pack(weight, scale):
            w = weight.float()
            show(w)
            return pack(w)
        """,
    ],
)
def scaled_weight_is_passed_over(node: cst.Arg, context: Context) -> Iterator[cst.Arg]:
    """A tensor is rescaled, and then the tensor it was made of is used in its stead.

    What has two forms has two names for a while: the weight as it was given and the weight with its
    channels scaled, the scales in eight bits and the scales decoded. The step that follows must
    take the later form, for its counterpart undoes the scaling: inputs are divided by what the
    weights were multiplied by.

    Both have the same shape and both are in scope. Without the optional scaling they are even
    equal, and that is the default and what is tested. Scales near 1 hide the rest.
    """
    function = context.enclosing(node, cst.FunctionDef)
    line = context.statement(node)
    if function is None or line is None or not isinstance(node.value, cst.Name):
        return
    scaled = node.value
    values = list(assignments(function, scaled.value))
    if len(values) < 2 or not TENSOR.fullmatch(scaled.value) or not _is_elsewhere(node, context):
        return
    source = _source(values[0])
    earlier = [below for above in context.before(line) for below in walk(above)]
    if source is not None and any(
        _rescales(value, scaled) and value in earlier for value in values
    ):
        yield node.with_changes(value=source)


def _source(value: cst.BaseExpression) -> cst.Name | cst.Attribute | None:
    """Return `weight` of `weight.detach().float()` or of `decode(weight)`."""
    match value:
        case cst.Call(cst.Attribute(source, cst.Name(method))) if method in PLAIN:
            return _bare(source)
        case cst.Call(args=[cst.Arg(source)]):
            return _bare(source)
    return None


def _bare(source: cst.BaseExpression) -> cst.Name | cst.Attribute | None:
    return source if isinstance(source, cst.Name | cst.Attribute) else _source(source)


def _rescales(value: cst.BaseExpression, scaled: cst.Name) -> bool:
    """Tell `w * scale` and `w / scale`."""
    match value:
        case cst.BinaryOperation(kept, cst.Multiply() | cst.Divide(), scale):
            return same(kept, scaled) and SCALE.fullmatch(name_of(scale)) is not None
    return False


def _is_elsewhere(node: cst.Arg, context: Context) -> bool:
    """Tell whether the variable is also read where it does not make itself anew."""
    function = context.enclosing(node, cst.FunctionDef)
    for other in () if function is None else walk(function):
        if isinstance(other, cst.Name) and other is not node.value and same(other, node.value):
            line = context.statement(other)
            found = None if line is None else assigned(line)
            if context.is_read(other) and not (found and same(found[0], other)):
                return True
    return False
