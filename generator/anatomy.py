"""What can be said of a file by reading it with `ast`: its functions, who calls whom, its names.

Calls are found by name and by the types that are written down, so that a call through what nobody
annotated may be missed, and a method of a common name is only followed where its class is known.
"""

from __future__ import annotations

import ast
import builtins
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

_CALLABLE = ("forward", "__call__")
"""What runs where an object is called."""
_MADE = ("__init__", "__post_init__")
"""What runs where an object is made."""
_COMMON = frozenset(
    name for kind in (list, dict, set, str, bytes, tuple, int) for name in dir(kind)
) | {"sum", "mean", "max", "min", "size", "to", "float", "run", "step", "forward", "logits"}
"""Methods that other types have too: followed only where the class is known."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a module or a method of a class; what is nested belongs to it."""

    name: str
    """Dotted, such as `Cache.append`."""
    first: int
    last: int

    @property
    def public(self) -> bool:
        """Whether a caller may use it."""
        return not any(part.startswith("_") for part in self.name.split("."))

    @property
    def bare(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def owner(self) -> str:
        """Return the class, "" for a function."""
        return self.name.rpartition(".")[0]


class Anatomy:
    """One file, read once. Raises SyntaxError where the text is no Python."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.functions: list[Function] = []
        """In reading order."""
        self.classes: dict[str, tuple[int, int]] = {}
        """First and last line of each class."""
        self._tree = tree
        self._nodes: dict[str, ast.AST] = {}
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self.classes[node.name] = (_first(node), node.end_lineno or node.lineno)
                for member in node.body:
                    self._add(member, f"{node.name}.")
            else:
                self._add(node, "")
        self._by_name = {function.name: function for function in self.functions}
        self._fields = self._types_of_fields(tree)
        self._calls = {name: self._called_by(name) for name in self._by_name}
        self.bound = frozenset(_bound(tree))
        """Every name that the file gives to something."""
        self.public_words = frozenset(_public_words(tree))
        """Names that a caller of the file may have to write."""

    def at(self, line: int) -> Function | None:
        """Return the function that holds a line."""
        return next((f for f in self.functions if f.first <= line <= f.last), None)

    def statement_at(self, line: int) -> tuple[int, int]:
        """Return first and last line of the innermost statement there, without its body."""
        best = (line, line)
        for node in ast.walk(self._tree):
            if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or 0):
                body = getattr(node, "body", None)
                last = node.end_lineno or node.lineno
                if body:
                    last = max(node.lineno, body[0].lineno - 1)
                if line <= last:
                    best = (node.lineno, last)  # what is within comes later
        return best

    def called(self, name: str) -> tuple[Function, ...]:
        """Return what a function calls of this file, in reading order."""
        return tuple(f for f in self.functions if f.name in self._calls[name])

    def entered_by(self, tests: str, test: str) -> tuple[Function, ...]:
        """Return the public functions that a test calls, through its helpers too."""
        helpers = _mentions(tests)
        mentioned: list[str] = []
        seen, waiting = set(), [test]
        while waiting:
            name = waiting.pop(0)
            if name in seen or name not in helpers:
                continue
            seen.add(name)
            names, attributes = helpers[name]
            waiting += names
            mentioned += attributes
        return self._entries(list(dict.fromkeys(mentioned)))

    def path(self, starts: Iterable[Function], goal: Function) -> tuple[Function, ...]:
        """Return the shortest way of calls from one of the starts to the goal; () if none."""
        before: dict[str, str | None] = {function.name: None for function in starts}
        waiting = deque(before)
        while waiting:
            name = waiting.popleft()
            if name == goal.name:
                way: list[str] = []
                here: str | None = name
                while here is not None:
                    way.append(here)
                    here = before[here]
                return tuple(self._by_name[each] for each in reversed(way))
            for function in self.called(name):
                if function.name not in before:
                    before[function.name] = name
                    waiting.append(function.name)
        return ()

    def reached(self, starts: Iterable[Function]) -> frozenset[str]:
        """Return the names of the starts and of all that they call, directly or not."""
        found: set[str] = set()
        waiting = [function.name for function in starts]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self._calls[name]
        return frozenset(found)

    def _add(self, node: ast.AST, prefix: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            name = prefix + node.name
            function = Function(name, _first(node), node.end_lineno or node.lineno)
            if name not in self._nodes:  # a property's setter stands behind its getter
                self.functions.append(function)
                self._nodes[name] = node

    def _entries(self, mentioned: list[str]) -> tuple[Function, ...]:
        classes = {name for name in mentioned if name in self.classes}
        found: list[str] = []
        for name in mentioned:
            if name in self._by_name:
                found.append(name)
            found += [
                f.name
                for f in self.functions
                if f.owner and f.bare == name and (f.owner in classes or name not in _COMMON)
            ]
        for name in classes:
            found += [f"{name}.{each}" for each in (*_CALLABLE, *_MADE)]
        return tuple(
            self._by_name[name]
            for name in dict.fromkeys(found)
            if name in self._by_name and _may_be_called(self._by_name[name])
        )

    def _types_of_fields(self, tree: ast.Module) -> Mapping[str, frozenset[str]]:
        """Return which classes of the file stand in a field of that name."""
        found: dict[str, set[str]] = {}

        def note(name: str, value: ast.AST | None) -> None:
            if value is not None:
                kinds = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
                found.setdefault(name, set()).update(kinds & self.classes.keys())

        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                annotated = {a.arg: a.annotation for a in _arguments(function) if a.annotation}
                for node in ast.walk(function):
                    match node:
                        case ast.Assign(targets=[ast.Attribute(attr=name)], value=value):
                            note(name, value)
                            if isinstance(value, ast.Name):
                                note(name, annotated.get(value.id))
                        case ast.AnnAssign(target=ast.Attribute(attr=name), annotation=kind):
                            note(name, kind)
            if isinstance(function, ast.ClassDef):
                for node in function.body:
                    match node:
                        case ast.AnnAssign(target=ast.Name(id=name), annotation=kind):
                            note(name, kind)
        return {name: frozenset(kinds) for name, kinds in found.items() if kinds}

    def _called_by(self, name: str) -> frozenset[str]:
        node = self._nodes[name]
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        owner = self._by_name[name].owner
        kinds = self._types_of_names(node, owner)
        found: set[str] = set()
        for each in ast.walk(node):
            match each:
                case ast.Name(id=called, ctx=ast.Load()):
                    found.add(called)
                    if called in self.classes:
                        found.update(f"{called}.{made}" for made in _MADE)
                case ast.Attribute(value=value, attr=called):
                    known = self._kinds_of(value, kinds)
                    for method in self.functions:
                        if method.owner and method.bare == called:
                            certain = method.owner in known
                            if certain or (not known and called not in _COMMON):
                                found.add(method.name)
                case ast.Call(func=function):
                    for kind in self._kinds_of(function, kinds):
                        found.update(f"{kind}.{called}" for called in _CALLABLE)
        return frozenset((found & self._by_name.keys()) - {name})

    def _types_of_names(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: str
    ) -> dict[str, frozenset[str]]:
        """Return the classes of the file that local names stand for, as far as it is written."""
        kinds: dict[str, frozenset[str]] = {}
        for argument in _arguments(node):
            if argument.annotation is not None:
                kinds[argument.arg] = self._named_in(argument.annotation)
        if owner:
            kinds["self"] = frozenset({owner})
        for each in ast.walk(node):
            match each:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=value)
                    | ast.For(target=ast.Name(id=name), iter=value)
                    | ast.comprehension(target=ast.Name(id=name), iter=value)
                ):
                    kinds.setdefault(name, self._kinds_of(value, kinds) | self._named_in(value))
                case ast.For(target=ast.Tuple(elts=targets), iter=value):
                    for target in targets:
                        if isinstance(target, ast.Name):
                            kinds.setdefault(target.id, self._fields_in(value))
        return kinds

    def _kinds_of(self, node: ast.AST, kinds: Mapping[str, frozenset[str]]) -> frozenset[str]:
        match node:
            case ast.Name(id=name):
                return kinds.get(name, frozenset())
            case ast.Attribute(attr=name):
                return self._fields.get(name, frozenset())
            case ast.Subscript(value=value):
                return self._kinds_of(value, kinds)
            case ast.Call(func=ast.Name(id=name)) if name in self.classes:
                return frozenset({name})
        return frozenset()

    def _fields_in(self, node: ast.AST) -> frozenset[str]:
        names = [n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)]
        return frozenset().union(*(self._fields.get(name, frozenset()) for name in names))

    def _named_in(self, node: ast.AST) -> frozenset[str]:
        return frozenset(
            n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in self.classes
        )


def _may_be_called(function: Function) -> bool:
    return function.public or function.bare in (*_CALLABLE, *_MADE)


@cache
def _mentions(tests: str) -> Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return which names and which attributes each function or class of a test module holds."""
    found = {}
    for top in ast.parse(tests).body:
        if isinstance(top, ast.FunctionDef | ast.ClassDef):
            nodes = list(ast.walk(top))
            names = dict.fromkeys(n.id for n in nodes if isinstance(n, ast.Name))
            attributes = dict.fromkeys(n.attr for n in nodes if isinstance(n, ast.Attribute))
            found[top.name] = (tuple(names), tuple(attributes))
    return found


def _first(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> int:
    return min([node.lineno, *(each.lineno for each in node.decorator_list)])


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    arguments = node.args
    rest = [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *rest]


def _bound(tree: ast.Module) -> Iterable[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name


def _public_words(tree: ast.Module) -> Iterable[str]:
    """Yield public names and parameters, fields and weights of public classes, constants and
    aliases."""
    yield from dir(builtins)
    yield from ("self", "cls", "torch", "Tensor")
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.FunctionDef(name=name) if not name.startswith("_") or name in _OPEN:
                yield name
                yield from (argument.arg for argument in _arguments(node))
                yield from _weights(node)
            case ast.ClassDef(name=name, body=body) if not name.startswith("_"):
                yield name
                waiting += body
            case ast.AnnAssign(target=ast.Name(id=name)) if not name.startswith("_"):
                yield name
            case ast.Assign(targets=[ast.Name(id=name)]) if not name.startswith("_"):
                yield name


def _weights(init: ast.FunctionDef) -> Iterable[str]:
    """Yield the public names under which a checkpoint holds what a module is made of."""
    for node in init.body:
        match node:
            case ast.Assign(
                targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)],
                value=ast.Call(func=ast.Attribute(value=ast.Name(id="nn"))),
            ) if not name.startswith("_"):
                yield name


_OPEN = frozenset({"__init__", "__call__"})
