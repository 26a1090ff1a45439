"""A bug wherever a value is reworked and both versions stay at hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, called, mutator, name_of, walk

ANOTHER_THING = called(r"new_\w+|\w+_like|arg\w+|sort|clone|copy")
TENSOR = r"(float|int|bool)\d"
KEEPS_SHAPE = called("masked_fill|where|clamp|clip|nan_to_num|mul|add|sub|div|softmax|relu|abs")


@mutator(
    topic="moe",
    family="wrong-weights-variable",
    hints=[
        "Give an input that the reworking really changes. Does the result change with it?",
        "Find two variables, one made from the other. Which of them does each later line read?",
        "What was masked, clamped or scaled is what is to be read, not what it was made from.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/508", "weights masked, then used unmasked"
        ),
    ],
    mutates={
        """
        def combine(outputs, weights, valid):
            kept = weights * valid
            total = kept.sum(-1)
            return (outputs * kept[..., None]).sum(-2) / total
        """: [
            """
            def combine(outputs, weights, valid):
                kept = weights * valid
                total = weights.sum(-1)
                return (outputs * kept[..., None]).sum(-2) / total
            """,
            """
            def combine(outputs, weights, valid):
                kept = weights * valid
                total = kept.sum(-1)
                return (outputs * weights[..., None]).sum(-2) / total
            """,
        ],
        """
        def step(x, low):
            safe = np.clip(x, low, None)
            log = np.log(safe)
            return log, safe
        """: [
            """
            def step(x, low):
                safe = np.clip(x, low, None)
                log = np.log(x)
                return log, safe
            """,
            """
            def step(x, low):
                safe = np.clip(x, low, None)
                log = np.log(safe)
                return log, x
            """,
        ],
    },
    spares=[
        """
        def combine(outputs, weights, valid):
            kept = weights * valid
            return (outputs * kept[..., None]).sum(-2)
        """,
        """
        def combine(outputs, weights, valid):
            weights = weights * valid
            return (outputs * weights[..., None]).sum(-2) / weights.sum()
        """,
        """
        def widths(x, config):
            size = config.head_dim
            return x.reshape(-1, size), size
        """,
    ],
)
def original_is_used_after_it_was_reworked(node: cst.Name, context: Context) -> Iterator[cst.Name]:
    """A line reads what a value was before it was masked, clamped or scaled, not what it became.

    Where a value is reworked under a new name, both names stay at hand, and they hold things of one
    shape and dtype. Every line below is to read the new one. One that reads the old one skips the
    reworking for its own result, while its neighbours see it.

    Nothing is unused, nothing raises, and what the rework leaves alone gives the right answer.
    """
    function = context.enclosing(node, cst.FunctionDef)
    here = context.statement(node)
    if function is None or node.value not in _bound_in(function) or here is None:
        return
    if not context.is_read(node) or _is_written(node, context):
        return
    made_from = _made_from(node, function, context)
    if made_from is None or _mentions(here, made_from) or _rebound(made_from, function, context):
        return
    others = [n for n in _reads(function, node.value, context) if n is not node]
    if others:
        yield node.with_changes(value=made_from)


def _made_from(node: cst.Name, function: cst.FunctionDef, context: Context) -> str | None:
    """Return what the variable was made from, if that was once, above, and of the same kind."""
    found = _bound_in(function).get(node.value, [])
    if len(found) != 1 or context.statement(node) is found[0][0]:
        return None
    (line, value), *_ = found
    if not any(line is above for above in _above(node, context)):
        return None
    for source in _sources(value):
        traced = bool(
            re.fullmatch(TENSOR, context.kind(node)) and source.value in context.same_kind(node)
        )
        if source.value != node.value and (traced or _keeps_shape(value, source)):
            return source.value
    return None


@lru_cache(maxsize=64)
def _bound_in(
    function: cst.FunctionDef,
) -> dict[str, list[tuple[cst.CSTNode, cst.BaseExpression]]]:
    """Return the lines that assign to each plain variable: looked for once per function."""
    found: dict[str, list[tuple[cst.CSTNode, cst.BaseExpression]]] = {}
    for line in walk(function):
        match assigned(line):
            case cst.Name(value=target), value:
                found.setdefault(target, []).append((line, value))
    return found


def _sources(value: cst.BaseExpression) -> list[cst.Name]:
    """Return what is plainly reworked: the left operand, the owner or the first argument."""
    match value:
        case cst.BinaryOperation(left=cst.Name() as left):
            return [left]
        case cst.Call(func=function) if ANOTHER_THING(function):
            return []
        case cst.Call(func=cst.Attribute(value=cst.Name(value=owner) as name), args=args):
            first = [arg.value for arg in args[:1] if isinstance(arg.value, cst.Name)]
            return first if owner in ("torch", "np", "F") else [name]
    return []


def _keeps_shape(value: cst.BaseExpression, source: cst.Name) -> bool:
    match value:
        case cst.BinaryOperation(operator=cst.Multiply() | cst.Divide() | cst.Add()):
            return True
        case cst.Call(func=function):
            return KEEPS_SHAPE(function) and name_of(function) != source.value
    return False


def _above(node: cst.CSTNode, context: Context) -> list[cst.CSTNode]:
    """Return the statements that have run when the node's is reached, innermost block first."""
    found: list[cst.CSTNode] = []
    for around in (node, *context.ancestors(node)):
        if isinstance(around, cst.FunctionDef):
            break
        if isinstance(around, cst.BaseStatement):
            found += context.before(around)
    return found


def _reads(scope: cst.CSTNode, name: str, context: Context) -> list[cst.Name]:
    return [
        n for n in walk(scope) if isinstance(n, cst.Name) and n.value == name and context.is_read(n)
    ]


def _mentions(line: cst.CSTNode, name: str) -> bool:
    return any(isinstance(n, cst.Name) and n.value == name for n in walk(line))


def _rebound(name: str, function: cst.FunctionDef, context: Context) -> bool:
    """Tell whether the original is bound more than once, so that it may be another thing below."""
    names = [n for n in walk(function) if isinstance(n, cst.Name) and n.value == name]
    bound = [n for n in names if not context.is_read(n) and not _is_a_field(n, context)]
    return len(bound) > 1


def _is_written(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether what is written into is named: `slots` in `slots[:, i] = place`."""
    return any(isinstance(above, cst.AssignTarget) for above in context.ancestors(node))


def _is_a_field(name: cst.Name, context: Context) -> bool:
    return isinstance(context.parent(name), cst.Attribute | cst.Arg)
