"""Records what a test asks of a file, as a program that asks the same without the test."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from ..screen.subject import Subject
from .program import (
    Array,
    Call,
    Const,
    Expr,
    Items,
    Make,
    Name,
    Program,
    Ref,
    Replies,
    Seeded,
    Table,
)

if TYPE_CHECKING:
    from ..screen.items import Item

MOST_CALLS = 120
"""Of one test; what comes later is not looked at."""
_MOST_NUMBERS = 4096
"""In one tensor or list: more is nothing to show."""
_MOST_REPLIES = 12
_DEPTH = 3
_SCALARS = (bool, int, float, str, bytes, types.NoneType)


class _Unwritable(Exception):
    """This value has no short text."""


class Recording(Subject):
    """The fixture `subject` that tells a log of every call from outside."""

    def __init__(self, module: types.ModuleType, source: str, log: Log) -> None:
        self._log = log
        super().__init__(module, source)

    def _recorded(self, function: Callable[..., Any], *, skip: int) -> Callable[..., Any]:
        inner = super()._recorded(function, skip=skip)
        name = function.__name__
        if name.startswith("__") and name not in {"__init__", "__call__"}:
            return inner

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return inner(*args, **kwargs)
            args, kwargs, done = self._log.begin(function, args, kwargs, skip)
            result = inner(*args, **kwargs)
            done(result)
            return result

        return call


class Log:
    """The calls of each test in their order, as far as they can be written down."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._known: dict[int, tuple[Ref, Any, Any]] = {}
        """By identity: how to write it, the object itself, what it was."""
        self._taps: dict[int, _Tap] = {}
        """By the identity of what is passed on."""
        self._tapped_before: dict[int, _Tap] = {}
        """By the identity of the test's own function."""
        self._filled: dict[int, list[tuple[int, int]]] = {}
        """By the identity of a module: its parameters, and how often each was written to."""
        self._calls: list[Call] = []
        self._programs: list[tuple[Item, list[Call]]] = []

    def begin_item(self, item: Item) -> None:
        """Note what follows under this item."""
        self._known, self._calls, self._filled = {}, [], {}
        self._programs.append((item, self._calls))

    def programs(self) -> list[tuple[Item, Program]]:
        """Return what each item asked, those that asked least first."""
        found = [
            (item, Program(tuple(map(self._finished, calls))))
            for item, calls in self._programs
            if calls
        ]
        return sorted(found, key=lambda each: len(each[1].calls))

    def begin(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], skip: int
    ) -> tuple[tuple[Any, ...], dict[str, Any], Callable[[Any], None]]:
        """Note a call; return its arguments to pass on, and what to tell of the answer."""
        if not self._programs or len(self._calls) >= MOST_CALLS:
            return args, kwargs, lambda _: None
        if skip and isinstance(args[0], torch.nn.Module):
            self._note_weights(args[0])
        args = (*args[:skip], *map(self._tapped, args[skip:]))
        kwargs = {name: self._tapped(value) for name, value in kwargs.items()}
        try:
            call = self._call(function, args, kwargs, skip)
        except _Unwritable:
            return args, kwargs, lambda _: None
        calls, at = self._calls, len(self._calls)
        calls.append(call)

        def done(result: Any) -> None:
            if inspect.isgenerator(result):
                calls[at] = dataclasses.replace(call, listed=True)
            made = args[0] if function.__name__ == "__init__" else result
            if isinstance(made, torch.nn.Module):
                self._filled.setdefault(id(made), _filled(made))
            self._register(made, Ref(call.variable), _DEPTH)

        return args, kwargs, done

    def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], skip: int
    ) -> Call:
        name, receiver = function.__name__, None
        callee = f"{self._name}.{name}"
        if skip and name == "__init__":
            callee = f"{self._name}.{type(args[0]).__qualname__}"
        elif skip:
            receiver = self._frozen(args[0], 0)
            is_called = name == "__call__" or (
                name == "forward" and isinstance(args[0], torch.nn.Module)
            )
            callee = "" if is_called else name
        items = [self._frozen(value, 0) for value in (*args[skip:], *kwargs.values())]
        names = list(inspect.signature(function).parameters)[skip:]
        given = (names + ["value"] * len(args))[: len(args) - skip]
        return Call(
            variable=len(self._calls),
            callee=callee,
            receiver=receiver,
            items=tuple(items),
            keywords=tuple(kwargs),
            parameters=(*given, *kwargs),
        )

    def _note_weights(self, module: torch.nn.Module) -> None:
        """Note that a test filled the parameters of a module, with whatever numbers."""
        ref, kept, _ = self._known.get(id(module), (None, None, None))
        if ref is None or kept is not module:  # or it is not made yet
            return
        filled = _filled(module)
        if filled == self._filled.get(id(module)):
            return
        self._filled[id(module)] = filled
        numbers = torch.cat([each.detach().flatten() for each in module.parameters()])
        if numbers.numel() > _MOST_NUMBERS:
            return
        self._calls.append(
            Call(
                variable=len(self._calls),
                callee="torch.nn.utils.vector_to_parameters",
                receiver=None,
                items=(Array(numbers, drawn=True), Ref(ref.variable, f"{ref.path}.parameters()")),
                keywords=(),
                parameters=("weights", "parameters"),
            )
        )

    def _tapped(self, value: Any) -> Any:
        """Listen to what a test's own function answers."""
        if not callable(value) or isinstance(value, type | torch.nn.Module):
            return value
        if self._name in {getattr(value, "__module__", ""), type(value).__module__}:
            return value
        tap = self._tapped_before.setdefault(id(value), _Tap(value, self))
        self._taps[id(tap.call)] = tap
        return tap.call

    def _register(self, value: Any, ref: Ref, depth: int) -> None:
        """Know this object again when it is passed on."""
        if isinstance(value, _SCALARS) or not depth:
            return
        before: Any = value.detach().clone() if isinstance(value, torch.Tensor) else None
        if isinstance(value, list | dict | set):
            before = value.copy()
        self._known.setdefault(id(value), (ref, value, before))
        for step, inner in _inside(value):
            self._register(inner, Ref(ref.variable, ref.path + step), depth - 1)

    def _frozen(self, value: Any, depth: int) -> Expr:
        """Return how to write a value as it is now. Raises _Unwritable."""
        if isinstance(value, _SCALARS) and not isinstance(value, enum.Enum):
            if isinstance(value, str | bytes) and len(value) > _MOST_NUMBERS:
                raise _Unwritable
            return Const(value)
        ref, kept, before = self._known.get(id(value), (None, None, None))
        if ref is not None and kept is value and _same(before, value):
            try:
                return Ref(ref.variable, ref.path, self._literal(value, depth))
            except _Unwritable:
                return ref
        return self._literal(value, depth)

    def _literal(self, value: Any, depth: int) -> Expr:
        if depth > 2 * _DEPTH:
            raise _Unwritable
        kind = type(value)
        match value:
            case torch.dtype():
                return Name(str(value))
            case torch.device():
                return Name(f"torch.device({str(value)!r})")
            case torch.Tensor() if not value.requires_grad and value.numel() <= _MOST_NUMBERS:
                if value.is_complex() or value.is_quantized:
                    raise _Unwritable
                return Array(value.detach().clone())
            case torch.Generator():
                return Seeded(value.initial_seed())
            case enum.Enum() if kind.__module__ == self._name:
                return Name(f"{self._name}.{kind.__qualname__}.{value.name}")
            case range():
                return Name(repr(value))
            case tuple() if hasattr(value, "_fields") and kind.__module__ == self._name:
                return self._made(value, {name: getattr(value, name) for name in value._fields})
            case list() | tuple() | set() | frozenset() if len(value) <= _MOST_NUMBERS:
                ordered = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
                items = tuple(self._frozen(item, depth + 1) for item in ordered)
                base = next(k for k in (list, tuple, set, frozenset) if isinstance(value, k))
                return Items(base.__name__, items)
            case dict() if len(value) <= _MOST_NUMBERS:
                flat = [self._frozen(each, depth + 1) for pair in value.items() for each in pair]
                return Table(tuple(flat))
        if dataclasses.is_dataclass(value) and kind.__module__ == self._name:
            given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            return self._made(value, given)
        if inspect.isroutine(value):
            if id(value) in self._taps:
                return Ref(-id(value))  # the answers are known later only
            name = getattr(value, "__name__", "")
            if getattr(value, "__module__", "") == self._name and name.isidentifier():
                return Name(f"{self._name}.{name}")
        raise _Unwritable

    def _made(self, value: Any, given: dict[str, Any]) -> Make:
        items = tuple(self._frozen(item, 1) for item in given.values())
        return Make(f"{self._name}.{type(value).__qualname__}", tuple(given), items)

    def _finished(self, call: Call) -> Call:
        from .program import changed

        def with_replies(node: Any) -> Any:
            if isinstance(node, Ref) and node.variable < 0:
                tap = self._taps[-node.variable]
                return Replies(tuple(tap.replies), max(0, tap.width))
            return node

        found = changed(call, with_replies)
        assert isinstance(found, Call)
        return found

    def reply(self, value: Any) -> Expr | None:
        """Return how to write what a test's own function answered, or None."""
        known, self._known = self._known, {}
        try:
            return self._frozen(value, 0)
        except _Unwritable:
            return None
        finally:
            self._known = known


class _Tap:
    """A test's own function, with what it answered so far."""

    def __init__(self, function: Callable[..., Any], log: Log) -> None:
        self.replies: list[Expr] = []
        self.width = 0
        """As of `Replies`."""
        self._function = function  # kept, so that its identity is not given to another

        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            width = _width(args, result)
            self.width = width if self.width in {0, width} else -1
            if len(self.replies) < _MOST_REPLIES:
                reply = log.reply(result)
                self.replies += [] if reply is None else [reply]
            return result

        self.call = call


def _filled(module: torch.nn.Module) -> list[tuple[int, int]]:
    return [(id(each), each._version) for each in module.parameters()]


def _width(args: Sequence[Any], reply: Any) -> int:
    """Return how long a row is where a reply has one for each token; -1 where it has none such."""
    tokens = args[0] if args else None
    if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
        return -1
    if not isinstance(reply, torch.Tensor) or not reply.is_floating_point():
        return -1
    if reply.dim() != 2 or len(reply) != len(tokens) or reply.shape[1] <= max(tokens, default=0):
        return -1
    return reply.shape[1]


def _inside(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(f".{name}", getattr(value, name)) for name in value._fields]
    if isinstance(value, list | tuple):
        return [(f"[{at}]", item) for at, item in enumerate(value[:8])]
    if dataclasses.is_dataclass(value):
        return [(f".{f.name}", getattr(value, f.name, None)) for f in dataclasses.fields(value)]
    return []


def _same(before: Any, value: Any) -> bool:
    if before is None:
        return True
    try:
        if isinstance(value, torch.Tensor):
            return bool(torch.equal(before, value.detach()))
        return bool(before == value)
    except (RuntimeError, ValueError, TypeError):
        return False
