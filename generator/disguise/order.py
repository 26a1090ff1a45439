"""Put functions, classes and methods into another order, where nothing depends on it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

import libcst as cst

from .draws import Draws
from .facts import Definition, Facts

Needs = Mapping[str, frozenset[str]]
"""What must be there before a definition is carried out, by its name."""

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def needs_of(facts: Facts, body: Sequence[ast.stmt]) -> Needs:
    """Return what the definitions of a body need at once: directly, and by what that may call."""
    own = {node.name: node for node in body if isinstance(node, _DEFINITIONS)}
    postponed = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in facts.tree.body
    )
    mentioned = {
        name: {other for other in _names(node) if other in own} for name, node in own.items()
    }
    needs: dict[str, frozenset[str]] = {}
    for name, node in own.items():
        waiting = [n for n in _at_once(node, postponed) if n in own and n != name]
        found: set[str] = set()
        while waiting:
            other = waiting.pop()
            if other not in found:
                found.add(other)
                waiting += mentioned[other]
        needs[name] = frozenset(found - {name})
    return needs


def reordered(
    original: Sequence[cst.BaseStatement],
    body: Sequence[cst.BaseStatement],
    needs: Needs,
    *,
    draws: Draws,
    place: str,
) -> list[cst.BaseStatement]:
    """Return the statements with each run of definitions in another order.

    `body` is what became of the statements of the original, one by one.

    A run ends at any other statement, at a heading (a comment with a blank line below it), and at a
    definition that keeps its place: one that starts with two underscores or is defined twice.
    """
    names = [_name(statement) for statement in original]
    result = list(body)
    for run in _runs(body, names):
        waiting = sorted(run, key=lambda i: draws.number("order", place, names[i]))
        order = _after_their_needs(waiting, names, needs)
        split = {i: _split(body[i]) for i in run}
        for slot, old in zip(run, order, strict=True):
            lines = [*split[slot][0], *split[old][1]]
            result[slot] = body[old].with_changes(leading_lines=lines)
    return result


def _runs(body: Sequence[cst.BaseStatement], names: Sequence[str]) -> list[list[int]]:
    """Return the stretches of definitions that may change places among themselves."""
    runs: list[list[int]] = [[]]
    for i, name in enumerate(names):
        fixed = not name or name.startswith("__") or names.count(name) > 1
        if fixed or _heading(body[i]):
            runs.append([])
        if not fixed:
            runs[-1].append(i)
    return runs


def _after_their_needs(waiting: list[int], names: Sequence[str], needs: Needs) -> list[int]:
    """Return the definitions in the order in which they wait, but none before what it needs.

    Where two seem to need each other, all stay as they are.
    """
    inside = {names[i] for i in waiting}
    order: list[int] = []
    while len(order) < len(waiting):
        done = {names[i] for i in order}
        ready = (i for i in waiting if i not in order and needs[names[i]] & inside <= done)
        following = next(ready, None)
        if following is None:
            return sorted(waiting)
        order.append(following)
    return order


def _name(statement: cst.BaseStatement) -> str:
    if isinstance(statement, cst.FunctionDef | cst.ClassDef):
        return statement.name.value
    return ""


def _split(statement: cst.BaseStatement) -> tuple[list[cst.EmptyLine], list[cst.EmptyLine]]:
    """Return the lines above a definition: what belongs to the place, and its own comment."""
    assert isinstance(statement, cst.FunctionDef | cst.ClassDef)
    lines = list(statement.leading_lines)
    own = len(lines)
    while own and lines[own - 1].comment is not None:
        own -= 1
    return lines[:own], lines[own:]


def _heading(statement: cst.BaseStatement) -> bool:
    return any(line.comment is not None for line in _split(statement)[0])


def _at_once(node: Definition, postponed: bool) -> list[str]:
    """Return the names that are read when a definition is carried out, not when it is called."""
    names = [name for part in node.decorator_list for name in _names(part)]
    if isinstance(node, ast.ClassDef):
        for base in [*node.bases, *(keyword.value for keyword in node.keywords)]:
            names += _names(base)
        for statement in node.body:
            if isinstance(statement, _DEFINITIONS):
                names += _at_once(statement, postponed)
            else:
                names += _names(statement)
        return names
    for default in [*node.args.defaults, *node.args.kw_defaults]:
        names += _names(default) if default is not None else []
    if not postponed:
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg) and argument.annotation is not None:
                names += _names(argument.annotation)
        names += _names(node.returns) if node.returns is not None else []
    return names


def _names(node: ast.AST) -> list[str]:
    found = []
    for inner in ast.walk(node):
        match inner:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.append(name)
    return found
