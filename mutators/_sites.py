"""Finds every place where mutators fit: one parse, one walk, a small edit for each mutant."""

from __future__ import annotations

import ast
import dataclasses
import traceback
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import libcst as cst
from libcst.metadata import CodeRange, MetadataWrapper, WhitespaceInclusivePositionProvider

from halfhour.mutators._api import Mutator, MutatorError, Replacement
from halfhour.mutators._context import Context, body_of
from halfhour.mutators._rewrite import grouped, reads_back


@dataclass(frozen=True, slots=True)
class Site:
    """One mutant: replace `text[start:end]` (code points) by `replacement`."""

    mutator: Mutator
    start: int
    end: int
    replacement: str
    line: int
    """First line (from 1) of the text that the edit touches."""

    def apply(self, text: str) -> str:
        return text[: self.start] + self.replacement + text[self.end :]


def find_sites(
    text: str,
    mutators: Iterable[Mutator],
    *,
    name: str = "the text",
    kinds: Iterable[tuple[str, str]] = (),
) -> tuple[Site, ...]:
    """Return what the mutators make of a text, mutator by mutator, in reading order.

    `kinds` says what local variables held when the file was traced, by `function.variable`; it is
    what `Context.same_kind` goes by.

    Two equal mutants of one mutator count once. Raises MutatorError if a mutator fails, changes
    nothing or yields what is not Python, and `libcst.ParserSyntaxError` if the text is not Python.
    """
    return _field(text, name, tuple(kinds)).sites(tuple(mutators))


@lru_cache(maxsize=4)
def _field(text: str, name: str, kinds: tuple[tuple[str, str], ...]) -> _Field:
    """Parse a text once, also for callers who try one mutator after the other."""
    return _Field(text, name, kinds)


class _Field:
    """A parsed text in which mutators look for sites."""

    def __init__(self, text: str, name: str, kinds: tuple[tuple[str, str], ...]) -> None:
        self.text = text
        self.name = name
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = wrapper.module
        self.ranges: Mapping[cst.CSTNode, CodeRange] = wrapper.resolve(
            WhitespaceInclusivePositionProvider
        )
        self.context = Context(self.module, dict(kinds))
        self.parents = self.context.parents
        self.line_starts = [0]
        for line in text.split("\n"):
            self.line_starts.append(self.line_starts[-1] + len(line) + 1)

    def sites(self, mutators: tuple[Mutator, ...]) -> tuple[Site, ...]:
        wanted: dict[type[cst.CSTNode], list[Mutator]] = defaultdict(list)
        for node_type in {type(node) for node in self.parents} | {cst.Module}:
            wanted[node_type] = [m for m in mutators if issubclass(node_type, m.node_types)]
        found: dict[str, dict[str, Site]] = {mutator.name: {} for mutator in mutators}
        for node in (self.module, *self.parents):
            for mutator in wanted[type(node)]:
                for site in self._sites_at(node, mutator):
                    found[mutator.name].setdefault(site.apply(self.text), site)
        return tuple(
            site
            for mutator in mutators
            for site in sorted(found[mutator.name].values(), key=_reading_order)
        )

    def _sites_at(self, node: cst.CSTNode, mutator: Mutator) -> Iterator[Site]:
        try:
            edits = [self._edit(node, new) for new in mutator.visit(node, self.context)]
        except Exception as error:
            raise MutatorError(
                f"{_raised_at(error, mutator)}: `{mutator.name}` raised "
                f"{type(error).__name__} ({error}) "
                f"at line {self._line(node)} of {self.name}"
            ) from error
        for edit in edits:
            if edit is not None:
                site = self._site(mutator, node, *edit)
                self._refuse_nonsense(site, node)
                yield site

    def _edit(self, node: cst.CSTNode, replacement: Replacement) -> tuple[int, int, str] | None:
        """Return start, end and new text; None for a statement that cannot be dropped."""
        if isinstance(replacement, cst.RemovalSentinel):
            return self._removal(node)
        replacement = self._as_operand(node, self._held_together(node, replacement))
        start, end = self._span(node)
        new = self.module.code_for_node(replacement)
        if "\n" in new or "\n" in self.text[start:end]:
            return self._rebuilt(node, replacement)
        return start, end, new

    def _held_together(self, node: cst.CSTNode, replacement: cst.CSTNode) -> cst.CSTNode:
        """Keep the node's parentheses around what still needs several lines."""
        if not isinstance(node, cst.BaseExpression) or not node.lpar:
            return replacement
        if not isinstance(replacement, cst.BaseExpression) or replacement.lpar:
            return replacement
        if "\n" not in self.module.code_for_node(replacement):
            return replacement
        return replacement.with_changes(lpar=node.lpar, rpar=node.rpar)

    def _as_operand(self, node: cst.CSTNode, replacement: cst.CSTNode) -> cst.CSTNode:
        """Put the replacement in parentheses where the operator around the node would tear it."""
        parent = self.parents.get(node)
        if parent is None or not isinstance(replacement, cst.BaseExpression):
            return replacement
        around = _with_child(parent, node, replacement)
        if isinstance(parent, cst.ComparisonTarget):
            around = _with_child(self.parents[parent], parent, around)
        return replacement if reads_back(around) else grouped(replacement)

    def _rebuilt(self, node: cst.CSTNode, replacement: cst.CSTNode) -> tuple[int, int, str]:
        """Rebuild the parents up to the top-level statement, which is indented by nothing."""
        while not isinstance(node, cst.Module):
            parent = self.parents[node]
            if isinstance(parent, cst.Module):
                return (*self._span(node), self.module.code_for_node(replacement))
            replacement = _with_child(parent, node, replacement)
            node = parent
        return 0, len(self.text), self.module.code_for_node(replacement)

    def _removal(self, node: cst.CSTNode) -> tuple[int, int, str] | None:
        """Drop a statement and the comment right above it, unless that would empty its block."""
        match node:
            case cst.SimpleStatementLine() | cst.BaseCompoundStatement():
                block = body_of(self.parents.get(node))
            case _:
                return None
        if len(block) < 2 or node not in block:
            return None
        start, end = self._span(node)
        lines = node.leading_lines
        own = 0
        while own < len(lines) and lines[-1 - own].comment is not None:
            own += 1
        for _ in range(len(lines) - own):
            start = self.text.index("\n", start) + 1
        return start, end, ""

    def _site(self, mutator: Mutator, node: cst.CSTNode, start: int, end: int, new: str) -> Site:
        old = self.text[start:end]
        if old == new:
            raise MutatorError(
                f"{mutator.where}: `{mutator.name}` changes nothing at line {self._line(node)} "
                f"of {self.name}: yield only real replacements"
            )
        head = 0
        while head < min(len(old), len(new)) and old[head] == new[head]:
            head += 1
        tail = 0
        while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
            tail += 1
        line = self.text.count("\n", 0, start + head) + 1
        return Site(mutator, start + head, end - tail, new[head : len(new) - tail], line)

    def _refuse_nonsense(self, site: Site, node: cst.CSTNode) -> None:
        """Parse only the top-level statement that holds the node: the rest has not changed."""
        while not isinstance(self.parents.get(node, self.module), cst.Module):
            node = self.parents[node]
        start, end = self._span(node)
        end += len(site.replacement) - (site.end - site.start)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                ast.parse(site.apply(self.text)[start:end])
        except SyntaxError as error:
            raise MutatorError(
                f"{site.mutator.where}: `{site.mutator.name}` yields text that is not Python "
                f"at line {site.line} of {self.name} ({error.msg})"
            ) from error

    def _span(self, node: cst.CSTNode) -> tuple[int, int]:
        if isinstance(node, cst.Module):
            return 0, len(self.text)
        where = self.ranges[node]
        return (
            self.line_starts[where.start.line - 1] + where.start.column,
            min(self.line_starts[where.end.line - 1] + where.end.column, len(self.text)),
        )

    def _line(self, node: cst.CSTNode) -> int:
        return 1 if isinstance(node, cst.Module) else self.ranges[node].start.line


def _raised_at(error: Exception, mutator: Mutator) -> str:
    """Return `file:line` of the author's own line that led to it, else of the definition."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == mutator.file]
    return f"{mutator.file}:{own[-1].lineno}" if own else mutator.where


def _with_child(parent: cst.CSTNode, old: cst.CSTNode, new: cst.CSTNode) -> cst.CSTNode:
    """Return the parent with one child replaced."""
    for field in dataclasses.fields(parent):
        value = getattr(parent, field.name)
        if value is old:
            return parent.with_changes(**{field.name: new})
        if isinstance(value, list | tuple) and any(item is old for item in value):
            changed = [new if item is old else item for item in value]
            return parent.with_changes(**{field.name: changed})
    raise AssertionError(f"{type(old).__name__} is no child of {type(parent).__name__}")


def _reading_order(site: Site) -> tuple[int, int, str]:
    return site.start, site.end, site.replacement
