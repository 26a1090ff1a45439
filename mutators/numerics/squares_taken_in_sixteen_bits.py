"""A bug in norms of 16-bit values."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, assigned, mutator, name_of, same, walk

CASTS = ("float", "astype", "to", "double")


@mutator(
    topic="numerics",
    family="norm-square-in-half-precision",
    hints=[
        "Norm a float16 vector of values around 1000. What does it give, and what should it?",
        "In which dtype is the sum of squares taken, for an input of 16 bits?",
        "Squares need a wide type: float16 ends at 65504, the square of 256.",
    ],
    sightings=[
        Sighting(
            "https://github.com/pytorch/pytorch/pull/134106", "squares in float16 were infinite"
        ),
        Sighting(
            "https://github.com/microsoft/onnxruntime/pull/29045",
            "the reduction overflowed for large activations",
        ),
    ],
    mutates={
        """
        def norm(x, weight, eps):
            stream = x.float()
            inv_rms = torch.rsqrt(stream.pow(2).mean(-1, keepdim=True) + eps)
            return (stream * inv_rms * weight).to(x.dtype)
        """: """
        def norm(x, weight, eps):
            stream = x
            inv_rms = torch.rsqrt(stream.pow(2).mean(-1, keepdim=True) + eps)
            return (stream * inv_rms * weight).to(x.dtype)
        """,
        "var = x.float().pow(2).mean(dim=-1, keepdim=True)": (
            "var = x.pow(2).mean(dim=-1, keepdim=True)"
        ),
        "var = np.square(x.astype(np.float32)).mean(axis=-1)": "var = np.square(x).mean(axis=-1)",
    },
    spares=[
        "y = x.float() @ w",
        """
        def scale(x):
            wide = x.float()
            return wide * 2
        """,
        "error = (y - exact).float().square().mean()",
    ],
)
def squares_taken_in_sixteen_bits(node: cst.Call, context: Context) -> Iterator[cst.BaseExpression]:
    """The squares of a norm are taken in the dtype of its input.

    A norm squares its input and takes the mean. In 16 bits that goes wrong twice: float16 overflows
    beyond 256, so that the mean is infinite and the result zero, and bfloat16 has so few digits
    that a long sum stops growing. The input has to be cast before it is squared.

    In float32, where tests run, the cast changes nothing. Activations of ordinary size come out
    nearly right, and only the few large ones, of which every large model has some, do not.
    """
    match node:
        case cst.Call(func=cst.Attribute(value=cst.Name() as x, attr=cst.Name(cast))):
            if cast in CASTS and _is_squared(node, context):
                yield x


def _is_squared(cast: cst.Call, context: Context) -> bool:
    """Tell whether the mean of squares is taken, of the cast or of the variable that it becomes."""
    function = context.enclosing(cast, cst.FunctionDef) or context.module
    line = context.statement(cast)
    found = None if line is None else assigned(line)
    held = found[0] if found is not None and found[1] is cast else None
    for below in walk(function):
        if isinstance(below, cst.Call) and name_of(below) in ("pow", "square"):
            squared = arguments(below)[0].value
            if squared is cast or (held is not None and same(squared, held)):
                above = [a for a in context.ancestors(below) if isinstance(a, cst.Call)]
                return any(name_of(a) in ("mean", "sum") for a in above)
    return False
