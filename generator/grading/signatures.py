"""How a caller must call what a file offers, and what of that a submission changed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .reading import text_of

_CALLED = ("__init__", "__call__", "__new__")
"""Methods with underscores that a caller uses all the same."""
_KINDS = {"/": "positional only", "": "by position or name", "*": "by name only"}
_KINDS |= {"...": "the rest by position", "**": "the rest by name"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter, or one field of a class that makes its own `__init__`."""

    name: str
    kind: str
    """A key of the kinds above."""
    default: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a caller has to know of one public name."""

    line: int = field(compare=False)
    form: str
    """`def`, `async def`, `class`, or one of them with the decorators that change a call."""
    parameters: tuple[Parameter, ...]


def signatures(tree: ast.Module) -> Mapping[str, Signature]:
    """Return the signatures of functions, classes and methods by dotted name; the last one holds.

    A class has what it inherits from classes of the same file.
    """
    found: dict[str, Signature] = {}
    _collect(tree.body, "", found)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for name, node in classes.items():
        for base in _ancestors(node, classes):
            for dotted in [each for each in found if each.startswith(f"{base}.")]:
                found.setdefault(f"{name}.{dotted.removeprefix(f'{base}.')}", found[dotted])
    return found


def changed(
    names: tuple[str, ...],
    old: Mapping[str, Signature],
    given: Mapping[str, Signature],
    new: Mapping[str, Signature],
) -> Iterator[tuple[str, int | None]]:
    """Yield what of these public names is gone or is called otherwise, a sentence and a line each.

    What is as in the correct file (`old`) or as handed out (`given`) was not changed.
    """
    wanted = dict.fromkeys(names)
    for name in names:
        wanted |= dict.fromkeys(f"{name}.{each}" for each in _CALLED if f"{name}.{each}" in old)
    for name in wanted:
        was, now = old.get(name), new.get(name)
        owner = name.rpartition(".")[0]
        owner_is_gone = owner in old and owner not in new
        if was is None or now in (was, given.get(name)) or owner_is_gone:
            continue
        if now is None:
            yield f"{name} is gone, or no longer written as a {was.form}", None
        else:
            yield f"{name} is called otherwise: {_difference(was, now)}", now.line


def _difference(was: Signature, now: Signature) -> str:
    if was.form != now.form:
        return f"{was.form} became {now.form}"
    old, new = ([p.name for p in each.parameters] for each in (was, now))
    gone, come = [n for n in old if n not in new], [n for n in new if n not in old]
    words = []
    if gone:
        words.append(f"without {', '.join(gone)}")
    if come:
        words.append(f"with {', '.join(come)}")
    if not words and old != new:
        words.append(f"the order is {', '.join(new)}")
    by_name = {p.name: p for p in was.parameters}
    for parameter in now.parameters:
        before = by_name.get(parameter.name, parameter)
        if before.kind != parameter.kind:
            words.append(f"{parameter.name} is given {_KINDS[parameter.kind]}")
        if before.default != parameter.default:
            words.append(_other_default(before, parameter))
    return ", ".join(words)


def _other_default(was: Parameter, now: Parameter) -> str:
    if not now.default:
        return f"{now.name} has no default any more"
    if not was.default:
        return f"{now.name} has the default {now.default}"
    return f"{now.name} is {now.default} by default, not {was.default}"


def _collect(body: list[ast.stmt], prefix: str, found: dict[str, Signature]) -> None:
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found[prefix + node.name] = _of_function(node)
            case ast.ClassDef():
                name = prefix + node.name
                for dotted in [each for each in found if each.startswith(f"{name}.")]:
                    del found[dotted]  # an earlier class of that name
                found[name] = _of_class(node)
                _collect(node.body, f"{name}.", found)


def _of_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Signature:
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    marks = [text_of(each) for each in node.decorator_list]
    kept = [m for m in marks if m in ("staticmethod", "classmethod", "property")]
    form = " ".join([*(f"@{mark}" for mark in kept), word])
    given = node.args
    positional = [*given.posonlyargs, *given.args]
    defaults = [None] * (len(positional) - len(given.defaults)) + list(given.defaults)
    parameters = [
        Parameter(arg.arg, "/" if index < len(given.posonlyargs) else "", text_of(default))
        for index, (arg, default) in enumerate(zip(positional, defaults, strict=True))
    ]
    if given.vararg is not None:
        parameters.append(Parameter(given.vararg.arg, "..."))
    parameters += [
        Parameter(arg.arg, "*", text_of(default))
        for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    ]
    if given.kwarg is not None:
        parameters.append(Parameter(given.kwarg.arg, "**"))
    return Signature(node.lineno, form, tuple(parameters))


def _of_class(node: ast.ClassDef) -> Signature:
    """Return the fields in their order: of a dataclass or a named tuple they are parameters."""
    fields = {
        each.target.id: Parameter(each.target.id, "", text_of(each.value))
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.target, ast.Name)
        and not each.target.id.startswith("_")
    }
    makes_init = any(
        text_of(each).split("(")[0].rpartition(".")[2] in ("dataclass", "NamedTuple")
        for each in (*node.decorator_list, *node.bases)
    )
    return Signature(node.lineno, "class", tuple(fields.values()) if makes_init else ())


def _ancestors(node: ast.ClassDef, classes: Mapping[str, ast.ClassDef]) -> Iterator[str]:
    seen = {node.name}
    waiting = [text_of(base) for base in node.bases]
    while waiting:
        name = waiting.pop(0)
        if name in classes and name not in seen:
            seen.add(name)
            yield name
            waiting += [text_of(base) for base in classes[name].bases]
