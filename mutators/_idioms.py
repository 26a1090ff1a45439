"""How inference code is written: the views of a node that many mutators share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import libcst as cst

from halfhour.mutators._context import walk
from halfhour.mutators._pattern import name_of

# What people call these things; each matches a whole name.
WINDOW = r"(\w+_)?(window|window_size|sliding_window)|(attention_|attn_)?span"
LENGTH = r"(\w+_)?(lengths?|lens?|seq_?lens?|seqlens?|cache_seqlens|offsets?|n_seen|seen_tokens)"
NEW_COUNT = r"n_new|new_lens|num_new(_tokens)?|new_lengths|n_tokens|num_tokens|q_lens|n_valid"
TEMPERATURE = r"(\w+_)?(temperatures?|temps?|t)"
PROBS = r"(\w+_)?(probs?|probabilities|p_sorted|weights)"
MASS = r"(\w+_)?(cumsum|cum_?sum|cumulative(_\w+)?|cum_?probs?|mass|total|running)"
TOP_P = r"(\w+_)?(p|top_?ps?|nucleus|threshold)"
TOP_K = r"(\w+_)?(k|top_?k)"
EPSILON = r"(\w+_)?(eps|epsilon)"
_VALUE_FIRST: dict[type[cst.BaseCompOp], type[cst.BaseCompOp]] = {
    cst.GreaterThanEqual: cst.GreaterThan,
    cst.LessThan: cst.LessThanEqual,
}
_EDGE_FIRST: dict[type[cst.BaseCompOp], type[cst.BaseCompOp]] = {
    cst.LessThanEqual: cst.LessThan,
    cst.GreaterThan: cst.GreaterThanEqual,
}
_MODULES = re.compile(r"torch|F|functional|nn|np|numpy|jnp|mx|math")


def arguments(call: cst.Call) -> tuple[cst.Arg, ...]:
    """Return the arguments with the tensor first: of `x.softmax(-1)` and of `softmax(x, -1)`."""
    match call.func:
        case cst.Attribute(value=owner) if not _MODULES.fullmatch(name_of(owner)):
            return (cst.Arg(owner), *call.args)
    return tuple(call.args)


def argument(call: cst.Call, position: int, *keywords: str) -> cst.BaseExpression | None:
    """Return the argument of one of these keywords, or else at that place of `arguments`."""
    given = arguments(call)
    for arg in given:
        if arg.keyword is not None and arg.keyword.value in keywords:
            return arg.value
    positional = [arg.value for arg in given if arg.keyword is None]
    return positional[position] if position < len(positional) else None


def integer(node: cst.CSTNode | None) -> int | None:
    """Return the value of `3` or `-3`; None for anything else."""
    match node:
        case cst.Integer(value=digits):
            return int(digits.replace("_", ""), 0)
        case cst.UnaryOperation(operator=cst.Minus(), expression=cst.Integer(value=digits)):
            return -int(digits.replace("_", ""), 0)
    return None


def literal(value: int) -> cst.BaseExpression:
    """Return the node of an integer."""
    if value < 0:
        return cst.UnaryOperation(cst.Minus(), cst.Integer(str(-value)))
    return cst.Integer(str(value))


def mentions(node: cst.CSTNode, regex: str) -> bool:
    """Tell whether a name or an attribute below the node matches in full."""
    wanted = re.compile(regex)
    return any(isinstance(n, cst.Name) and wanted.fullmatch(n.value) for n in walk(node))


def assigned(line: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Return target and value of a line that is one plain assignment to one target."""
    match line:
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(t)], value=v)]):
            return t, v
        case cst.SimpleStatementLine(
            body=[cst.AnnAssign(target=t, value=cst.BaseExpression() as v)]
        ):
            return t, v
    return None


def assignments(scope: cst.CSTNode, name: str) -> Iterator[cst.BaseExpression]:
    """Yield the values that lines below `scope` assign to the plain variable `name`."""
    for node in walk(scope):
        if (found := assigned(node)) is not None:
            match found:
                case cst.Name(value=target), value if target == name:
                    yield value


def value_of(node: cst.BaseExpression, scope: cst.CSTNode | None) -> cst.BaseExpression:
    """Return what a plain variable was assigned, if that was once; anything else as it is."""
    if isinstance(node, cst.Name) and scope is not None:
        values = list(assignments(scope, node.value))
        return values[0] if len(values) == 1 else node
    return node


def is_called(node: cst.CSTNode, regex: str) -> bool:
    """Tell whether the node's word (`name_of`) matches in full."""
    return re.fullmatch(regex, name_of(node)) is not None


def called(regex: str) -> Callable[[cst.CSTNode], bool]:
    """Return `is_called` for one regular expression."""
    return lambda node: is_called(node, regex)


def edge_moved_up(
    node: cst.Comparison,
    is_value: Callable[[cst.BaseExpression], bool],
    is_edge: Callable[[cst.BaseExpression], bool],
) -> cst.Comparison | None:
    """Let a value that equals the edge count as below it; None where nothing else is compared.

    `value >= edge` becomes `value > edge`, `value < edge` becomes `value <= edge`, and so for the
    mirrored `edge <= value` and `edge > value`.
    """
    if len(node.comparisons) != 1:
        return None
    target = node.comparisons[0]
    if is_value(node.left) and is_edge(target.comparator):
        changed = _VALUE_FIRST.get(type(target.operator))
    elif is_edge(node.left) and is_value(target.comparator):
        changed = _EDGE_FIRST.get(type(target.operator))
    else:
        return None
    if changed is None:
        return None
    return node.with_changes(comparisons=[target.with_changes(operator=changed())])


def swapped(block: cst.IndentedBlock, first: int) -> cst.IndentedBlock:
    """Exchange two neighbouring simple lines; the blank lines above them stay where they are."""
    body = list(block.body)
    above, below = body[first], body[first + 1]
    assert isinstance(above, cst.SimpleStatementLine)
    assert isinstance(below, cst.SimpleStatementLine)
    body[first] = below.with_changes(leading_lines=above.leading_lines)
    body[first + 1] = above.with_changes(leading_lines=below.leading_lines)
    return block.with_changes(body=body)


def uncommented(*lines: cst.CSTNode) -> bool:
    """Tell whether no comment stands on or above these simple lines, so that none can go wrong."""
    return all(
        isinstance(line, cst.SimpleStatementLine)
        and line.trailing_whitespace.comment is None
        and all(above.comment is None for above in line.leading_lines)
        for line in lines
    )
