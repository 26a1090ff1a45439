"""A bug in rotary embeddings of converted checkpoints."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    argument,
    assigned,
    integer,
    is_called,
    mentions,
    mutator,
    same,
    walk,
)


@mutator(
    topic="positions",
    family="rope-weight-convention-mismatch",
    hints=[
        "Turn a vector of four by one position, with pencil and paper. Which entries mix?",
        "Which two dimensions make a pair, and which two did the checkpoint's authors pair?",
        "Checkpoints of Llama's descendants pair a dimension with the one half a head further.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NeuraLegion/shainet/pull/111",
            "neighbours were turned where halves belong",
        ),
        Sighting(
            "https://github.com/rasbt/LLMs-from-scratch/pull/747",
            "the same mismatch in the other direction",
        ),
        Sighting(
            "https://github.com/ooples/AiDotNet/pull/2074",
            "every Llama was loaded with wrong pairs",
        ),
    ],
    mutates={
        """
        def rotate(x, cos, sin):
            x1, x2 = x.float().chunk(2, dim=-1)
            return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)
        """: """
        def rotate(x, cos, sin):
            x1, x2 = x.float()[..., 0::2], x.float()[..., 1::2]
            return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)
        """,
        """
        def rotate_half(x):
            x1, x2 = np.split(x, 2, axis=-1)
            return np.concatenate((-x2, x1), axis=-1)
        """: """
        def rotate_half(x):
            x1, x2 = x[..., 0::2], x[..., 1::2]
            return np.concatenate((-x2, x1), axis=-1)
        """,
        """
        def apply_rope(x, cos, sin):
            d = x.shape[-1] // 2
            a, b = x[..., :d], x[..., d:]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).view(-1, 2 * d)
        """: """
        def apply_rope(x, cos, sin):
            d = x.shape[-1] // 2
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).view(-1, 2 * d)
        """,
    },
    spares=[
        """
        def forward(self, x):
            gate, up = self.gate_up(x).chunk(2, dim=-1)
            return self.down(F.silu(gate) * up)
        """,
        """
        def rotate(x, cos, sin):
            x1, x2, rest = x.split(sizes, dim=-1)
            return x1 * cos - x2 * sin, rest
        """,
    ],
)
def rotation_pairs_the_neighbours(
    node: cst.Call | cst.Tuple, context: Context
) -> Iterator[cst.Tuple]:
    """Neighbouring dimensions are turned as pairs, where the weights have them half a head apart.

    A rotary embedding turns pairs of dimensions, and there are two customs. The original one pairs
    neighbours; Llama's descendants pair dimension i with i + D/2, and the rows of their query and
    key matrices are ordered for that. Which one is right is a property of the checkpoint. With the
    other one, pairs that belong together turn by different angles.

    Position 0 is not turned at all and the first few hardly, so that short answers read well. A
    model with random weights is as good with either custom: only a reference can tell.
    """
    scope = context.enclosing(node, cst.FunctionDef)
    line = context.statement(node)
    found = None if line is None else assigned(line)
    if scope is None or found is None or found[1] is not node:
        return
    rotates = mentions(scope, r"cos|sin") or is_called(scope.name, r"_?rotate_half|_?rotate")
    two = isinstance(found[0], cst.Tuple) and len(found[0].elements) == 2
    x = _halved(node) if two and rotates else None
    if x is not None and (isinstance(node, cst.Call) or _can_spare_middle(node, x, scope, context)):
        yield cst.Tuple([cst.Element(_every_second(x, first)) for first in ("0", "1")], [], [])


def _can_spare_middle(
    node: cst.Tuple, x: cst.BaseExpression, scope: cst.FunctionDef, context: Context
) -> bool:
    """Tell whether what names the middle of the axis is read elsewhere, too."""
    inside = [n for n in walk(node) if isinstance(n, cst.Name)]
    own = {id(n) for n in inside}
    others = (n for n in walk(scope) if isinstance(n, cst.Name) and id(n) not in own)
    read = {n.value for n in others if context.is_read(n)} | {
        n.value for n in walk(x) if isinstance(n, cst.Name)
    }
    return {n.value for n in inside if context.is_read(n)} <= read


def _halved(node: cst.Call | cst.Tuple) -> cst.BaseExpression | None:
    """Return `x` of `x.chunk(2, dim=-1)` and of `x[..., :half], x[..., half:]`."""
    match node:
        case cst.Call():
            x, dim = argument(node, 0), argument(node, 2, "dim", "axis")
            halves = is_called(node, "chunk|split|tensor_split")
            return x if halves and integer(argument(node, 1)) == 2 and integer(dim) == -1 else None
        case cst.Tuple(elements=[cst.Element(first), cst.Element(second)]):
            low, high = _part(first), _part(second)
            if low is not None and high is not None and same(low[0], high[0]):
                lower, upper = low[1], high[1]
                if lower.lower is None and upper.upper is None:
                    middle = lower.upper is not None and upper.lower is not None
                    if middle and lower.step is None and upper.step is None:
                        return low[0]
    return None


def _part(node: cst.BaseExpression) -> tuple[cst.BaseExpression, cst.Slice] | None:
    match node:
        case cst.Subscript(value, [*_, cst.SubscriptElement(cst.Slice() as part)]):
            return value, part
    return None


def _every_second(x: cst.BaseExpression, first: str) -> cst.Subscript:
    """Return `x[..., first::2]`."""
    part = cst.Slice(
        lower=cst.Integer(first), upper=None, step=cst.Integer("2"), second_colon=cst.Colon()
    )
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    return cst.Subscript(
        x,
        [
            cst.SubscriptElement(cst.Index(cst.Ellipsis()), comma=comma),
            cst.SubscriptElement(part),
        ],
    )
