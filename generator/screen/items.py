"""The tests of a subject, collected once by pytest and then called as plain functions."""

from __future__ import annotations

import random
import signal
import sys
import time
import types
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from ..judge.plugin import drawn_seed
from ..judge.tests_text import FILE_NAME, MODULE_NAME, TestsPlugin, TestsText, forget
from ..judge.trial import PYTEST_ARGUMENTS
from ..records import Outcome
from . import reach
from .subject import Subject, was_raised

_GIVEN = frozenset({"subject", "seed"})
_SLOWER = 10.0
"""Times the correct file's seconds that a mutant may take for an item, and"""
_GRACE_S = 2.0
"""seconds more."""
_ENOUGH = 300


class Unusable(Exception):
    """These tests want more of pytest than the screen has; the message is a sentence."""


class _Late(BaseException):
    """An item ran past its limit."""


@dataclass(frozen=True, slots=True)
class Item:
    """One run of a promise's function: a parametrised promise has several."""

    promise: str
    name: str
    """As pytest calls it: what the judge draws its seed from."""
    given: tuple[str, ...]
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Suite:
    """A module of tests, compiled once and executed anew for every file."""

    subject: str
    code: types.CodeType
    items: tuple[Item, ...]
    limits: dict[str, float]
    """Seconds that each item may take, by name; filled when the correct file has run."""

    def run(
        self,
        subject: Subject,
        *,
        seed: int,
        around: Callable[[Item], None] | None = None,
        spared: Container[str] = (),
    ) -> dict[str, tuple[Outcome, str]]:
        """Run every item; return how each promise fared and why, in the order of the file.

        The items named in `spared` are known to be kept, and not run.
        """
        found: dict[str, tuple[Outcome, str]] = {}
        with self._module(subject) as module:
            for item in self.items:
                if found.setdefault(item.promise, (Outcome.KEPT, ""))[0] is not Outcome.KEPT:
                    continue  # its first item that is not kept speaks for it
                if item.name in spared:
                    continue
                if around is not None:
                    around(item)
                found[item.promise] = self._run(item, module, subject, seed)
                if found[item.promise][0] is Outcome.TIMED_OUT:
                    break
        return found

    def measure(self, subject: Subject, *, seed: int) -> None:
        """Run the correct file, to know how long each item takes. Raises Unusable if one breaks."""
        with self._module(subject) as module:
            for item in self.items:
                begun = time.perf_counter()
                outcome, why = self._run(item, module, subject, seed)
                if outcome is not Outcome.KEPT:
                    raise Unusable(f"{item.name} breaks on the correct file when screened: {why}")
                taken = time.perf_counter() - begun
                self.limits[item.name] = _SLOWER * taken + _GRACE_S

    def calls(self, load: Callable[[], Subject], *, seed: int) -> dict[str, frozenset[str] | None]:
        """Return what each item runs of the correct file; None where that tells too little.

        Each has a file and a module of tests of its own, so that what an earlier one left in a
        cache hides no call. It tells too little of one that breaks when it is alone, and of one
        that looks at the text of the file.
        """
        found: dict[str, frozenset[str] | None] = {}
        for item in self.items:
            subject = load()
            with self._module(subject) as module, reach.calls(f"{self.subject}.py") as called:
                outcome, _ = self._run(item, module, subject, seed)
            tells = outcome is Outcome.KEPT and not subject.was_read
            found[item.name] = frozenset(called) if tells else None
        return found

    def _run(
        self, item: Item, module: types.ModuleType, subject: Subject, seed: int
    ) -> tuple[Outcome, str]:
        drawn = drawn_seed(seed, item.name)
        random.seed(drawn)
        np.random.seed(drawn)
        torch.default_generator.manual_seed(drawn)
        fixtures = {"subject": subject, "seed": drawn}
        function = getattr(module, item.promise)
        try:
            with _limit(self.limits.get(item.name, 0.0)):
                function(**{name: fixtures[name] for name in item.given}, **item.parameters)
        except _Late:
            return Outcome.TIMED_OUT, f"longer than {self.limits[item.name]:.1f} s"
        except (Exception, pytest.fail.Exception, SystemExit, KeyboardInterrupt) as error:
            why = f"{type(error).__name__}: {error}"[:_ENOUGH]
            return (Outcome.RAISED if was_raised(error) else Outcome.WRONG), why
        return Outcome.KEPT, ""

    @contextmanager
    def _module(self, subject: Subject) -> Iterator[types.ModuleType]:
        """Execute the tests afresh: nothing that they keep lives on from one file to the next."""
        module = types.ModuleType(MODULE_NAME)
        sys.modules[MODULE_NAME] = module
        sys.modules[self.subject] = subject.as_module()
        try:
            exec(self.code, module.__dict__)
            yield module
        finally:
            del sys.modules[self.subject]
            del sys.modules[MODULE_NAME]


def collect(name: str, tests: str, promises: Sequence[str], subject: Subject) -> Suite:
    """Let pytest find the items. Raises Unusable where they are not those of the manifest."""
    collector = _Collector(tests)
    sys.modules[name] = subject.as_module()
    try:
        pytest.main([*PYTEST_ARGUMENTS, "--collect-only"], plugins=[collector])
    finally:
        del sys.modules[name]
        forget()
    if collector.problem:
        raise Unusable(collector.problem)
    items = tuple(_item(item) for item in collector.items)
    found = {item.promise for item in items}
    if found != set(promises) or not items:
        raise Unusable(f"pytest finds other tests than the manifest: {sorted(found)}")
    code = compile(tests, FILE_NAME, "exec", dont_inherit=True)
    return Suite(name, code, items, {})


class _Collector(TestsPlugin):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.items: list[pytest.Item] = []

    @pytest.fixture(name="subject")
    def _subject(self) -> None:
        """Only for pytest to find; nothing is run by it."""

    @pytest.fixture(name="seed")
    def _seed(self) -> None:
        """Only for pytest to find; nothing is run by it."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.items = list(items)


def _item(item: pytest.Item) -> Item:
    if not isinstance(item, pytest.Function) or not isinstance(item.parent, TestsText):
        raise Unusable(f"{item.nodeid} is no plain function")
    parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
    given = [name for name in item._fixtureinfo.argnames if name not in parameters]
    others = [*given, *sorted(set(item.fixturenames) - set(parameters))]
    if unknown := [name for name in others if name not in _GIVEN]:
        raise Unusable(f"{item.name} wants the fixture {unknown[0]}, which only the judge has")
    if marks := {mark.name for mark in item.iter_markers()} - {"parametrize", "symptom"}:
        raise Unusable(f"{item.name} has the mark {min(marks)}, which only pytest understands")
    return Item(item.originalname, item.name, tuple(given), parameters)


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise _Late in what takes longer; 0 is no limit."""

    def late(_: int, __: object) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
