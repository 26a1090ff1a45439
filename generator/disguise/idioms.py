"""Expressions and statements that mean exactly the same: value, dtype, device, aliasing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import libcst as cst

from .place import Place, walk

_SPACE = cst.SimpleWhitespace(" ")
_BOTH_WAYS = {"softmax", "log_softmax", "logsumexp", "cumsum", "argmax", "amax", "amin", "sum"}
"""Operations that `torch` offers as a function and as a method, with `dim` first."""
_SHAPED_FUNCTIONS = {"zeros", "ones", "empty", "rand"}
_SHAPED_METHODS = {"new_zeros", "new_ones", "new_empty"}
"""What takes a shape as one argument or as several."""
_DTYPES = {"long": "int64", "int64": "long", "float": "float32", "int": "int32"}
_MIRRORED: dict[type[cst.BaseCompOp], Callable[..., cst.BaseCompOp]] = {
    cst.LessThan: cst.GreaterThan,
    cst.GreaterThan: cst.LessThan,
    cst.LessThanEqual: cst.GreaterThanEqual,
    cst.GreaterThanEqual: cst.LessThanEqual,
}
_INVERTED: dict[type[cst.BaseCompOp], type[cst.BaseCompOp]] = {
    cst.Is: cst.IsNot,
    cst.IsNot: cst.Is,
    cst.In: cst.NotIn,
    cst.NotIn: cst.In,
}


def call(node: cst.Call, place: Place) -> cst.BaseExpression:
    """Rewrite a call."""
    if not place.only_torch:
        return node
    match node.func:
        case cst.Attribute(value=owner, attr=cst.Name(value=name)):
            pass
        case _:
            return node
    of_torch = isinstance(owner, cst.Name) and owner.value == "torch"
    if name in _BOTH_WAYS:
        return _both_ways(node, owner, name, place)
    if of_torch and name in ("cat", "stack"):
        return _tuple_or_list(node, place)
    shaped = name in _SHAPED_FUNCTIONS if of_torch else name in _SHAPED_METHODS
    if shaped and not (place.is_module(owner) and not of_torch):
        return _shape(node, name, place)
    if name == "transpose" and not place.is_module(owner):
        return _transpose(node, place)
    return node


def _both_ways(
    node: cst.Call, owner: cst.BaseExpression, name: str, place: Place
) -> cst.BaseExpression:
    """Exchange `x.softmax(dim=-1)` and `torch.softmax(x, dim=-1)`."""
    by_dim = any(arg.keyword is not None and arg.keyword.value == "dim" for arg in node.args)
    if not by_dim or place.has_comment(node) or any(arg.star for arg in node.args):
        return node
    if isinstance(owner, cst.Name) and owner.value == "torch":
        if not place.style(40, "methods") or node.args[0].keyword is not None:
            return node
        tensor = node.args[0].value
        if not isinstance(tensor, cst.Name | cst.Attribute | cst.Call | cst.Subscript):
            return node
        return node.with_changes(
            func=cst.Attribute(value=tensor, attr=cst.Name(name)), args=node.args[1:]
        )
    defined = name in place.facts.names
    if place.is_module(owner) or defined or node.args[0].keyword is None:
        return node
    if not place.style(30, "functions") or place.style(40, "methods"):
        return node
    first = cst.Arg(owner, comma=cst.Comma(whitespace_after=_SPACE))
    function = cst.Attribute(value=cst.Name("torch"), attr=cst.Name(name))
    return node.with_changes(func=function, args=[first, *node.args])


def _tuple_or_list(node: cst.Call, place: Place) -> cst.Call:
    """Exchange `torch.cat((a, b))` and `torch.cat([a, b])`."""
    if not node.args or node.args[0].keyword is not None or not place.style(50, "sequences"):
        return node
    match node.args[0].value:
        case cst.Tuple(elements=[_, _, *_] as elements, lpar=[_]) as pair:
            bracket = cst.LeftSquareBracket(pair.lpar[0].whitespace_after)
            end = cst.RightSquareBracket(pair.rpar[0].whitespace_before)
            sequence: cst.BaseExpression = cst.List(elements, lbracket=bracket, rbracket=end)
        case cst.List(elements=[_, _, *_] as elements, lpar=[]) as items:
            sequence = cst.Tuple(
                elements,
                lpar=[cst.LeftParen(items.lbracket.whitespace_after)],
                rpar=[cst.RightParen(items.rbracket.whitespace_before)],
            )
        case _:
            return node
    return node.with_changes(args=[node.args[0].with_changes(value=sequence), *node.args[1:]])


def _shape(node: cst.Call, name: str, place: Place) -> cst.Call:
    """Exchange `torch.zeros(n, m)` and `torch.zeros((n, m))`."""
    if not place.style(45, f"shape of {name}") or place.has_comment(node):
        return node
    sizes = [arg for arg in node.args if arg.keyword is None and arg.star != "**"]
    rest = list(node.args[len(sizes) :])
    if list(node.args[: len(sizes)]) != sizes:
        return node
    if len(sizes) == 1 and not sizes[0].star:
        match sizes[0].value:
            case cst.Tuple(elements=[_, _, *_] as elements):
                args = [_as_argument(element) for element in elements]
                comma = cst.Comma(whitespace_after=_SPACE) if rest else cst.MaybeSentinel.DEFAULT
                return node.with_changes(
                    args=[*args[:-1], args[-1].with_changes(comma=comma), *rest]
                )
        return node
    if len(sizes) < 2:
        return node
    elements = [_as_element(arg) for arg in sizes]
    elements[-1] = elements[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
    shape = cst.Tuple(elements)
    comma = cst.Comma(whitespace_after=_SPACE) if rest else cst.MaybeSentinel.DEFAULT
    return node.with_changes(args=[cst.Arg(shape, comma=comma), *rest])


def _as_element(arg: cst.Arg) -> cst.Element | cst.StarredElement:
    if arg.star:
        return cst.StarredElement(arg.value, comma=arg.comma)
    return cst.Element(arg.value, comma=arg.comma)


def _as_argument(element: cst.BaseElement) -> cst.Arg:
    comma = getattr(element, "comma", cst.MaybeSentinel.DEFAULT)
    if isinstance(element, cst.StarredElement):
        return cst.Arg(element.value, star="*", comma=comma)
    return cst.Arg(element.value, comma=comma)


def _transpose(node: cst.Call, place: Place) -> cst.Call:
    """Exchange `x.transpose(1, 2)` and `x.transpose(2, 1)`."""
    if len(node.args) != 2 or any(arg.keyword or arg.star for arg in node.args):
        return node
    if not place.style(50, "transpose"):
        return node
    first, second = node.args
    return node.with_changes(
        args=[first.with_changes(value=second.value), second.with_changes(value=first.value)]
    )


def attribute(node: cst.Attribute, place: Place) -> cst.Attribute:
    """Exchange `torch.long` and `torch.int64`, which are the same object."""
    match node:
        case cst.Attribute(value=cst.Name(value="torch"), attr=cst.Name(value=name)):
            if name in _DTYPES and place.style(50, f"dtype {name}"):
                return node.with_changes(attr=cst.Name(_DTYPES[name]))
    return node


def subscript(node: cst.Subscript, place: Place, *, is_target: bool) -> cst.BaseExpression:
    """Exchange `x[:, None]` for `x.unsqueeze(1)`; a subscript that is assigned to stays."""
    if is_target or not place.only_torch or not isinstance(node.value, cst.Name | cst.Attribute):
        return node
    axis: int | None = None
    for i, element in enumerate(node.slice):
        match element.slice:
            case cst.Index(value=cst.Name(value="None"), star=None) if axis is None:
                axis = i
            case cst.Slice(lower=None, upper=None, step=None):
                pass
            case cst.Index(value=cst.Ellipsis()) if i == 0 and len(node.slice) == 2:
                pass
            case _:
                return node
    if axis is None or len(node.slice) < 2 or place.has_comment(node):
        return node
    match node.slice[0].slice:
        case cst.Index(value=cst.Ellipsis()):
            axis = -1
    if not place.style(35, "unsqueeze"):
        return node
    number: cst.BaseExpression = cst.Integer(str(abs(axis)))
    if axis < 0:
        number = cst.UnaryOperation(cst.Minus(), number)
    function = cst.Attribute(value=node.value, attr=cst.Name("unsqueeze"))
    return cst.Call(function, [cst.Arg(number)], lpar=node.lpar, rpar=node.rpar)


def comparison(node: cst.Comparison, place: Place) -> cst.Comparison:
    """Exchange `a < b` and `b > a`, where neither is a constant and neither does anything."""
    if len(node.comparisons) != 1 or place.facts.names & {"__lt__", "__gt__", "__le__", "__ge__"}:
        return node
    target = node.comparisons[0]
    mirrored = _MIRRORED.get(type(target.operator))
    left, right = node.left, target.comparator
    if mirrored is None or not (_is_quiet(left) and _is_quiet(right)):
        return node
    if _is_constant(left) or _is_constant(right) or place.has_comment(node):
        return node
    if not place.happens(30, "comparison"):
        return node
    operator = target.operator
    turned = mirrored(
        whitespace_before=getattr(operator, "whitespace_before", _SPACE),
        whitespace_after=getattr(operator, "whitespace_after", _SPACE),
    )
    return node.with_changes(
        left=right, comparisons=[target.with_changes(operator=turned, comparator=left)]
    )


def _is_quiet(node: cst.BaseExpression) -> bool:
    """Say whether it makes no difference when an expression is computed."""
    for inner in walk(node):
        match inner:
            case cst.Call(func=cst.Name(value="len" | "int" | "abs" | "float")):
                pass
            case cst.Call() | cst.Await() | cst.Yield() | cst.NamedExpr() | cst.Lambda():
                return False
    return True


def _is_constant(node: cst.BaseExpression) -> bool:
    """Say whether a linter takes it for a constant, which belongs on the right."""
    names = [inner.value for inner in walk(node) if isinstance(inner, cst.Name)]
    return not any(re.search("[a-z]", name) for name in names) or (
        isinstance(node, cst.Attribute) and node.attr.value.isupper()
    )


def conditional(node: cst.IfExp, place: Place) -> cst.IfExp:
    """Exchange `a if x is None else b` and `b if x is not None else a`."""
    test = _inverted(node.test)
    loose = isinstance(node.orelse, cst.IfExp | cst.Lambda) and not node.orelse.lpar
    if test is None or loose or place.has_comment(node) or not place.happens(50, "conditional"):
        return node
    return node.with_changes(test=test, body=node.orelse, orelse=node.body)


def branches(node: cst.If, place: Place) -> cst.If:
    """Exchange the branches of an `if` that has two, none of which ends the block."""
    test = _inverted(node.test)
    if test is None or not isinstance(node.orelse, cst.Else):
        return node
    blocks = (node.body, node.orelse.body)
    if any(line.comment for line in node.orelse.leading_lines) or any(map(_leaves, blocks)):
        return node
    if not place.happens(50, "branches"):
        return node
    return node.with_changes(
        test=test, body=blocks[1], orelse=node.orelse.with_changes(body=blocks[0])
    )


def _leaves(block: cst.BaseSuite) -> bool:
    """Say whether a block ends with a statement after which no `else` is needed."""
    match block.body[-1] if block.body else None:
        case cst.SimpleStatementLine(body=[*_, last]):
            return isinstance(last, cst.Return | cst.Raise | cst.Continue | cst.Break)
        case cst.SimpleStatementLine():
            return False
    return True


def _inverted(test: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return the opposite of a test, where it is a plain one."""
    match test:
        case cst.UnaryOperation(operator=cst.Not(), expression=inner, lpar=[]):
            return inner
        case cst.Comparison(comparisons=[target]):
            opposite = _INVERTED.get(type(target.operator))
            if opposite is not None:
                return test.with_changes(comparisons=[target.with_changes(operator=opposite())])
    return None


def addition(node: cst.AugAssign, place: Place) -> cst.AugAssign | cst.Assign:
    """Write `n += 1` as `n = n + 1`, where n is an integer of the function's own."""
    operators = {cst.AddAssign: cst.Add, cst.SubtractAssign: cst.Subtract}
    operator = operators.get(type(node.operator))
    if operator is None or not isinstance(node.target, cst.Name):
        return node
    simple = isinstance(node.value, cst.Integer | cst.Name | cst.Call)
    if not simple or not place.happens(40, "addition"):
        return node
    total = cst.BinaryOperation(node.target, operator(), node.value)
    return cst.Assign([cst.AssignTarget(node.target)], total, semicolon=node.semicolon)


def neighbours(node: cst.IndentedBlock, place: Place) -> cst.IndentedBlock:
    """Exchange neighbouring assignments that have nothing to do with each other."""
    body = list(node.body)
    changed = False
    i = 0
    while i + 1 < len(body):
        above, below = body[i], body[i + 1]
        if _independent(above, below, place) and place.happens(50, "neighbours"):
            body[i] = below.with_changes(leading_lines=above.leading_lines)  # type: ignore[attr-defined]
            body[i + 1] = above.with_changes(leading_lines=below.leading_lines)  # type: ignore[attr-defined]
            changed = True
            i += 1
        i += 1
    return node.with_changes(body=body) if changed else node


def _independent(above: cst.BaseStatement, below: cst.BaseStatement, place: Place) -> bool:
    first, second = _simple(above, place), _simple(below, place)
    if first is None or second is None:
        return False
    assert isinstance(below, cst.SimpleStatementLine)
    if below.leading_lines:
        return False
    (target, read), (other_target, other_read) = first, second
    return target != other_target and target not in other_read and other_target not in read


def _simple(statement: cst.BaseStatement, place: Place) -> tuple[str, frozenset[str]] | None:
    """Return what a plain assignment binds and which words it reads; None for anything else."""
    match statement:
        case cst.SimpleStatementLine(
            body=[cst.Assign(targets=[cst.AssignTarget(target=target)], value=value)]
        ):
            pass
        case cst.SimpleStatementLine(body=[cst.AnnAssign(target=target, value=value)]) if value:
            pass
        case _:
            return None
    if statement.trailing_whitespace.comment or any(x.comment for x in statement.leading_lines):
        return None
    match target:
        case cst.Name(value=name):
            pass
        case cst.Attribute(value=cst.Name(value="self"), attr=cst.Name(value=name)):
            if not place.plain_owner or name in place.facts.properties:
                return None
        case _:
            return None
    inert = (cst.Name, cst.Attribute, cst.Integer, cst.Float, cst.SimpleString, cst.List, cst.Dict)
    if not isinstance(value, inert):
        return None
    if isinstance(value, cst.List | cst.Dict) and value.elements:
        return None
    words: Sequence[cst.CSTNode] = list(walk(value))
    return name, frozenset(word.value for word in words if isinstance(word, cst.Name))
