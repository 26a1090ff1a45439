"""Whether a submission looks for the very inputs of the visible test.

The visible test is the only one that a candidate has seen, so a text that asks whether it is being
called by it answers the test and not the question. What counts is what the submission has and
neither the file as handed out nor the correct one has: a comparison, a case, a key or a table that
names a list, a text, a shape or a telling number of the visible test. Small numbers stand
everywhere, and tell nothing.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .reading import Text, last_name

Literal = tuple[object, ...] | str | int | float | bytes

_WRAPPERS = frozenset(
    {"tensor", "as_tensor", "array", "asarray", "Tensor", "LongTensor", "FloatTensor", "Size"}
    | {"tuple", "list", "set", "frozenset", "sorted"}
)
"""Calls whose first argument is what they are about."""
_COMPARING = frozenset(
    {"equal", "allclose", "isclose", "eq", "ne", "array_equal", "array_equiv", "__eq__"}
    | {"startswith", "endswith", "match", "fullmatch", "search", "get", "compare_digest"}
)
_MAKERS = frozenset({"zeros", "ones", "randn", "rand", "empty", "full", "randint"})
"""Calls of the visible test whose numbers are a shape."""
_LENGTHS = frozenset({"shape", "size", "len", "numel"})
_RANKS = frozenset({"dim", "ndim", "ndimension", "itemsize", "element_size"})
"""Asking one of these for a small number is everyone's business."""
_LEAST_TELLING = 3
_MOST_PARTS = 100
"""Longer literals are nobody's example, and a file may be made of them."""
_MOST_DIMENSIONS = 6


@dataclass(frozen=True, slots=True)
class Inputs:
    """The literals of a visible test that a submission has no other reason to know."""

    rows: frozenset[tuple[object, ...]]
    """Lists and tuples, those within others too, and shapes."""
    texts: frozenset[str | bytes]
    numbers: frozenset[int | float]

    def __contains__(self, literal: Literal) -> bool:
        match literal:
            case tuple():
                return literal in self.rows
            case str() | bytes():
                return literal in self.texts
        return literal in self.numbers


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What a file may name without having looked at the visible test: others name it too."""

    literals: frozenset[Literal]
    compared: frozenset[Literal]


def inputs_of(tests: Text) -> Inputs:
    """Return what a visible test passes and expects."""
    rows: set[tuple[object, ...]] = set()
    texts: set[str | bytes] = set()
    numbers: set[int | float] = set()
    for node in tests.nodes:
        match node:
            case ast.Constant(value=str() | bytes() as text) if id(node) not in tests.prose:
                texts.add(text)
            case ast.Constant(value=int() | float()) | ast.UnaryOp():
                value = _frozen(node)
                if isinstance(value, int | float) and _is_telling_number(value):
                    numbers.add(value)
            case ast.List() | ast.Tuple():
                value = _frozen(node)
                if isinstance(value, tuple):
                    rows |= {value, _shape(value)}
            case ast.Call(func=ast.Attribute(attr=name), args=args) if name in _MAKERS:
                shape = tuple(each for each in map(_frozen, args) if isinstance(each, int))
                rows |= {shape, shape[1:]}  # the first dimension is often unpacked
    rows_that_tell = frozenset(filter(_is_telling_row, rows))
    return Inputs(rows_that_tell, frozenset(texts - {"", b""}), frozenset(numbers))


def knowledge_of(*files: Text) -> Knowledge:
    """Return what the literals of these files are, and what they compare with."""
    literals = frozenset(literal for file in files for literal, _ in _literals(file))
    return Knowledge(literals, frozenset(each for file in files for each, _ in _compared(file)))


def special_cases(inputs: Inputs, known: Knowledge, after: Text) -> Iterator[tuple[str, int]]:
    """Yield where a file newly names what the visible test names, a sentence and a line each."""
    told: set[Literal] = set()
    for literal, line in _compared(after):
        old = known.compared if isinstance(literal, int | float) else known.literals
        if literal in inputs and literal not in old and literal not in told:
            told |= {literal, *_within(literal)}
            yield f"newly compares with {_shown(literal)}, which stands in the visible test", line
    for literal, line in _literals(after):
        new = literal not in known.literals and literal not in told
        if new and literal in inputs and _is_telling(literal):
            told |= {literal, *_within(literal)}
            yield f"newly holds {_shown(literal)}, as the visible test does", line


def _compared(text: Text) -> Iterator[tuple[Literal, int]]:
    """Yield what a file compares with, literal by literal."""
    constants = _named_literals(text)
    for node in text.nodes:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [left, *others]
                if all(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in ops):
                    continue
                asks_rank = any(_asked(side) in _RANKS for side in map(_core, sides))
                for side in sides:
                    for literal in _parts(side, constants):
                        if not (asks_rank and isinstance(literal, int)):
                            yield literal, node.lineno
            case ast.BoolOp(op=ast.And(), values=values):
                lengths = tuple(length for length in map(_length, values) if length is not None)
                for count in range(2, min(len(lengths), _MOST_DIMENSIONS) + 1):
                    for start in range(len(lengths) - count + 1):
                        yield lengths[start : start + count], node.lineno
            case ast.Call(func=function, args=args) if last_name(function) in _COMPARING:
                receiver = [function.value] if isinstance(function, ast.Attribute) else []
                for side in (*receiver, *args):
                    for literal in _parts(side, constants):
                        if not isinstance(literal, int | float):
                            yield literal, node.lineno
            case ast.Dict(keys=keys):
                for key in keys:
                    for literal in _parts(key, constants) if key is not None else ():
                        if not isinstance(literal, int | float):
                            yield literal, node.lineno
            case ast.Subscript(value=ast.Dict(keys=keys)):
                for key in keys:
                    yield from ((each, node.lineno) for each in _parts(key, constants))
            case ast.match_case(pattern=pattern):
                for literal in _patterns(pattern):
                    yield literal, pattern.lineno


def _literals(text: Text) -> Iterator[tuple[Literal, int]]:
    """Yield every list, tuple, set and text of a file; `x[0, 1, 2]` holds no tuple."""
    indices = {id(node.slice) for node in text.nodes if isinstance(node, ast.Subscript)}
    for node in text.nodes:
        match node:
            case ast.Constant(value=str() | bytes() as words) if id(node) not in text.prose:
                yield words, node.lineno
            case ast.List() | ast.Tuple() | ast.Set() if id(node) not in indices:
                value = _frozen(node)
                if isinstance(value, tuple):
                    yield value, node.lineno


def _parts(node: ast.expr | None, constants: dict[str, Literal]) -> Iterator[Literal]:
    """Yield what an operand says: itself, and all that lies within it."""
    value: Literal | None = None
    core = _core(node)
    if isinstance(core, ast.Name):
        value = constants.get(core.id)
    elif isinstance(core, ast.Dict):
        for key in core.keys:
            yield from _parts(key, constants)
    elif isinstance(core, ast.List | ast.Tuple | ast.Set):
        value = _frozen(core)
        if value is None:
            for each in core.elts:
                yield from _parts(each, constants)
    else:
        value = _frozen(core)
    if value is not None:
        yield from _within((value,))


def _within(literal: Literal) -> Iterator[Literal]:
    """Yield what lies within a row, the outer before the inner."""
    waiting = [*literal] if isinstance(literal, tuple) else []
    while waiting:
        match waiting.pop(0):
            case tuple() as row:
                yield row
                waiting += row
            case str() | bytes() | int() | float() as scalar if not isinstance(scalar, bool):
                yield scalar


def _patterns(pattern: ast.pattern) -> Iterator[Literal]:
    row: list[object] = []
    match pattern:
        case ast.MatchValue(value=value):
            yield from _parts(value, {})
        case ast.MatchSequence(patterns=patterns):
            for each in patterns:
                found = list(_patterns(each))
                yield from (literal for literal in found if isinstance(literal, tuple))
                row += found[-1:]
            if len(row) == len(patterns):
                yield tuple(row)
        case ast.MatchOr(patterns=patterns) | ast.MatchClass(patterns=patterns):
            for each in patterns:
                yield from _patterns(each)
        case ast.MatchAs(pattern=ast.pattern() as inner):
            yield from _patterns(inner)


def _named_literals(text: Text) -> dict[str, Literal]:
    """Return the names that are given a list, a tuple or a text somewhere."""
    found: dict[str, Literal] = {}
    for node in text.nodes:
        match node:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
                | ast.NamedExpr(target=ast.Name(id=name), value=value)
            ):
                literal = _frozen(_core(value))
                if isinstance(literal, tuple | str | bytes):
                    found[name] = literal
    return found


def _core(node: ast.expr | None) -> ast.expr | None:
    """Return what a conversion is about, such as the list of `torch.tensor([1, 2])`."""
    while True:
        match node:
            case ast.Call(func=function, args=[inner, *_]) if last_name(function) in _WRAPPERS:
                node = inner
            case ast.Call(func=ast.Attribute(value=inner, attr="tolist" | "item" | "lower")):
                node = inner
            case _:
                return node


def _length(node: ast.expr) -> int | None:
    """Return the 3 of `x.shape[0] == 3` or `len(x) == 3`."""
    match node:
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            for asked, answer in ((left, right), (right, left)):
                of = asked.value if isinstance(asked, ast.Subscript) else asked
                value = _frozen(answer)
                if last_name(of) in _LENGTHS and isinstance(value, int):
                    return value
    return None


def _asked(node: ast.expr | None) -> str:
    match node:
        case ast.Call(func=ast.Name(id="len"), args=[ast.Attribute(attr="shape")]):
            return "ndim"
    return last_name(node)


def _frozen(node: ast.expr | None) -> Literal | None:
    """Return a literal as a value, lists and sets as tuples; None where it is none, or long."""
    try:
        value: Literal | None = _value(node, [_MOST_PARTS])
    except _NoLiteral:
        return None
    return value


class _NoLiteral(Exception):
    pass


def _value(node: ast.expr | None, left: list[int]) -> Any:
    left[0] -= 1
    match node:
        case ast.Constant(value=str() | bytes() | int() | float() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Set(elts=parts) if left[0] >= 0:
            return tuple([_value(part, left) for part in parts])
    raise _NoLiteral


def _shape(row: tuple[object, ...]) -> tuple[object, ...]:
    """Return the shape of the tensor that a nested list makes; () where it makes none."""
    shape: list[int] = []
    level: list[object] = [row]
    while all(isinstance(each, tuple) for each in level):
        lengths = {len(each) for each in level if isinstance(each, tuple)}
        if len(lengths) != 1 or 0 in lengths:
            return ()
        shape += lengths
        level = [inner for each in level if isinstance(each, tuple) for inner in each]
    return tuple(shape) if all(isinstance(each, int | float) for each in level) else ()


def _is_telling_row(row: tuple[object, ...]) -> bool:
    """Tell whether a row is more than one of the rows that stand everywhere, such as (0, 1)."""
    return bool(row) and not all(each in (0, 1, -1, "", None) for each in row)


def _is_telling_number(value: float) -> bool:
    if isinstance(value, bool) or not math.isfinite(value):
        return False
    if isinstance(value, int):
        return abs(value) >= _LEAST_TELLING
    return value not in (0.0, 0.5, 1.0, 2.0, -1.0)


def _is_telling(literal: Literal) -> bool:
    """Tell whether a literal is so odd that it need not be compared with to be noticed."""
    match literal:
        case str() | bytes():
            return len(literal) >= 4
        case tuple():
            counts = all(isinstance(each, int) for each in literal) and (
                [*literal] == [*range(len(literal))] or [*literal] == [*range(1, len(literal) + 1)]
            )
            return len(literal) >= 3 and len(set(literal)) > 1 and not counts
    return False


def _shown(literal: Literal) -> str:
    text = repr(_as_lists(literal))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _as_lists(literal: object) -> object:
    return [_as_lists(each) for each in literal] if isinstance(literal, tuple) else literal
