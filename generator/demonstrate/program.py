"""A straight-line program of calls of one file: what a recording is kept as and shrinking edits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch


@dataclass(frozen=True, slots=True)
class Const:
    """A number, a text, bytes, a truth value or None."""

    value: int | float | str | bytes | bool | None


@dataclass(frozen=True, slots=True)
class Name:
    """Code that stands for itself, such as a dtype or a function of the file."""

    text: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list, a tuple or a set."""

    kind: str
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A dictionary, as keys and values by turns."""

    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Make:
    """A record of the file, made on the spot."""

    name: str
    fields: tuple[str, ...]
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Seeded:
    """A generator of random numbers."""

    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """A tensor: its very numbers, or others of its shape drawn from a seed."""

    data: torch.Tensor
    drawn: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """What an earlier call answered, or a part of it."""

    variable: int
    path: str = ""
    seen: Expr | None = None
    """What it was when it was passed on, where that can be written down."""


@dataclass(frozen=True, slots=True)
class Replies:
    """A function that gives these answers in turn, over and over, and notes what it was given."""

    items: tuple[Expr, ...]
    width: int = 0
    """Where each answer has a row of so many numbers for each token of a list that came first."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A function that gives each token of a list its row of a table, and notes what it was given.

    A table has a row for each token of the vocabulary and as many columns: the plainest model.
    """

    vocab_size: int


Expr: TypeAlias = Const | Name | Items | Table | Make | Seeded | Array | Ref | Replies | Lookup


@dataclass(frozen=True, slots=True)
class Call:
    """One statement: a call whose answer gets a name."""

    variable: int
    callee: str
    """Dotted code; after a receiver the method's name, empty where the receiver is called."""
    receiver: Expr | None
    items: tuple[Expr, ...]
    keywords: tuple[str, ...]
    """Names of the last items, which are passed by name."""
    parameters: tuple[str, ...]
    """What the file calls the items."""
    listed: bool = False
    """Whether the answer is an iterator, to be read to its end."""


@dataclass(frozen=True, slots=True)
class Program:
    """Calls in their order; the last one's answer is looked at."""

    calls: tuple[Call, ...]
    seeded: bool = True
    named: bool = False
    """Whether every input has a name, so that what became of it can be looked at."""
    elsewhere: bool = False
    """Whether the last call is made where new tensors go to another device than the inputs'."""


Node: TypeAlias = Expr | Call | Program


def parts(node: Node) -> tuple[Node, ...]:
    """Return what a node directly holds."""
    match node:
        case Program():
            return node.calls
        case Call():
            return (*([] if node.receiver is None else [node.receiver]), *node.items)
        case Items() | Table() | Make() | Replies():
            return node.items
    return ()


def walk(node: Node, path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], Node]]:
    """Yield every node below with the way there, in reading order."""
    yield path, node
    for at, part in enumerate(parts(node)):
        yield from walk(part, (*path, at))


def changed(node: Node, change: Callable[[Node], Node]) -> Node:
    """Return the tree with `change` done to every node, the inner ones first."""
    return change(_with_parts(node, [changed(part, change) for part in parts(node)]))


def put(node: Node, path: tuple[int, ...], new: Node) -> Node:
    """Return the tree with another node at the end of a way."""
    if not path:
        return new
    inside = list(parts(node))
    inside[path[0]] = put(inside[path[0]], path[1:], new)
    return _with_parts(node, inside)


def with_tables(program: Program) -> Program:
    """Return the program with a table for each model that can be one."""

    def table(node: Node) -> Node:
        return Lookup(node.width) if isinstance(node, Replies) and node.width else node

    found = changed(program, table)
    assert isinstance(found, Program)
    return found


def uses(node: Node) -> frozenset[int]:
    """Return the variables that a call, or an argument, needs."""
    return frozenset(each.variable for _, each in walk(node) if isinstance(each, Ref))


def _with_parts(node: Node, inside: list[Node]) -> Node:
    match node:
        case Program():
            return replace(node, calls=tuple(inside))  # type: ignore[arg-type]
        case Call(receiver=None) | Items() | Table() | Make() | Replies():
            return replace(node, items=tuple(inside))  # type: ignore[arg-type]
        case Call():
            return replace(node, receiver=inside[0], items=tuple(inside[1:]))  # type: ignore[arg-type]
    return node
