"""A bug behind casts that do not copy."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mutator, same, walk

OPERATORS: dict[type[cst.BaseBinaryOp], type[cst.BaseAugOp]] = {
    cst.Add: cst.AddAssign,
    cst.Subtract: cst.SubtractAssign,
    cst.Multiply: cst.MultiplyAssign,
    cst.Divide: cst.DivideAssign,
}
ALIASES = (
    "float",
    "to",
    "type",
    "double",
    "half",
    "bfloat16",
    "detach",
    "view",
    "reshape",
    "flatten",
    "squeeze",
    "contiguous",
    "view_as",
    "transpose",
    "asarray",
)


@mutator(
    topic="devices",
    family="inplace-norm-corrupts-residual",
    hints=[
        "Look at an input before the call and after it, in float32 and in 16 bits.",
        "Does a cast to float32 copy what is float32 already?",
        "What a cast or a view returns may be the caller's tensor; change only what is your own.",
    ],
    sightings=[
        Sighting(
            "https://github.com/GeeeekExplorer/nano-vllm/issues/170",
            "in float32 the norm changed its input",
        ),
        Sighting(
            "https://github.com/GeeeekExplorer/nano-vllm/pull/205",
            "the fix, with a regression test",
        ),
    ],
    mutates={
        """
        def forward(self, x, residual):
            stream = x.float()
            stream = stream + residual
            return self.norm(stream), stream
        """: """
        def forward(self, x, residual):
            stream = x.float()
            stream += residual
            return self.norm(stream), stream
        """,
        """
        def normalise(x, axis):
            h = np.asarray(x)
            h = h / np.linalg.norm(h, axis=axis, keepdims=True)
            return h
        """: """
        def normalise(x, axis):
            h = np.asarray(x)
            h /= np.linalg.norm(h, axis=axis, keepdims=True)
            return h
        """,
        """
        def pack(weight, scale):
            w = weight.detach().float()
            if scale is not None:
                w = w * scale
            return encode(w)
        """: """
        def pack(weight, scale):
            w = weight.detach().float()
            if scale is not None:
                w *= scale
            return encode(w)
        """,
    },
    spares=[
        """
        def forward(self, x, residual):
            stream = x.float().clone()
            stream = stream + residual
            return stream
        """,
        """
        def forward(self, x, bias):
            y = self.linear(x)
            y = y + bias
            return y
        """,
    ],
)
def sum_is_written_into_the_input(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.SimpleStatementLine]:
    """A result is computed in place, in a tensor that may still be the caller's.

    A cast copies only if there is something to cast, and a view never copies. `x.float()` is `x`
    itself if `x` is float32, so that arithmetic in place behind it changes the input. For a norm
    that means the residual stream, for a loader the weights of the model it reads.

    In 16 bits, where models are deployed, the cast copies and all is well. In float32 the result of
    the call is right, too: the damage shows in what is done with the input afterwards.
    """
    match assigned(node):
        case (
            cst.Name() as target,
            cst.BinaryOperation(left=cst.Name() as left, operator=operator, right=right),
        ) if same(left, target) and type(operator) in OPERATORS:
            if _is_another(target, node, context):
                line = cst.AugAssign(target, OPERATORS[type(operator)](), right)
                yield node.with_changes(body=[line])


def _is_another(target: cst.Name, node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the variable got its value by a cast or as a view, right before."""
    function = context.enclosing(node, cst.FunctionDef)
    root: cst.BaseExpression | None = None
    for line in () if function is None else walk(function):
        if line is node:
            break
        found = assigned(line)
        if found is not None and same(found[0], target):
            root = _root(found[1])
    return root is not None and not same(root, target)


def _root(value: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return `x` of `x.detach().float()`; None where a new tensor is made."""
    match value:
        case cst.Call(cst.Attribute(cst.Name("np" | "torch"), cst.Name(name)), [cst.Arg(x), *_]):
            return _root(x) if name in ALIASES else None
        case cst.Call(cst.Attribute(x, cst.Name(name))):
            return _root(x) if name in ALIASES else None
        case cst.Name() | cst.Attribute():
            return value
    return None
