"""Run a subject's promises in this process, against its own text or against a changed text."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import itertools
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from halfhour.generator.judge.worker.accelerator import accelerator, outside, refuse_default

SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"
torch.set_num_threads(1)  # as the judge has it: on tiny tensors, more threads only wait


def source_of(subject_name: str, file_name: str = "") -> str:
    """Return the text of the correct file, or of another file of the subject."""
    return (SOLUTIONS / subject_name / (file_name or f"{subject_name}.py")).read_text("utf-8")


def load(name: str, source: str | types.CodeType) -> types.ModuleType:
    """Execute a text, or what it was compiled to, as a module of that name."""
    code = compile(source, f"{name}.py", "exec") if isinstance(source, str) else source
    module = types.ModuleType(name)
    sys.modules[name] = module  # where dataclasses look up the module that is being executed
    try:
        exec(code, module.__dict__)
    finally:
        del sys.modules[name]
    return module


def _copy(leaf: Any) -> Any:
    """Copy what crosses to another process by value; anything else stays the same object."""
    if isinstance(leaf, torch.Tensor):
        return leaf.detach().clone()
    if isinstance(leaf, torch.Generator):
        return leaf.clone_state()
    if inspect.isroutine(leaf):
        return _called_back(leaf)
    return leaf.copy() if isinstance(leaf, np.ndarray | set) else leaf


def _called_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls a promise's own function as the other process would: by itself."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with outside():
            return function(*args, **kwargs)

    return call


def _content(value: Any) -> str:
    """Describe what a call could change of a value that crosses to another process."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return repr(value.tolist())
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else value
        return repr([_content(item) for item in items])
    return repr(value) if type(value).__module__ == "builtins" else ""


class Subject:
    """The fixture `subject`: the module, with what the judge's proxy offers besides."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module
        self._inside = False
        self._devices: Callable[[], AbstractContextManager[None]] = nullcontext
        self.mutated: tuple[object, ...] = ()
        for owner in list(vars(module).values()):
            ours = inspect.isclass(owner) and owner.__module__ == module.__name__
            for name, method in list(vars(owner).items()) if ours else []:
                if inspect.isfunction(method) and name.removeprefix("__")[:1] != "_":
                    setattr(owner, name, self._recorded(method, skip=1))

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return self._recorded(value, skip=0) if inspect.isfunction(value) else value

    def _recorded(self, function: Callable[..., Any], *, skip: int) -> Callable[..., Any]:
        """Give calls from outside copies of their arguments, and note which copies changed."""

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            passed, named = tree_map(_copy, (args[skip:], kwargs))
            self._inside = True
            try:
                with self._devices():
                    result = function(*args[:skip], *passed, **named)
                    if self._devices is accelerator:
                        refuse_default(result)
                    return result
            finally:
                self._inside = False
                given = [*enumerate(args[skip:]), *kwargs.items()]
                pairs = zip(given, [*passed, *named.values()], strict=True)
                self.mutated = tuple(k for (k, v), copy in pairs if _content(v) != _content(copy))

        return call

    def fields(self, record: Any) -> dict[str, Any]:
        if dataclasses.is_dataclass(record):
            return {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
        return dict(record._asdict())

    def rng_state(self) -> str:
        states = (random.getstate(), np.random.get_state(), torch.get_rng_state().tolist())
        return hashlib.sha256(repr(states).encode()).hexdigest()

    @contextmanager
    def accelerator(self) -> Iterator[None]:
        self._devices = accelerator
        try:
            yield
        finally:
            self._devices = nullcontext


def _cases(promise: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each parametrised case; one empty case where there is none."""
    marks = [m for m in getattr(promise, "pytestmark", []) if m.name == "parametrize"]
    for rows in itertools.product(*(mark.args[1] for mark in marks)):
        case: dict[str, Any] = {}
        for mark, row in zip(marks, rows, strict=True):
            names = mark.args[0].replace(" ", "").split(",")
            case.update(zip(names, row if len(names) > 1 else [row], strict=True))
        yield case


def promises_in(tests: types.ModuleType) -> dict[str, Callable[..., None]]:
    """Return the promises of a module of hidden tests in the order of the file."""
    return {name: f for name, f in vars(tests).items() if name.startswith("test_")}


def failure(promise: Callable[..., None], subject: Subject, *, seed: int) -> BaseException | None:
    """Run a promise in its cases until one fails; return what failed."""
    drawn = int(hashlib.sha256(f"{seed}:{promise.__name__}".encode()).hexdigest()[:8], 16)
    fixtures = {"subject": subject, "seed": drawn}
    given = {k: fixtures[k] for k in inspect.signature(promise).parameters if k in fixtures}
    try:
        for case in _cases(promise):
            promise(**given, **case)
    except (Exception, pytest.fail.Exception) as error:
        return error
    return None


def broken_promises(
    subject_name: str, source: str | None = None, *, seed: int
) -> dict[str, BaseException]:
    """Run every hidden test on the file (or on `source`) and return what failed, by promise."""
    tests = load(f"{subject_name}_hidden", source_of(subject_name, "test_hidden.py"))
    promises = promises_in(tests)
    assert promises, f"no promise found for {subject_name}"
    subject = Subject(load(subject_name, source_of(subject_name) if source is None else source))
    failures = {name: failure(f, subject, seed=seed) for name, f in promises.items()}
    return {name: error for name, error in failures.items() if error is not None}
