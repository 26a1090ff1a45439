"""A bug in causal masks."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Pattern, Sighting, is_called, mutator, pattern

KEY = r"(k|key|keys|kv|src|col|cols)(_(pos|positions?|idx|ids?|index))?|j"
QUERY = r"(q|query|queries|tgt|row|rows)(_(pos|positions?|idx|ids?|index))?|i"
DISTANCE = r"(\w+_)?(distance|dist|delta|lag|relative_positions?|rel_pos|diff)"
TRIANGLES = {
    pattern(before): pattern(after)
    for before, after in {
        "$x.triu(1)": "$x.triu()",
        "$x.triu(diagonal=1)": "$x.triu()",
        "torch.triu($x, 1)": "torch.triu($x)",
        "torch.triu($x, diagonal=1)": "torch.triu($x)",
        "np.triu($x, 1)": "np.triu($x)",
        "np.triu($x, k=1)": "np.triu($x)",
        "$x.tril()": "$x.tril(-1)",
        "$x.tril(0)": "$x.tril(-1)",
        "torch.tril($x)": "torch.tril($x, -1)",
        "np.tril($x)": "np.tril($x, -1)",
    }.items()
}
"""What is blocked loses its offset of one, what is allowed gets one."""


@mutator(
    topic="masking",
    family="causal-mask-without-diagonal",
    hints=[
        "Put a value into one token that no other token has. Where does it come out?",
        "How many keys does the first token of a text see, and which ones?",
        "Causal means not in the future: a query's own position belongs to what it sees.",
    ],
    sightings=[
        Sighting(
            "https://github.com/pbloem/former/issues/10", "offset 0 hid the diagonal, 1 was meant"
        ),
        Sighting(
            "https://github.com/RVC-Boss/GPT-SoVITS/issues/965",
            "the mask left out the token's own position",
        ),
    ],
    mutates={
        "causal = key <= query": "causal = key < query",
        "visible = distance >= 0": "visible = distance > 0",
        "keep = q_pos[:, None] >= k_pos[None, :]": "keep = q_pos[:, None] > k_pos[None, :]",
        "blocked = torch.triu(torch.ones(n, n), diagonal=1).bool()": (
            "blocked = torch.triu(torch.ones(n, n)).bool()"
        ),
        "mask = np.tril(np.ones((n, n), dtype=bool))": (
            "mask = np.tril(np.ones((n, n), dtype=bool), -1)"
        ),
    },
    spares=[
        "old = key < query",
        "visible = distance >= window",
        "band = torch.triu(torch.ones(n, n), diagonal=1 - window)",
        "late = step >= limit",
        """
        def solve(x, lower):
            return lower.tril() @ x
        """,
    ],
)
def query_is_hidden_from_itself(node: cst.Comparison | cst.Call) -> Iterator[cst.CSTNode]:
    """A token may look at all that came before it, and not at itself.

    A causal mask hides the future. The query's own position is no part of it: the diagonal stays
    open. One strict comparison too many, or a triangle without its offset, closes it, and every
    token is computed from its predecessors alone. The first has none, and gets zeros or NaN.

    Far into a text one key more or less among many changes little, and the residual stream carries
    the token's own content past the attention anyway.
    """
    if isinstance(node, cst.Call):
        for before, after in TRIANGLES.items():
            found = before.match(node)
            if found is not None and is_called(_innermost(found["x"]), r"ones\w*|full|new_ones"):
                yield _with_diagonal_of(node, after)
    elif len(node.comparisons) == 1 and (stricter := _stricter(node)) is not None:
        target = node.comparisons[0].with_changes(operator=stricter)
        yield node.with_changes(comparisons=[target])


def _stricter(node: cst.Comparison) -> cst.BaseCompOp | None:
    left, target = node.left, node.comparisons[0]
    right = target.comparator
    match target.operator:
        case cst.LessThanEqual() if is_called(left, KEY) and is_called(right, QUERY):
            return cst.LessThan()
        case cst.GreaterThanEqual() if is_called(left, QUERY) and is_called(right, KEY):
            return cst.GreaterThan()
        case cst.GreaterThanEqual() if is_called(left, DISTANCE):
            if isinstance(right, cst.Integer) and right.value == "0":
                return cst.GreaterThan()
    return None


def _with_diagonal_of(node: cst.Call, after: Pattern) -> cst.Call:
    """Keep the tensor's own code, and take the diagonal from the pattern."""
    wanted = cst.ensure_type(after.tree, cst.Call)
    n_tensors = 0 if isinstance(node.func, cst.Attribute) and not _is_function(node) else 1
    kept = [cst.Arg(arg.value) for arg in node.args[:n_tensors]]
    return node.with_changes(args=[*kept, *wanted.args[n_tensors:]])


def _is_function(node: cst.Call) -> bool:
    func = cst.ensure_type(node.func, cst.Attribute)
    return is_called(func.value, r"torch|np|numpy|jnp|mx")


def _innermost(x: cst.BaseExpression) -> cst.BaseExpression:
    """Return `torch.ones(n, n)` of `torch.ones(n, n).bool()`."""
    match x:
        case cst.Call(func=cst.Attribute(value=cst.Call() as below)):
            return _innermost(below)
    return x
