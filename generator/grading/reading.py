"""Read other people's Python without ever running it."""

from __future__ import annotations

import ast
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeGuard


@dataclass(frozen=True, slots=True)
class Text:
    """A file, read once."""

    tree: ast.Module
    nodes: tuple[ast.AST, ...]
    """All of the tree."""
    prose: frozenset[int]
    """`id` of each text among the nodes that stands alone, as a docstring does."""


def read(source: str) -> Text | None:
    """Return what a text says, None where it is no Python or nested beyond all reason."""
    tree = _parsed(source)
    if tree is None:
        return None
    nodes = tuple(ast.walk(tree))
    prose = frozenset(id(node.value) for node in nodes if _is_prose(node))
    return Text(tree, nodes, prose)


@lru_cache(maxsize=32)
def bare(source: str) -> str:
    """Return a text without comments, docstrings and layout; as it is where that fails."""
    tree = _parsed(source)
    try:
        return source if tree is None else f"{ast.unparse(_WithoutProse().visit(tree))}\n"
    except (ValueError, RecursionError, MemoryError):
        return source


def text_of(node: ast.AST | None) -> str:
    """Return an expression as text, "" for none and "…" where it cannot be written."""
    if node is None:
        return ""
    try:
        return ast.unparse(node)
    except (ValueError, RecursionError, MemoryError):
        return "…"


def last_name(node: ast.AST | None) -> str:
    """Return the `d` of `a.b.c.d`, and of a call of it; "" for what has no name."""
    while isinstance(node, ast.Call):
        node = node.func
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _parsed(source: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape is its author's affair
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_prose(node: ast.AST) -> TypeGuard[ast.Expr]:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class _WithoutProse(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.Pass() if _is_prose(node) else node
