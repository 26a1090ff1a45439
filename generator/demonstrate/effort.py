"""Counts the work of a file while it runs, so that what hangs is found alike on every machine.

Counted are the turns of its loops and the calls of its functions: what never ends has endless many
of one or the other. No clock is asked.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from typing import TypeAlias

from ..screen.subject import load

MOST_TURNS = 20_000
"""Of one run; the longest that any subject's promises ask for is a tenth of that."""

_COUNT = "_halfhour_count"
_Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_Loop: TypeAlias = ast.For | ast.AsyncFor | ast.While


class Hangs(BaseException):
    """A run did more work than any that ends; no file's `except Exception` holds it up."""


class Effort:
    """What all files of one comparison count on."""

    def __init__(self) -> None:
        self.turns = 0
        """In the run under way, or the last one."""

    def loader(self, name: str, source: str) -> Callable[[], types.ModuleType]:
        """Return what executes a text anew as a module of that name that counts here."""
        tree = _Counting().visit(ast.parse(source))
        code = compile(ast.fix_missing_locations(tree), f"{name}.py", "exec", dont_inherit=True)
        return lambda: load(name, code, {_COUNT: self._count})

    def begin(self) -> None:
        """Count from zero: what the files do from now on raises Hangs once it is too much."""
        self.turns = 0

    def _count(self) -> bool:
        self.turns += 1
        if self.turns > MOST_TURNS:
            raise Hangs
        return True


class _Counting(ast.NodeTransformer):
    """Puts a call before all else in every loop and function; no line gets another number."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self._function(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        return self._loop(node)

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        return self._loop(node)

    def visit_While(self, node: ast.While) -> ast.AST:
        return self._loop(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.ifs.insert(0, _call_at(node.target))
        return node

    def _function(self, node: _Function) -> ast.AST:
        self.generic_visit(node)
        after_docstring = 0 if ast.get_docstring(node, clean=False) is None else 1
        _count_in(node.body, after_docstring)
        return node

    def _loop(self, node: _Loop) -> ast.AST:
        self.generic_visit(node)
        _count_in(node.body, 0)
        return node


def _count_in(body: list[ast.stmt], at: int) -> None:
    place = body[min(at, len(body) - 1)]
    body.insert(at, ast.copy_location(ast.Expr(_call_at(place)), place))


def _call_at(place: ast.AST) -> ast.expr:
    name = ast.Name(_COUNT, ast.Load())
    return ast.copy_location(ast.Call(name, [], []), place)
