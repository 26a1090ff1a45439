"""Bugs that are plainly "this expression becomes that": both sides written as patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import libcst as cst

from halfhour.mutators._pattern import HOLE, Pattern, meaningful_fields, pattern, same, same_all

_OPERATIONS = (
    cst.BinaryOperation,
    cst.UnaryOperation,
    cst.Comparison,
    cst.BooleanOperation,
    cst.Await,
)
_WITH_OPERANDS = (*_OPERATIONS, cst.Attribute, cst.Subscript, cst.Call)
_COMPOUND = (*_OPERATIONS, cst.IfExp, cst.Lambda, cst.NamedExpr, cst.Yield)

Holes = Mapping[str, cst.BaseExpression]


def rewriter(
    rewrites: Mapping[str, str], names: Mapping[str, str]
) -> tuple[tuple[type[cst.CSTNode], ...], Callable[[cst.CSTNode], Iterator[cst.CSTNode]]]:
    """Return the node types and the generator function of `{code with holes: code with holes}`.

    Raises ValueError if a pattern does not parse, a replacement has a hole of its own, or a name
    belongs to no hole.
    """
    if unknown := sorted(set(names) - {h for before in rewrites for h in pattern(before).holes()}):
        raise ValueError(f"no pattern has a hole named {', '.join(unknown)}")
    pairs: list[tuple[Pattern, Pattern]] = []
    for before, after in rewrites.items():
        holes = pattern(before).holes()
        wanted = pattern(before, **{hole: names[hole] for hole in names if hole in holes})
        becomes = pattern(after)
        if unknown := sorted(becomes.holes() - holes):
            raise ValueError(f"{after!r} has a hole that {before!r} lacks: {', '.join(unknown)}")
        pairs.append((wanted, becomes))

    def rewrite(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        for wanted, becomes in pairs:
            if (holes := wanted.match(node)) is not None:
                yield _rewritten(node, wanted.tree, becomes.tree, holes)

    return tuple(dict.fromkeys(type(wanted.tree) for wanted, _ in pairs)), rewrite


def fill(template: Pattern, holes: Holes) -> cst.CSTNode:
    """Return a pattern's tree with its holes filled, in parentheses where the meaning needs it."""
    return _filled(template.tree, holes)


def _rewritten(
    node: cst.CSTNode, before: cst.CSTNode, after: cst.CSTNode, holes: Holes
) -> cst.CSTNode:
    """Change only what differs between the two patterns, and keep the rest as the file has it."""
    if same(before, after):
        return node
    if type(before) is not type(after) or _is_hole(before) or _is_hole(after):
        return _in_the_place_of(node, _filled(after, holes))
    changes: dict[str, object] = {}
    for name in meaningful_fields(before):
        parts = (getattr(node, name), getattr(before, name), getattr(after, name))
        if all(isinstance(part, cst.CSTNode) for part in parts):
            changes[name] = _rewritten(*parts, holes)
        elif not all(_is_sequence(part) for part in parts):
            changes[name] = parts[0] if parts[1] == parts[2] else parts[2]
        elif same_all(parts[1], parts[2]):
            changes[name] = parts[0]
        elif len(parts[1]) == len(parts[2]) and not isinstance(node, cst.Call):
            changes[name] = [_rewritten(*part, holes) for part in zip(*parts, strict=True)]
        else:  # arguments may stand in another order than in the pattern
            changes[name] = [_filled(part, holes) for part in parts[2]]
    return _safe(node.with_changes(**changes))


def _filled(tree: cst.CSTNode, holes: Holes) -> cst.CSTNode:
    """Return a pattern's tree with its holes filled."""
    if isinstance(tree, cst.Name) and _is_hole(tree):
        return holes[tree.value.removeprefix(HOLE)]
    changes: dict[str, object] = {}
    for name in meaningful_fields(tree):
        value = getattr(tree, name)
        if isinstance(value, cst.CSTNode):
            changes[name] = _filled(value, holes)
        elif _is_sequence(value):
            changes[name] = [_filled(v, holes) if isinstance(v, cst.CSTNode) else v for v in value]
    if isinstance(tree, cst.Arg):
        changes["value"] = _bare(changes["value"])
    return _safe(tree.with_changes(**changes))


def _bare(node: object) -> object:
    """Return an operation without the parentheses that an argument does not need."""
    return node.with_changes(lpar=[], rpar=[]) if isinstance(node, _OPERATIONS) else node


def _in_the_place_of(node: cst.CSTNode, new: cst.CSTNode) -> cst.CSTNode:
    """Give `new` the parentheses, or the spaces around an operator, that `node` has."""
    if isinstance(node, cst.BaseExpression) and isinstance(new, cst.BaseExpression):
        bare = isinstance(new, _COMPOUND) and not new.lpar
        return new.with_changes(lpar=node.lpar, rpar=node.rpar) if bare and node.lpar else new
    spaces = ("whitespace_before", "whitespace_after")
    kept = {name: getattr(node, name) for name in spaces if hasattr(node, name)}
    return new.with_changes(**{name: kept[name] for name in kept if hasattr(new, name)})


def _is_hole(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Name) and node.value.startswith(HOLE)


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _safe(node: cst.CSTNode) -> cst.CSTNode:
    return node if reads_back(node) else _with_grouped_operands(node)


def reads_back(node: cst.CSTNode) -> bool:
    """Tell whether the node's text, parsed again, is the node, or lacks parentheses."""
    if not isinstance(node, _WITH_OPERANDS):
        return True
    text = cst.Module([]).code_for_node(node)
    try:
        return same(cst.parse_expression(f"({text})"), node)
    except cst.ParserSyntaxError:
        return False


def _with_grouped_operands(node: cst.CSTNode) -> cst.CSTNode:
    operands = ("left", "right", "expression", "value", "func", "comparator")
    changes: dict[str, object] = {
        name: grouped(value)
        for name in operands
        if isinstance(value := getattr(node, name, None), cst.BaseExpression)
    }
    if isinstance(node, cst.Comparison):
        changes["comparisons"] = [_with_grouped_operands(target) for target in node.comparisons]
    return node.with_changes(**changes)


def grouped(node: cst.BaseExpression) -> cst.BaseExpression:
    """Return a compound expression in parentheses, anything else as it is."""
    if node.lpar or not isinstance(node, _COMPOUND):
        return node
    return node.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
