"""How inference code is written: the views of a node that many mutators share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import libcst as cst

from halfhour.mutators._context import Context, walk
from halfhour.mutators._pattern import name_of, same

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
HELD = r"_?(\w+_)?(held|rest|buffer|buf|pending|carry|tail|leftover|remainder|partial|unsent)"
SCALE = r"(\w+_)?(scales?|absmax|step_size)(_\w+)?"
ZERO_POINT = r"(\w+_)?(zeros?|zps?|zero_?points?|qzeros)(_\w+)?"
QUANTIZED = (
    r"\w*([iI]nt[48]|[qQ]uant)\w*|q(_?weights?|max|min)|codes?|absmax|\w*nibbles?|zero_?points?"
)
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


def quantizes(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node stands in code about quantized weights, by the words of it."""
    scope = context.enclosing(node, cst.ClassDef) or context.enclosing(node, cst.FunctionDef)
    return mentions(scope or context.module, QUANTIZED)


def uncommented(*lines: cst.CSTNode) -> bool:
    """Tell whether no comment stands on or above these simple lines, so that none can go wrong."""
    return all(
        isinstance(line, cst.SimpleStatementLine)
        and line.trailing_whitespace.comment is None
        and all(above.comment is None for above in line.leading_lines)
        for line in lines
    )


def without_optional(call: cst.Call, context: Context, regex: str) -> Iterator[cst.Call]:
    """Yield the call without each argument that it may leave out and whose parameter matches.

    That a parameter has a default is known where the file defines what is called, also where a
    variable holds one of two functions. A keyword of a library's method counts as optional.
    """
    for at, arg in enumerate(call.args):
        name = arg.keyword.value if arg.keyword is not None else name_of(arg.value)
        last = at == len(call.args) - 1
        if arg.star or not (arg.keyword or last) or not re.fullmatch(regex, name):
            continue
        callee = value_of(call.func, context.enclosing(call, cst.FunctionDef))
        options = [callee.body, callee.orelse] if isinstance(callee, cst.IfExp) else [callee]
        names = {name_of(option) for option in options}
        known = [n for n in walk(context.module) if isinstance(n, cst.FunctionDef)]
        known = [n for n in known if n.name.value in names]
        params = [p for f in known for p in (*f.params.params, *f.params.kwonly_params)]
        params = [p for p in params if re.fullmatch(regex, p.name.value)]
        if arg.keyword is not None:
            params = [p for p in params if p.name.value == name]
        of_library = not known and arg.keyword is not None and isinstance(callee, cst.Attribute)
        optional = len(known) == len(names) and all(p.default is not None for p in params)
        if (of_library or (optional and params)) and context.can_spare(arg.value):
            kept = [*call.args[:at], *call.args[at + 1 :]]
            if last and kept:
                kept[-1] = kept[-1].with_changes(
                    comma=arg.comma, whitespace_after_arg=arg.whitespace_after_arg
                )
            yield call.with_changes(args=kept)


def returned_at_once(lines: Sequence[cst.BaseStatement]) -> list[cst.BaseStatement]:
    """Write `return value` for `x = value` with `return x` at the end, as a linter wants it."""
    found = assigned(lines[-2]) if len(lines) > 1 else None
    match lines[-1]:
        case cst.SimpleStatementLine(body=[cst.Return(cst.Name() as name)]):
            if found is not None and same(found[0], name):
                return [*lines[:-2], lines[-2].with_changes(body=[cst.Return(found[1])])]
    return list(lines)
