"""Walk a file once and rewrite it: names, idioms, order and remarks."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

import libcst as cst

from . import idioms, order, wording
from .draws import Draws
from .facts import Facts, Function
from .place import Place
from .renaming import Renames

_OPAQUE = (cst.Annotation, cst.FormattedString)
"""Where idioms stay as they are."""


class Rewriter(cst.CSTTransformer):
    """One walk over one file."""

    def __init__(
        self, module: cst.Module, facts: Facts, draws: Draws, renames: Renames, *, width: int
    ) -> None:
        super().__init__()
        self.place = Place(facts, draws, module)
        self.facts = facts
        self.draws = draws
        self.renames = renames
        self.width = width
        self.stack: list[str] = []
        self.functions = 0
        self.opaque = 0
        self.no_variable: set[int] = set()
        """Ids of names that stand behind a dot, before an `=` in a call, or behind `def`."""
        self.scopes = {scope.path: scope.node for scope in facts.scopes}
        self.owners = {n.name: n for n in facts.tree.body if isinstance(n, ast.ClassDef)}

    def on_visit(self, node: cst.CSTNode) -> bool:
        """Note what is needed to know below the node."""
        match node:
            case cst.Name():
                pass
            case cst.Attribute():
                self.no_variable.add(id(node.attr))
            case cst.Arg():
                if node.keyword is not None:
                    self.no_variable.add(id(node.keyword))
            case cst.FunctionDef() | cst.ClassDef():
                self._enter(node)
            case cst.AssignTarget() | cst.AugAssign() | cst.AnnAssign() | cst.For() | cst.CompFor():
                self.place.targets |= {id(target) for target in _targets(node.target)}
            case cst.Del():
                self.place.targets |= {id(target) for target in _targets(node.target)}
        if isinstance(node, _OPAQUE):
            self.opaque += 1
        return True

    def on_leave(  # type: ignore[override]
        self, original_node: cst.CSTNode, updated_node: cst.CSTNode
    ) -> cst.CSTNode:
        """Return what becomes of the node."""
        match updated_node:
            case cst.Name():
                return self._name(original_node, updated_node)
            case cst.Comment():
                text = self.renames.remark(updated_node.value, self.place.path)
                return updated_node.with_changes(value=text)
            case cst.Module():
                before = cst.ensure_type(original_node, cst.Module).body
                body = self._reordered(before, updated_node.body, self.facts.tree.body, "")
                return updated_node.with_changes(body=body)
            case cst.FunctionDef():
                return self._leave_function(updated_node)
            case cst.ClassDef():
                return self._leave_class(cst.ensure_type(original_node, cst.ClassDef), updated_node)
            case cst.SimpleStatementLine(body=[cst.Expr(value=cst.SimpleString())]):
                return self._docstring(updated_node)
        if isinstance(updated_node, _OPAQUE):
            self.opaque -= 1
        if self.opaque or not self.functions:
            return updated_node
        return self._idiom(original_node, updated_node)

    def _idiom(self, original: cst.CSTNode, updated: cst.CSTNode) -> cst.CSTNode:
        place = self.place
        match updated:
            case cst.Attribute():
                return idioms.attribute(updated, place)
            case cst.Call():
                return idioms.call(updated, place)
            case cst.Subscript():
                return idioms.subscript(updated, place, is_target=id(original) in place.targets)
            case cst.Comparison():
                return idioms.comparison(updated, place)
            case cst.IfExp():
                return idioms.conditional(updated, place)
            case cst.If():
                return idioms.branches(updated, place)
            case cst.IndentedBlock():
                return idioms.neighbours(updated, place)
            case cst.AugAssign(target=cst.Name()):
                assert isinstance(original, cst.AugAssign)
                target = cst.ensure_type(original.target, cst.Name)
                is_number = target.value in place.whole_numbers
                return idioms.addition(updated, place) if is_number else updated
        return updated

    def _enter(self, node: cst.FunctionDef | cst.ClassDef) -> None:
        if not self.functions or isinstance(node, cst.ClassDef):
            self.no_variable.add(id(node.name))
        self.stack.append(node.name.value)
        if isinstance(node, cst.ClassDef):
            return
        self.functions += 1
        if self.functions == 1:
            place = self.place
            place.path = ".".join(self.stack)
            owner = self.owners.get(self.stack[0])
            place.plain_owner = owner is None or not (owner.bases or owner.keywords)
            scope = self.scopes.get(place.path)
            place.whole_numbers = frozenset(_whole_numbers(scope)) if scope else frozenset()

    def _leave_function(self, node: cst.FunctionDef) -> cst.FunctionDef:
        self.stack.pop()
        self.functions -= 1
        if not self.functions:
            self.place.path = ""
        return node

    def _leave_class(self, original: cst.ClassDef, node: cst.ClassDef) -> cst.ClassDef:
        owner = self.owners.get(self.stack.pop())
        before, after = original.body, node.body
        if self.stack or owner is None or not isinstance(after, cst.IndentedBlock):
            return node
        body = self._reordered(before.body, after.body, owner.body, owner.name)
        return node.with_changes(body=after.with_changes(body=body))

    def _reordered(
        self,
        before: Sequence[cst.CSTNode],
        after: Sequence[cst.CSTNode],
        parsed: Sequence[ast.stmt],
        place: str,
    ) -> list[cst.BaseStatement]:
        needs = order.needs_of(self.facts, parsed)
        old, new = ([n for n in b if isinstance(n, cst.BaseStatement)] for b in (before, after))
        return order.reordered(old, new, needs, draws=self.draws, place=place)

    def _name(self, original: cst.CSTNode, name: cst.Name) -> cst.Name:
        new = self.renames.everywhere.get(name.value)
        if new is None and self.functions and id(original) not in self.no_variable:
            new = self.renames.of(self.place.path).get(name.value)
        return name if new is None else name.with_changes(value=new)

    def _docstring(self, line: cst.SimpleStatementLine) -> cst.CSTNode:
        statement = line.body[0]
        assert isinstance(statement, cst.Expr)
        text = statement.value
        assert isinstance(text, cst.SimpleString)
        place = ".".join(self.stack)
        value = self.renames.remark(text.value, self.place.path)
        indent = 4 * len(self.stack)
        value = wording.reworded(value, self.draws, place, indent=indent, width=self.width)
        changed = statement.with_changes(value=text.with_changes(value=value))
        return line.with_changes(body=[changed])


def _targets(node: cst.BaseExpression) -> Iterator[cst.BaseExpression]:
    """Yield the targets of an assignment, those within a tuple one by one."""
    yield node
    if isinstance(node, cst.Tuple | cst.List):
        for element in node.elements:
            yield from _targets(element.value)


def _whole_numbers(function: Function) -> Iterator[str]:
    """Yield the local variables that only ever hold what literals and `len` add up to."""
    numbers: set[str] = set()
    others: set[str] = set()
    harmless: set[int] = set()
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name) as target], value=value) if _whole(value):
                numbers.add(name)
                harmless.add(id(target))
            case ast.AugAssign(target=ast.Name(id=name) as target, op=ast.Add() | ast.Sub()):
                if _whole(node.value):
                    harmless.add(id(target))
    for node in ast.walk(function):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if id(node) not in harmless:
                others.add(name)
            case ast.arg(arg=name):
                others.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                others.update(names)
    yield from numbers - others


def _whole(value: ast.expr) -> bool:
    match value:
        case ast.Constant(value=int() as number):
            return not isinstance(number, bool)
        case ast.Call(func=ast.Name(id="len"), args=[_], keywords=[]):
            return True
    return False
