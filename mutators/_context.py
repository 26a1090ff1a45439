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


def body_of(block: cst.CSTNode | None) -> tuple[cst.BaseStatement, ...]:
    """Return the statements of an indented block or a module; of anything else, none."""
    match block:
        case cst.IndentedBlock() | cst.Module():
            return tuple(s for s in block.body if isinstance(s, cst.BaseStatement))
    return ()


class Context:
    """What a mutator may ask about the surroundings of the node it was given."""

    def __init__(self, module: cst.Module) -> None:
        self.module = module
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

