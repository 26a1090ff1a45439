"""Code with holes: `pattern("$q - $k < $window")` matches by structure, whatever the formatting.

A hole stands for any expression or name; the same hole twice stands for the same code twice.
Spaces, parentheses and trailing commas do not count, keyword arguments match in any order.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

import libcst as cst

HOLE = "_hole_"
Admit = Callable[[str, cst.BaseExpression], bool]
_LAYOUT = {"lpar", "rpar", "lbracket", "rbracket", "lbrace", "rbrace", "comma", "semicolon"}
_LAYOUT |= {"equal", "leading_lines", "header", "footer", "first_colon", "second_colon"}


def pattern(code: str, /, **names: str) -> Pattern:
    """Return the pattern of an expression or of a simple statement such as `$a = $b`.

    `names` holds, for a hole, a regular expression that its word (`name_of`) must match in full:
    `pattern("$q - $k < $w", w="window|span")` matches `q - k < self.window`.
    Raises ValueError if the code does not parse or a name belongs to no hole.
    """
    text = re.sub(r"\$(\w+)", rf"{HOLE}\1", code)
    try:
        statement = cst.parse_statement(text)
    except cst.ParserSyntaxError as error:
        raise ValueError(f"{code!r} is not Python") from error
    if not isinstance(statement, cst.SimpleStatementLine) or len(statement.body) != 1:
        raise ValueError(f"{code!r} is not one simple statement")
    small = statement.body[0]
    tree = small.value if isinstance(small, cst.Expr) else small
    found = Pattern(tree, {hole: re.compile(regex) for hole, regex in names.items()})
    if unknown := sorted(set(names) - found.holes()):
        raise ValueError(f"{code!r} has no hole named {', '.join(unknown)}")
    return found


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """A tree with holes; made by `pattern`."""

    tree: cst.CSTNode
    names: Mapping[str, re.Pattern[str]]

    def match(self, node: cst.CSTNode) -> dict[str, cst.BaseExpression] | None:
        """Return what stands in each hole; None if the node is something else."""
        found: dict[str, cst.BaseExpression] = {}

        def admit(hole: str, there: cst.BaseExpression) -> bool:
            if hole in found:
                return same(found[hole], there)
            found[hole] = there
            wanted = self.names.get(hole)
            return wanted is None or wanted.fullmatch(name_of(there)) is not None

        return found if _matches(self.tree, node, admit) else None

    def holes(self) -> set[str]:
        """Return the names of the holes."""
        return set(_holes_in(self.tree))


def same(left: cst.CSTNode, right: cst.CSTNode) -> bool:
    """Tell whether two nodes are the same code, formatting aside."""
    return _matches(left, right, None)


def same_all(left: Sequence[cst.CSTNode], right: Sequence[cst.CSTNode]) -> bool:
    """Tell whether two lists of nodes are the same code, item by item."""
    return len(left) == len(right) and all(map(same, left, right))


def _matches(template: object, node: object, admit: Admit | None) -> bool:
    """Compare structure; `admit` is asked what may stand in a hole, None means no holes."""
    if admit is not None and isinstance(template, cst.Name) and template.value.startswith(HOLE):
        hole = template.value.removeprefix(HOLE)
        return isinstance(node, cst.BaseExpression) and admit(hole, node)
    if isinstance(template, Sequence) and not isinstance(template, str):
        return isinstance(node, Sequence) and _all_match(template, node, admit)
    if not isinstance(template, cst.CSTNode) or not isinstance(node, cst.CSTNode):
        return template == node
    return type(template) is type(node) and all(
        _matches(getattr(template, name), getattr(node, name), admit)
        for name in meaningful_fields(template)
    )


def _all_match(templates: Sequence[object], nodes: Sequence[object], admit: Admit | None) -> bool:
    if len(templates) != len(nodes):
        return False
    pairs = zip(sorted(templates, key=_keyword), sorted(nodes, key=_keyword), strict=True)
    return all(_matches(template, node, admit) for template, node in pairs)


def name_of(node: cst.CSTNode) -> str:
    """Return the word a reader would use: `window` for `self.window` and `window[:, None]`.

    A call is named for what it calls (`cumsum` for `probs.cumsum(-1)`); "" where there is no word.
    """
    match node:
        case cst.Name(value=name) | cst.Attribute(attr=cst.Name(value=name)):
            return name
        case cst.Subscript(value=below) | cst.Call(func=below):
            return name_of(below)
    return ""


def _holes_in(tree: cst.CSTNode) -> Iterator[str]:
    if isinstance(tree, cst.Name) and tree.value.startswith(HOLE):
        yield tree.value.removeprefix(HOLE)
    for child in tree.children:
        yield from _holes_in(child)


def meaningful_fields(node: cst.CSTNode) -> Iterator[str]:
    for field in dataclasses.fields(node):
        if field.name not in _LAYOUT and not field.name.startswith("whitespace"):
            yield field.name


def _keyword(node: object) -> str:
    return node.keyword.value if isinstance(node, cst.Arg) and node.keyword else ""
