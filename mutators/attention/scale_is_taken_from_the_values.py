"""A bug in the scale of attention scores."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, pattern, same, walk

QUERY = r"q|query|queries|q_heads|query_states|query_layer|xq"
VALUES = {
    "q": "v",
    "query": "value",
    "queries": "values",
    "query_states": "value_states",
    "query_layer": "value_layer",
    "xq": "xv",
    "q_heads": "v_heads",
}
ROOTS = [
    pattern(form)
    for form in (
        "$d ** -0.5",
        "1 / math.sqrt($d)",
        "1.0 / math.sqrt($d)",
        "1 / np.sqrt($d)",
        "math.sqrt($d)",
        "np.sqrt($d)",
        "$d ** 0.5",
    )
]
LAST = [pattern("$x.shape[-1]"), pattern("$x.size(-1)")]


@mutator(
    topic="attention",
    family="scale-from-wrong-dimension",
    hints=[
        "Give the values twice as many dims as the keys. Do the weights stay what they were?",
        "Which width is the scale made of, and could another one have the same number?",
        "A score sums over the dims that queries and keys share: their number makes the scale.",
    ],
    sightings=[
        Sighting("https://github.com/ggml-org/llama.cpp/pull/8444", "another width than trained"),
        Sighting(
            "https://github.com/FareedKhan-dev/train-llm-from-scratch/pull/3",
            "embedding width instead of head width",
        ),
    ],
    mutates={
        """
        def attend(q, k, v, scale=None):
            scale = q.shape[-1] ** -0.5 if scale is None else scale
            return (q @ k.mT * scale).softmax(-1) @ v
        """: """
        def attend(q, k, v, scale=None):
            scale = v.shape[-1] ** -0.5 if scale is None else scale
            return (q @ k.mT * scale).softmax(-1) @ v
        """,
        """
        def attend(query, key, value):
            scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
            return softmax(scores) @ value
        """: """
        def attend(query, key, value):
            scores = query @ key.transpose(-2, -1) / math.sqrt(value.size(-1))
            return softmax(scores) @ value
        """,
        """
        def attend(q, k, v):
            n_heads, q_len, head_dim = q.shape
            scale = head_dim**-0.5
            return (q @ k.mT * scale).softmax(-1) @ v, q_len, n_heads, head_dim
        """: """
        def attend(q, k, v):
            n_heads, q_len, head_dim = q.shape
            scale = v.shape[-1] ** -0.5
            return (q @ k.mT * scale).softmax(-1) @ v, q_len, n_heads, head_dim
        """,
    },
    spares=[
        """
        def scale_of(q):
            return q.shape[-1] ** -0.5
        """,
        """
        def init(q, k, v):
            return q.shape[0] ** -0.5
        """,
    ],
)
def scale_is_taken_from_the_values(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """The scale of the scores follows the width of the values instead of that of the keys.

    A score is a sum over the dims of a query and a key, and `D ** -0.5` keeps its size independent
    of their number D. The values have a width of their own, which is another one in models that
    compress their keys or widen their values. A scale made from it is off by a constant factor:
    attention is a little too flat or too sharp, everywhere.

    For most models the two widths are one number, and no shape depends on the scale.
    """
    scope = context.enclosing(node, cst.FunctionDef)
    if scope is None:
        return
    for form in ROOTS:
        found = form.match(node)
        if found is None:
            continue
        width = found["d"]
        query = _query_of(width, scope)
        values = VALUES.get(query or "")
        if values is not None and _is_parameter(values, scope) and context.can_spare(width):
            other = cst.parse_expression(f"{values}.shape[-1]")
            if any(last.match(width) is not None for last in LAST):
                other = _of_other(width, values)
            replaced = cst.ensure_type(node.deep_replace(width, other), type(node))
            if isinstance(replaced, cst.BinaryOperation) and not isinstance(width, cst.Subscript):
                replaced = replaced.with_changes(operator=type(replaced.operator)())
            yield replaced
            return


def _query_of(width: cst.BaseExpression, scope: cst.FunctionDef) -> str | None:
    """Return `q` for `q.shape[-1]`, and for the last name that `q.shape` is unpacked to."""
    for form in LAST:
        found = form.match(width)
        if found is not None and isinstance(found["x"], cst.Name):
            return found["x"].value
    for line in walk(scope):
        match line:
            case cst.Assign(
                targets=[cst.AssignTarget(target=cst.Tuple(elements=[*_, cst.Element(last)]))],
                value=cst.Attribute(value=cst.Name(value=name), attr=cst.Name(value="shape")),
            ) if same(last, width):
                return name
    return None


def _is_parameter(name: str, scope: cst.FunctionDef) -> bool:
    params = [*scope.params.params, *scope.params.kwonly_params]
    return any(param.name.value == name for param in params)


def _of_other(width: cst.BaseExpression, values: str) -> cst.BaseExpression:
    """Return `v.size(-1)` for `q.size(-1)`."""
    name = next(n for n in walk(width) if is_called(n, QUERY) and isinstance(n, cst.Name))
    return width.deep_replace(name, cst.Name(values))
