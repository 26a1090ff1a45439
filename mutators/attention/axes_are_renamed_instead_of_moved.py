"""A bug where two axes of a tensor change places."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, integer, is_called, mutator

MOVES = r"transpose|swapaxes|movedim|moveaxis"
SHAPES = r"view|reshape"


@mutator(
    topic="attention",
    family="head-merge-without-transpose",
    hints=[
        "Give every token and every head a number of its own. Where do the numbers end up?",
        "At which lines do two axes change places, and is the data moved or just counted anew?",
        "A reshape never moves data: axes change places by a transpose and by nothing else.",
    ],
    sightings=[
        Sighting("https://github.com/reczoo/FuxiCTR/issues/30", "heads split without transposing"),
        Sighting(
            "https://github.com/vllm-project/flash-attention/pull/87",
            "layout of the swapped groups",
        ),
    ],
    mutates={
        "q = self.wq(x).view(batch, q_len, -1, self.head_dim).transpose(1, 2)": (
            "q = self.wq(x).view(batch, -1, q_len, self.head_dim)"
        ),
        "lse = lse.reshape(n_heads, n_seqs, q_len).transpose(0, 1)": (
            "lse = lse.reshape(n_seqs, n_heads, q_len)"
        ),
        "k = np.swapaxes(k.reshape(b, s, n_kv_heads, d), 1, 2)": (
            "k = k.reshape(b, n_kv_heads, s, d)"
        ),
        "together = q.transpose(0, 1).reshape(1, n_heads, n_seqs * q_len, head_dim)": (
            "together = q.reshape(1, n_heads, n_seqs * q_len, head_dim)"
        ),
    },
    spares=[
        "k = k.transpose(-1, -2)",
        "w = w.view(n, m).transpose(-1, -2)",
        "return self.wo(out.transpose(1, 2).reshape(batch, q_len, -1))",
        "x = x.view(b, s, s, d).transpose(1, 2)",
    ],
)
def axes_are_renamed_instead_of_moved(node: cst.Call) -> Iterator[cst.BaseExpression]:
    """Two axes are given each other's size, and the data stays where it was.

    A projection yields [B, S, H * D]. Cut into [B, S, H, D], its axes S and H change places by a
    transpose. Cutting it into [B, H, S, D] at once gives the same shape out of the same numbers,
    but in the order in which they lie in memory: what is called head 0 is a piece of the first
    tokens' whole vectors. Joining axes and parting them later has the same trap.

    With one token, one head or one sequence both are the same, and no check of a shape can tell
    them apart.
    """
    if is_called(node, MOVES):
        inner, axes = _moved(node)
        if not isinstance(inner, cst.Call) or axes is None or not is_called(inner, SHAPES):
            return
        sizes = [arg.value for arg in inner.args]
        if any(arg.keyword or arg.star for arg in inner.args) or not max(axes) < len(sizes) > 2:
            return
        first, second = axes
        if _is_same(sizes[first], sizes[second]):
            return
        args = list(inner.args)
        args[first] = args[first].with_changes(value=sizes[second])
        args[second] = args[second].with_changes(value=sizes[first])
        yield inner.with_changes(args=args)
    elif is_called(node, "reshape") and isinstance(node.func, cst.Attribute):
        turned = node.func.value
        if not isinstance(turned, cst.Call) or not is_called(turned, MOVES):
            return
        moved, axes = _moved(turned)
        if axes == (0, 1) and moved is not None:
            yield node.with_changes(func=node.func.with_changes(value=moved))


def _moved(node: cst.Call) -> tuple[cst.BaseExpression | None, tuple[int, int] | None]:
    """Return the tensor and the two axes, counted from the front, that change places."""
    args = [arg.value for arg in node.args]
    if len(args) == 2 and isinstance(node.func, cst.Attribute):
        args = [node.func.value, *args]
    if len(args) != 3:
        return None, None
    first, second = integer(args[1]), integer(args[2])
    if first is None or second is None or min(first, second) < 0:
        return None, None
    return args[0], (first, second)


def _is_same(left: cst.CSTNode, right: cst.CSTNode) -> bool:
    return left.deep_equals(right)
