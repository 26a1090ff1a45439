"""The mutants of a text: every place where an operator of cosmic-ray applies, once each.

Left out are annotations, which nothing executes under `from __future__ import annotations`.
"""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.plugins import get_operator, operator_names


@dataclass(frozen=True, slots=True)
class Mutant:
    """A whole changed text, and where it differs from the original."""

    text: str
    line: int
    was: str  # the lines that differ, stripped
    now: str
    occurrence: int  # among the original's lines that read the same, from 1
    scope: str | None  # the outermost function it lies in; None: it runs when the file is loaded
    message_only: bool  # whether it lies in the arguments of a raise or the message of an assert

    @property
    def key(self) -> tuple[str, str, int]:
        """Return what names a mutant as long as its line stays the same."""
        return self.was, self.now, self.occurrence


def mutants(source: str) -> list[Mutant]:
    """Return all mutants of a text in order of their lines."""
    found: dict[str, Mutant] = {}
    scopes = list(_functions_in(ast.parse(source), ""))
    starts = [0, *itertools.accumulate(len(line) for line in source.splitlines(keepends=True))]
    nodes = [node for node in ast_nodes(get_ast(source)) if not _is_annotation(node)]
    for operator in _operators():
        for node in nodes:
            for index, _ in enumerate(operator.mutation_positions(node)):
                start, stop = (
                    starts[line - 1] + column
                    for line, column in (node.get_start_pos_of_prefix(), node.end_pos)
                )
                text = _put(_mutated(operator, node, index), source, start, stop)
                if text not in found and ("Not" not in type(operator).__name__ or _parses(text)):
                    found[text] = _located(source, text, scopes, message_only=_is_message(node))
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _operators() -> Iterator[Any]:
    """Yield the operators that always do the same and whose doing means something."""
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments():
            continue  # puts in random numbers and names
        if name.endswith("_UAdd"):
            continue  # the same as to delete the sign
        if "ComparisonOperator" in name and _compares_identity(name):
            continue  # whether equal numbers are one object is an accident of the interpreter
        yield operator()


def _compares_identity(operator_name: str) -> bool:
    """Tell `==` that becomes `is` and the like from `is` that becomes something else."""
    *_, old, new = operator_name.split("_")
    return new in {"Is", "IsNot"} and old not in {"Is", "IsNot"}


def _mutated(operator: Any, node: Any, index: int) -> str:
    """Return the code that takes the place of a node's."""
    alone = copy.deepcopy(node, {id(node.parent): node.parent})  # not the whole tree with it
    changed = operator.mutate(alone, index)
    return "" if changed is None else str(changed.get_code())


def _above(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a node's ancestors from near to far, each with its child on the way."""
    while node.parent is not None:
        yield node.parent, node
        node = node.parent


def _is_annotation(node: Any) -> bool:
    """Tell what no one executes, and the marks between parameters, which are no operators."""
    if node.parent is not None and node.parent.type in {"parameters", "dictorsetmaker"}:
        return bool(node.type == "operator")
    return any(
        (above.type == "tfpdef")
        or (above.type == "annassign" and child is above.children[1])
        or (above.type == "funcdef" and child is above.annotation)
        for above, child in _above(node)
    )


def _is_message(node: Any) -> bool:
    """Tell what is only said, in the arguments of a raise or behind the condition of an assert."""
    path = [(above.type, above.children.index(child)) for above, child in _above(node)]
    raised = any(
        (near, far) == (("atom_expr", near[1]), ("raise_stmt", 1)) and near[1] > 0
        for near, far in itertools.pairwise(path)
    )
    return raised or ("assert_stmt", 3) in path


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:  # `2 ** not 1`
        return False
    return True


def _put(code: str, source: str, start: int, stop: int) -> str:
    """Replace a part of a text, without the blanks that an operator left behind."""
    around = max(start - 1, 0), min(stop + 1, len(source))  # what stands before a blank matters
    before, after = source[around[0] : start], source[stop : around[1]]
    tidied = _tidy(source[slice(*around)], before + code + after)
    return source[: around[0]] + tidied + source[around[1] :]


def _tidy(original: str, changed: str) -> str:
    start = _common(original, changed)
    stop = len(changed) - _common(original[start:][::-1], changed[start:][::-1])
    head, middle, tail = changed[:start], changed[start:stop], changed[stop:]
    if not middle and head.endswith(" "):
        return head + tail.lstrip(" ")
    after_a_word = head[-1:].isalnum() or head[-1:] in set("_)]}\"'")
    return head + (middle if after_a_word else middle.lstrip(" ")) + tail


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many characters or lines two texts share at their beginning."""
    differs = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(differs, min(len(one), len(other)))


def _located(
    source: str, text: str, scopes: list[tuple[range, str]], *, message_only: bool
) -> Mutant:
    """Say where a changed text differs from the original."""
    old, new = source.splitlines(), text.splitlines()
    start = _common(old, new)
    stop = _common(old[start:][::-1], new[start:][::-1])
    was, now = old[start : len(old) - stop], new[start : len(new) - stop]
    while was and not was[0].strip():  # blank lines above a decorator go with it
        was, start = was[1:], start + 1
    line = start + 1
    return Mutant(
        text=text,
        line=line,
        was=_joined(was),
        now=_joined(now),
        occurrence=[same.strip() for same in old[:line]].count(old[start].strip()),
        scope=next((name for lines, name in scopes if line in lines), None),
        message_only=message_only,
    )


def _joined(lines: list[str]) -> str:
    return " ".join(stripped for line in lines if (stripped := line.strip()))


def _functions_in(node: ast.AST, prefix: str) -> Iterator[tuple[range, str]]:
    """Yield the lines of the body of each function and method, with its qualified name."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.ClassDef(name=name):
                yield from _functions_in(child, f"{prefix}{name}.")
            case ast.FunctionDef(name=name, body=body) | ast.AsyncFunctionDef(name=name, body=body):
                # Defaults on the line of a body of one line run when the file is loaded.
                start = body[0].lineno if body[0].lineno > child.lineno else child.lineno + 1
                yield range(start, (child.end_lineno or start) + 1), prefix + name
            case _:
                yield from _functions_in(child, prefix)
