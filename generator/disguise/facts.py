"""What is known of a file before it is rewritten: which names may change, read with `ast`."""

from __future__ import annotations

import ast
import builtins
import io
import keyword
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SPIES = {"locals", "vars", "eval", "exec", "globals", "dir"}
RESERVED = frozenset(dir(builtins)) | frozenset(keyword.kwlist) | frozenset(keyword.softkwlist)


@dataclass(frozen=True, slots=True)
class Scope:
    """A function at the top of a module or of a class, with all that is nested in it."""

    path: str
    """`function` or `Class.function`."""
    node: Function
    text: str
    remarks: str
    """Its docstrings and comments, and the comments right above it."""


@dataclass(frozen=True)
class Facts:
    """One file, read once."""

    text: str
    tree: ast.Module = field(repr=False)

    @classmethod
    def of(cls, text: str) -> Facts:
        """Read a text. Raises SyntaxError."""
        return cls(text, ast.parse(text))

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """Return every node of the file."""
        return list(ast.walk(self.tree))

    @cached_property
    def names(self) -> frozenset[str]:
        """Return every name that is bound or read as a variable, defined, or imported."""
        return frozenset(_identifiers(self.nodes))

    @cached_property
    def attributes(self) -> frozenset[str]:
        """Return every name that stands behind a dot."""
        return frozenset(node.attr for node in self.nodes if isinstance(node, ast.Attribute))

    @cached_property
    def keywords(self) -> frozenset[str]:
        """Return every name by which some call passes an argument."""
        return frozenset(
            node.arg for node in self.nodes if isinstance(node, ast.keyword) and node.arg
        )

    @cached_property
    def module_names(self) -> frozenset[str]:
        """Return what is bound at the top of the module, within its `if` and `try`, too."""
        found: set[str] = set()
        waiting: list[ast.AST] = list(self.tree.body)
        while waiting:
            node = waiting.pop()
            found |= set(_bound_by(node))
            if not isinstance(node, (*_FUNCTIONS, ast.ClassDef, ast.Lambda)):
                waiting += ast.iter_child_nodes(node)
        return frozenset(found)

    @cached_property
    def strings(self) -> frozenset[str]:
        """Return the words of all strings that are no docstrings."""
        documentation = {id(node) for node in _documentation(self.nodes)}
        words: set[str] = set()
        for node in self.nodes:
            match node:
                case ast.Constant(value=str() as text) if id(node) not in documentation:
                    words |= set(re.findall(r"\w+", text))
        return frozenset(words)

    @cached_property
    def spelt_out(self) -> frozenset[str]:
        """Return the names that an f-string prints beside their value, as in `{x=}`."""
        return frozenset(re.findall(r"\{\s*([\w.]+)\s*=\s*[!:}]", self.text))

    @cached_property
    def comments(self) -> dict[int, str]:
        """Return the comment on each line that has one, by the line's number."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @cached_property
    def remarks(self) -> str:
        """Return all docstrings and comments."""
        return "\n".join([*_texts(self.nodes), *self.comments.values()])

    @cached_property
    def scopes(self) -> tuple[Scope, ...]:
        """Return the functions of the module and of its classes, in reading order."""
        found: list[Scope] = []
        for node in self.tree.body:
            if isinstance(node, _FUNCTIONS):
                found.append(self._scope(node.name, node))
            elif isinstance(node, ast.ClassDef):
                found += [
                    self._scope(f"{node.name}.{inner.name}", inner)
                    for inner in node.body
                    if isinstance(inner, _FUNCTIONS)
                ]
        return tuple(found)

    @cached_property
    def private_names(self) -> frozenset[str]:
        """Return the private names that the file itself gives to functions and attributes."""
        found: set[str] = set()
        for node in self.nodes:
            match node:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found.add(node.name)
                case ast.Attribute(value=ast.Name(id="self"), ctx=ast.Store()):
                    found.add(node.attr)
        found |= self.module_names
        return frozenset(name for name in found if is_private(name))

    @cached_property
    def imported_names(self) -> frozenset[str]:
        """Return every name that is imported, wherever."""
        return frozenset(
            (alias.asname or alias.name).partition(".")[0]
            for node in self.nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        )

    @cached_property
    def class_names(self) -> frozenset[str]:
        """Return what the bodies of classes bind without `def`: fields, above all."""
        return frozenset(
            name
            for owner in self.nodes
            if isinstance(owner, ast.ClassDef)
            for statement in owner.body
            if not isinstance(statement, _FUNCTIONS)
            for node in ast.walk(statement)
            for name in _bound_by(node)
        )

    @cached_property
    def properties(self) -> frozenset[str]:
        """Return the names of decorated methods: assigning to one may do more than assign."""
        return frozenset(
            node.name for node in self.nodes if isinstance(node, _FUNCTIONS) and node.decorator_list
        )

    def locals_of(self, scope: Scope) -> list[str]:
        """Return the variables of a function that nobody outside it can see, by first mention."""
        nodes = list(ast.walk(scope.node))
        read = {node.id for node in nodes if isinstance(node, ast.Name)}
        if read & _SPIES or any(isinstance(node, ast.ClassDef) for node in nodes):
            return []
        kept = set(_seen_from_outside(scope.node, nodes)) | self.module_names | RESERVED
        kept |= self.spelt_out | self.imported_names | {"self", "cls"}
        bound: dict[str, tuple[int, int]] = {}
        for node in nodes:
            for name in _bound_by(node):
                if isinstance(node, ast.arg) and name in self.keywords | self.strings:
                    kept.add(name)
                if node is not scope.node:
                    at = (getattr(node, "lineno", 0), getattr(node, "col_offset", 0))
                    bound[name] = min(at, bound.get(name, at))
        return sorted((n for n in bound if n not in kept and n.strip("_")), key=bound.__getitem__)

    def _scope(self, path: str, node: Function) -> Scope:
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        last = node.end_lineno or first
        lines = self.text.split("\n")
        above = first - 1
        while above > 0 and (not lines[above - 1].strip() or above in self.comments):
            above -= 1
        comments = [self.comments[n] for n in range(above + 1, last + 1) if n in self.comments]
        return Scope(
            path=path,
            node=node,
            text="\n".join(lines[first - 1 : last]),
            remarks="\n".join([*_texts(list(ast.walk(node))), *comments]),
        )


def is_private(name: str) -> bool:
    """Say whether a name has one underscore in front."""
    return name.startswith("_") and not name.startswith("__") and bool(name.strip("_"))


def _identifiers(nodes: list[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        yield from _bound_by(node)


def _bound_by(node: ast.AST) -> Iterator[str]:
    """Yield the names that a node itself binds."""
    match node:
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) | ast.arg(arg=name):
            yield name
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.ExceptHandler(name=str() as name) | ast.MatchAs(name=str() as name):
            yield name
        case ast.MatchStar(name=str() as name) | ast.MatchMapping(rest=str() as name):
            yield name
        case ast.alias():
            yield (node.asname or node.name).partition(".")[0]


def _seen_from_outside(function: Function, nodes: list[ast.AST]) -> Iterator[str]:
    """Yield the names of a function that mean something to others, or that are hard to follow."""
    outer = [*function.decorator_list, *function.args.defaults, *function.args.kw_defaults]
    outer += [arg.annotation for arg in _arguments(function)]
    for part in [*outer, function.returns]:
        if part is not None:
            yield from _identifiers(list(ast.walk(part)))
    if not is_private(function.name):
        yield from (arg.arg for arg in _arguments(function))
    for node in nodes:
        match node:
            case ast.Global() | ast.Nonlocal():
                yield from node.names
            case ast.MatchAs() | ast.MatchStar() | ast.MatchMapping() | ast.Import():
                yield from _bound_by(node)


def _arguments(function: Function) -> list[ast.arg]:
    given = function.args
    extra = [arg for arg in (given.vararg, given.kwarg) if arg is not None]
    return [*given.posonlyargs, *given.args, *given.kwonlyargs, *extra]


def _documentation(nodes: list[ast.AST]) -> Iterator[ast.Constant]:
    """Yield the strings that stand as statements of their own."""
    for node in nodes:
        match node:
            case ast.Expr(value=ast.Constant(value=str()) as text):
                yield text


def _texts(nodes: list[ast.AST]) -> list[str]:
    return [str(node.value) for node in _documentation(nodes)]
