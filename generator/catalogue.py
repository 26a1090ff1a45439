"""The mutators as text: read with `ast`, so that listing them imports neither libcst nor torch.

An installed plugin's mutators are imported, and libcst with them: they lie anywhere.
"""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from .errors import AuthorError
from .records import SeenIn

MUTATORS = Path(__file__).resolve().parent.parent / "mutators"
PLUGIN_GROUP = "halfhour.mutators"


@dataclass(frozen=True, slots=True)
class Entry:
    """One mutator, as its author wrote it down."""

    name: str
    topic: str
    family: str
    title: str
    lesson: str
    hints: tuple[str, ...]
    sightings: tuple[SeenIn, ...]
    where: str
    """`file:line` of the definition."""


@cache
def entries() -> tuple[Entry, ...]:
    """Return every mutator by topic, in the catalogue's order, then by name.

    Raises AuthorError where a file cannot be read as a mutator.
    """
    order = topics()
    found = [*built_in(), *_from_plugins()]
    return tuple(sorted(found, key=lambda entry: (order.index(entry.topic), entry.name)))


@cache
def built_in() -> tuple[Entry, ...]:
    """Return the mutators of this package alone, in the same order. Raises as `entries` does."""
    return tuple(
        read_entry(file)
        for topic in topics()
        for file in sorted((MUTATORS / topic).glob("*.py"))
        if not file.name.startswith("_")
    )


@cache
def topics() -> tuple[str, ...]:
    """Return the catalogue's chapters in order."""
    for node in _parse(MUTATORS / "_api.py").body:
        match node:
            case ast.Assign(targets=[ast.Name(id="TOPICS")], value=value):
                return tuple(ast.literal_eval(value))
    raise AuthorError(f"{MUTATORS / '_api.py'}:1: names no TOPICS")


def checkout() -> Path | None:
    """Return the folder of the built-in mutators if it is a checkout's and we stand in that."""
    root = MUTATORS.parent
    inside = Path.cwd().resolve().is_relative_to(root)
    return MUTATORS if inside and (root / "pyproject.toml").is_file() else None


def read_entry(file: Path) -> Entry:
    """Read the mutator that a file defines, without running it.

    Raises AuthorError, starting with `file:line`, where what it says is not plain text.
    """
    for node in _parse(file).body:
        if isinstance(node, ast.FunctionDef) and (call := _decorator(node)) is not None:
            try:
                return _entry(f"{file}:{call.lineno}", node, call)
            except (ValueError, KeyError, TypeError) as error:
                raise AuthorError(
                    f"{file}:{call.lineno}: `{node.name}` must say its topic, family, hints and"
                    " sightings as plain text"
                ) from error
    raise AuthorError(f"{file}:1: holds no mutator")


def _entry(where: str, node: ast.FunctionDef, call: ast.Call) -> Entry:
    said = {keyword.arg: keyword.value for keyword in call.keywords}
    title, _, lesson = inspect.cleandoc(ast.get_docstring(node) or "").partition("\n")
    return Entry(
        name=node.name,
        topic=str(ast.literal_eval(said["topic"])),
        family=str(ast.literal_eval(said["family"])),
        title=title.strip(),
        lesson=lesson.strip(),
        hints=tuple(ast.literal_eval(said["hints"])),
        sightings=tuple(_sighting(call) for call in _items(said["sightings"])),
        where=where,
    )


def _decorator(node: ast.FunctionDef) -> ast.Call | None:
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=ast.Name(id="mutator")):
                return decorator
    return None


def _items(node: ast.expr) -> list[ast.expr]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise TypeError("no list")
    return node.elts


def _sighting(node: ast.expr) -> SeenIn:
    if not isinstance(node, ast.Call):
        raise TypeError("no Sighting(...)")
    values: list[Any] = [ast.literal_eval(value) for value in node.args]
    named = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    return SeenIn(*values, **named)


def _parse(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except SyntaxError as error:
        raise AuthorError(f"{file}:{error.lineno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise AuthorError(f"{file}:1: cannot be read ({error})") from error


def _from_plugins() -> list[Entry]:
    plugins = entry_points(group=PLUGIN_GROUP)
    if not plugins:
        return []
    from halfhour.mutators import MutatorError, plugin_mutators

    try:
        found = plugin_mutators(plugins)
    except MutatorError as error:
        raise AuthorError(str(error).rstrip(".")) from error
    return [
        Entry(
            name=mutator.name,
            topic=mutator.topic,
            family=mutator.family,
            title=mutator.title,
            lesson=mutator.lesson,
            hints=mutator.hints,
            sightings=tuple(SeenIn(url=seen.url, note=seen.note) for seen in mutator.sightings),
            where=mutator.where,
        )
        for mutator in found
    ]
