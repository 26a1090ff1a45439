"""Where a node stands in its file: its parents, its neighbours, the names read around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import TypeVar

import libcst as cst

Node = TypeVar("Node", bound=cst.CSTNode)


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the node and everything below it, in reading order."""
    for tree in _TREES:
        found = tree.spans.get(node)
        if found is not None:
            return iter(tree.order[found[0] : found[1]])
    return _walk(node)


def _walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from _walk(child)


class _Tree:
    """A module laid out flat: to ask a node of libcst for its children visits them all."""

    def __init__(self, module: cst.Module) -> None:
        self.order: list[cst.CSTNode] = []
        """Every node in reading order."""
        self.spans: dict[cst.CSTNode, tuple[int, int]] = {}
        """Where in it a node and all below it stand."""
        self.parents: dict[cst.CSTNode, cst.CSTNode] = {}
        self._lay_out(module)

    def _lay_out(self, node: cst.CSTNode) -> None:
        begun = len(self.order)
        self.order.append(node)
        for child in node.children:
            self.parents[child] = node
            self._lay_out(child)
        self.spans[node] = (begun, len(self.order))


_TREES: deque[_Tree] = deque(maxlen=4)
"""Of the modules that were read last, the newest first."""


_PAIRS = (
    ("k", "v"),
    ("key", "value"),
    ("keys", "values"),
    ("cos", "sin"),
    ("q_len", "kv_len"),
    ("q", "kv"),
    ("query", "key"),
    ("x1", "x2"),
    ("left", "right"),
    ("start", "end"),
    ("first", "last"),
    ("low", "high"),
    ("min", "max"),
    ("row", "column"),
    ("gate", "up"),
    ("draft", "target"),
    ("old", "new"),
    ("src", "dst"),
    ("source", "target"),
    ("prompt", "output"),
)
_OTHER: dict[str, str] = {}
for _one, _other in _PAIRS:  # where a word is in two pairs the first counts
    _OTHER.setdefault(_one, _other)
    _OTHER.setdefault(_other, _one)


def near_pair(name: str) -> str:
    """Return the name that people take this one for: `v` for `k`, `kv_len` for `q_len`.

    The pair may be one word of a longer name (`new_keys` and `new_values`); "" where there is none.
    """
    if name in _OTHER:
        return _OTHER[name]
    words = name.split("_")
    for at in reversed(range(len(words))):
        if words[at] in _OTHER:
            return "_".join([*words[:at], _OTHER[words[at]], *words[at + 1 :]])
    return ""


def body_of(block: cst.CSTNode | None) -> tuple[cst.BaseStatement, ...]:
    """Return the statements of an indented block or a module; of anything else, none."""
    match block:
        case cst.IndentedBlock() | cst.Module():
            return tuple(s for s in block.body if isinstance(s, cst.BaseStatement))
    return ()


class Context:
    """What a mutator may ask about the surroundings of the node it was given."""

    def __init__(self, module: cst.Module, kinds: Mapping[str, str] | None = None) -> None:
        self.module = module
        self._kinds = kinds or {}
        tree = _Tree(module)
        _TREES.appendleft(tree)
        self.parents: Mapping[cst.CSTNode, cst.CSTNode] = tree.parents
        """Every node below the module, with its parent."""

    def parent(self, node: cst.CSTNode) -> cst.CSTNode | None:
        """Return the node's parent; None for the module."""
        return self.parents.get(node)

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield the parents, the nearest first."""
        above = self.parent(node)
        while above is not None:
            yield above
            above = self.parent(above)

    def enclosing(self, node: cst.CSTNode, kind: type[Node]) -> Node | None:
        """Return the nearest parent of that type."""
        return next((above for above in self.ancestors(node) if isinstance(above, kind)), None)

    def kind(self, name: cst.Name) -> str:
        """Return what a local variable held when the file was traced, such as `float3` or `int`.

        Rank and class of a tensor, the type of anything else; "" where nobody traced the file, and
        for a variable that held things of several kinds.
        """
        return self._kinds.get(f"{self._function(name)}.{name.value}", "")

    def same_kind(self, name: cst.Name) -> tuple[str, ...]:
        """Return the other variables that stand above the line and held the same kind of thing.

        Those that people take for it come first (`near_pair`), then in the order of the file.
        """
        kind, function = self.kind(name), self.enclosing(name, cst.FunctionDef)
        if not kind or function is None:
            return ()
        here = self.statement(name)
        bound: list[str] = []
        for node in walk(function):
            if node is here:
                break
            if isinstance(node, cst.Name) and not self.is_read(node) and node.value not in bound:
                bound.append(node.value)
        inside = self._function(name)
        others = [
            other
            for other in bound
            if other != name.value and self._kinds.get(f"{inside}.{other}") == kind
        ]
        near = near_pair(name.value)
        return tuple(sorted(others, key=lambda other: other != near))

    def _function(self, node: cst.CSTNode) -> str:
        """Return the name of the function around a node as the interpreter spells it."""
        parts: list[str] = []
        for above in self.ancestors(node):
            match above:
                case cst.FunctionDef(name=cst.Name(value=own)):
                    parts += ["<locals>", own] if parts else [own]
                case cst.ClassDef(name=cst.Name(value=own)):
                    parts.append(own)
        return ".".join(reversed(parts))

    def statement(self, node: cst.CSTNode) -> cst.BaseStatement | None:
        """Return the statement that holds the node, or the node itself if it is one."""
        lineage = (node, *self.ancestors(node))
        return next((above for above in lineage if isinstance(above, cst.BaseStatement)), None)

    def before(self, node: cst.CSTNode) -> tuple[cst.BaseStatement, ...]:
        """Return the statements above the node's own in the same block, in reading order."""
        return self._split(node)[0]

    def after(self, node: cst.CSTNode) -> tuple[cst.BaseStatement, ...]:
        """Return the statements below the node's own in the same block, in reading order."""
        return self._split(node)[1]

    def can_spare(self, node: cst.CSTNode) -> bool:
        """Tell whether no variable of the function is left unread where the node is dropped."""
        scope = self.enclosing(node, cst.FunctionDef) or self.module
        names = [n for n in walk(scope) if isinstance(n, cst.Name)]
        own = {id(n) for n in walk(node)}
        bound = {n.value for n in names if not self.is_read(n)}
        lost = {n.value for n in names if id(n) in own and self.is_read(n)} & bound
        return lost <= {n.value for n in names if id(n) not in own and self.is_read(n)}

    def is_read(self, name: cst.Name) -> bool:
        """Tell a variable that is read from an attribute, a keyword or an assignment's target."""
        match above := self.parent(name):
            case cst.Attribute() | cst.Arg():
                return above.value is name
            case cst.AssignTarget() | cst.AnnAssign() | cst.NamedExpr() | cst.For() | cst.CompFor():
                return above.target is not name
            case cst.Param() | cst.FunctionDef() | cst.ClassDef() | cst.AsName():
                return above.name is not name
            case cst.Element():
                return not self._is_target(above)
        return True

    def _is_target(self, element: cst.Element) -> bool:
        """Tell whether a tuple or list element stands left of the `=` of an assignment."""
        node: cst.CSTNode = element
        for above in self.ancestors(element):
            match above:
                case cst.Tuple() | cst.List() | cst.Element():
                    node = above
                case cst.AssignTarget() | cst.For() | cst.CompFor():
                    return above.target is node
                case _:
                    return False
        return False

    def _split(
        self, node: cst.CSTNode
    ) -> tuple[tuple[cst.BaseStatement, ...], tuple[cst.BaseStatement, ...]]:
        statement = self.statement(node)
        if statement is None:
            return (), ()
        body = body_of(self.parent(statement))
        at = next((i for i, other in enumerate(body) if other is statement), None)
        return ((), ()) if at is None else (body[:at], body[at + 1 :])
