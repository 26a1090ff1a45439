"""The fixture `subject` without a judge: the module itself, which answers as the proxy would.

Arguments and results cross by value, so that a file which keeps or changes what it was given shows
itself in the same promises as under the judge.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map

from ..judge.worker import fingerprint
from ..judge.worker.accelerator import accelerator, outside, refuse_default

_RAISED = "_halfhour_raised"
_BY_A_TEST = "_halfhour_by_a_test"
_IMMUTABLE = frozenset({bool, bytes, float, int, str, types.NoneType, torch.device, torch.dtype})
"""Types of what is the same before and after it crosses, and after a call."""


def load(
    name: str, source: str | types.CodeType, names: Mapping[str, Any] = types.MappingProxyType({})
) -> types.ModuleType:
    """Execute a text, or what it was compiled to, as a module of that name that has these names."""
    if isinstance(source, str):
        source = compile(source, f"{name}.py", "exec", dont_inherit=True)
    module = types.ModuleType(name)
    module.__dict__.update(names)
    sys.modules[name] = module  # where dataclasses look up the module that is being executed
    try:
        exec(source, module.__dict__)
    finally:
        del sys.modules[name]
    return module


def was_raised(error: BaseException) -> bool:
    """Tell whether the file raised this, not a test."""
    return hasattr(error, _RAISED) and not hasattr(error, _BY_A_TEST)


class Subject:
    """The fixture `subject`: the module, with what the judge's proxy offers besides."""

    def __init__(self, module: types.ModuleType, source: str = "") -> None:
        self._module = module
        self._inside = False
        self._devices: Callable[[], AbstractContextManager[None]] = nullcontext
        self._source = source
        self.was_read = False
        """Whether a test looked at the text."""
        self.mutated: tuple[fingerprint.Key, ...] = ()
        self.on_call: Callable[[str, tuple[Any, ...], dict[str, Any], Any], None] | None = None
        """Told of every call from outside, with what came back."""
        for owner in list(vars(module).values()):
            ours = inspect.isclass(owner) and owner.__module__ == module.__name__
            for name, method in list(vars(owner).items()) if ours else []:
                if inspect.isfunction(method) and name.removeprefix("__")[:1] != "_":
                    setattr(owner, name, self._recorded(method, skip=1))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return self._recorded(value, skip=0) if inspect.isfunction(value) else value

    def as_module(self) -> types.ModuleType:
        """Return what `import <name>` finds in a visible test."""
        module = types.ModuleType(self._module.__name__)
        module.__getattr__ = self.__getattr__  # type: ignore[method-assign]
        return module

    @property
    def source(self) -> str:
        """The text of the file."""
        self.was_read = True
        return self._source

    def fields(self, record: Any) -> dict[str, Any]:
        """Return the fields of a dataclass instance or a named tuple, by name."""
        if dataclasses.is_dataclass(record):
            return {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
        return dict(record._asdict())

    def seed(self, number: int) -> None:
        """Seed the global generators."""
        random.seed(number)
        np.random.seed(number % 2**32)
        torch.manual_seed(number)

    def rng_state(self) -> str:
        """Return a digest of the states of the global generators."""
        states = (random.getstate(), np.random.get_state(), torch.get_rng_state().tolist())
        return hashlib.sha256(repr(states).encode()).hexdigest()

    @contextmanager
    def accelerator(self) -> Iterator[None]:
        """Let calls find their tensors on a stand-in for another device."""
        self._devices = accelerator
        try:
            yield
        finally:
            self._devices = nullcontext

    def _recorded(self, function: Callable[..., Any], *, skip: int) -> Callable[..., Any]:
        """Give calls from outside copies of their arguments, and note which copies changed."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            passed, named = _rebuilt(_copy, args[skip:]), _rebuilt(_copy, kwargs)
            before = _fingerprints(passed, named)
            self._inside = True
            try:
                with self._devices():
                    result = function(*args[:skip], *passed, **named)
                    if self._devices is accelerator:
                        refuse_default(result)
            except BaseException as error:
                _mark(error, _RAISED)
                raise
            finally:
                self._inside = False
                self.mutated = fingerprint.changed(before, _fingerprints(passed, named))
            result = _rebuilt(_copy_back, result)
            if self.on_call is not None:
                self.on_call(function.__qualname__, args[skip:], kwargs, result)
            return result

        return call


def _rebuilt(change: Callable[[Any], Any], value: Any) -> Any:
    """Do what `tree_map` does, without its detours for what promises mostly pass."""
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if kind is torch.Tensor:
        return change(value)
    if kind is list:
        return [_rebuilt(change, item) for item in value]
    if kind is tuple:
        return tuple([_rebuilt(change, item) for item in value])
    if kind is dict:
        return {key: _rebuilt(change, item) for key, item in value.items()}
    return tree_map(change, value)


def _fingerprints(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[fingerprint.Key, Any]:
    """Return the fingerprint of every argument that a call can change."""
    arguments: list[tuple[fingerprint.Key, Any]] = [*enumerate(args), *kwargs.items()]
    return {
        key: fingerprint.fingerprint(value)
        for key, value in arguments
        if type(value) not in _IMMUTABLE
    }


def _copy(leaf: Any) -> Any:
    """Copy what crosses to another process by value; anything else stays the same object."""
    if isinstance(leaf, torch.Tensor):
        return _copy_back(leaf)
    if isinstance(leaf, torch.Generator):
        return leaf.clone_state()
    return _called_back(leaf) if inspect.isroutine(leaf) else _copy_back(leaf)


def _copy_back(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor):
        return leaf.clone() if leaf.requires_grad else leaf.detach().clone()
    return leaf.copy() if isinstance(leaf, np.ndarray | set) else leaf


def _called_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls a promise's own function as the other process would: by itself."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with outside():
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                _mark(error, _BY_A_TEST)
                raise

    return call


def _mark(error: BaseException, how: str) -> None:
    if not hasattr(error, how):
        setattr(error, how, True)
