"""Runs a program beside two files, in this process, and tells what they answer differently."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch

from .effort import Effort, Hangs
from .observing import difference
from .program import Call, Program, uses
from .text import ELSEWHERE, Script, Step, every_step

_HANG_STEPS = 40
"""What a program that hangs costs of the budget."""
_DRAWS = range(1, 5)
_OTHER_DRAWS = range(5, 9)
_MOST_PRINTED = 400
_PRINTED_LINES = 3
"""Lines of output that cost a reader as much as one of the script."""


class How(IntEnum):
    """How two files are told apart, the plainest first."""

    VALUE = 0
    REFUSED = 1
    """The correct file raises, and rightly; the other answers."""
    RAISED = 2
    """The other file raises where it should answer."""
    RAISED_OTHERWISE = 3
    """Both raise, each something else."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A script that prints different things."""

    text: str
    correct: str
    buggy: str
    how: How

    @property
    def size(self) -> tuple[int, int, int, int]:
        """How much a reader is asked to understand and to read: `how`, oddness, lines, characters.

        Where the correct file answers NaN, the input is one that nobody should give it.
        """
        lines = [line for line in self.text.splitlines() if line]
        long = sum(max(0, (len(line) - 1) // 100) for line in lines)
        printed = max(self.correct.count("\n"), self.buggy.count("\n"))
        long += printed // _PRINTED_LINES
        characters = len(self.text) + len(self.correct) + len(self.buggy)
        return (self.how, "nan" in self.correct, len(lines) + long, characters)

    @property
    def lines(self) -> int:
        """Lines to read, long ones and what is printed counted in."""
        return self.size[2]


class Beside:
    """Two files of one name, to run the same script beside either."""

    def __init__(self, name: str, correct: str, buggy: str) -> None:
        self.name = name
        self.steps = 0
        """Programs tried so far."""
        self.hung = 0
        """Programs of which a call hung when they were walked."""
        self._draw = 0
        """Of which seed the system's unpredictable numbers are."""
        self._effort = Effort()
        self._loads = [self._effort.loader(name, text) for text in (correct, buggy)]
        self._modules = [self._load(load) for load in self._loads]

    def show(self, written: Script) -> Shown | None:
        """Return what the script prints beside either file where that differs, else None."""
        self.steps += 1
        try:
            ends = [self._run(module, written) for module in self._modules]
            self._effort.begin()
            return self._compared(written, *ends)
        except Hangs:
            self.steps += _HANG_STEPS
            return None

    def _compared(self, written: Script, correct: _End | None, buggy: _End | None) -> Shown | None:
        if correct is None or buggy is None:
            return None
        if correct.raised or buggy.raised:
            if correct.raised == buggy.raised:
                return None
            how = How.REFUSED if correct.raised else How.RAISED
            if correct.raised and buggy.raised:
                how = How.RAISED_OTHERWISE
            return self._shown(written.with_try(), how)
        for name in written.shown:
            found = looked(correct.names, buggy.names, name)
            if found is None:
                continue
            printed = [_printed_of(found, end.names) for end in (correct, buggy)]
            if None not in printed and printed[0] != printed[1]:
                text = written.with_print(found)
                return Shown(text, str(printed[0]), str(printed[1]), How.VALUE)
        return None

    def walk(self, program: Program) -> Program | None:
        """Return the beginning of a program up to the first call that tells the files apart.

        Calls that raise beside both, or need what such a call would have answered, are left out.
        """
        steps = every_step(self.name, program)
        sides = [_Side(self, module, steps.head) for module in self._modules]
        if any(side.failed for side in sides):
            return None
        kept: list[Call] = []
        lost: set[int] = set()
        for call, step in zip(program.calls, steps.steps, strict=True):
            if uses(call) & lost:
                lost.add(call.variable)
                continue
            correct, buggy = (side.run(step) for side in sides)
            if correct is None or buggy is None:
                self.hung += 1
                return None
            if correct != buggy or (not correct and self._told_apart(sides, step)):
                return replace(program, calls=(*kept, call))
            if correct:
                lost.add(call.variable)
            else:
                kept.append(call)
        return None

    def _told_apart(self, sides: Sequence[_Side], step: Step) -> bool:
        correct, buggy = (side.names for side in sides)
        try:
            self._effort.begin()
            return any(looked(correct, buggy, name) for name in step.shown)
        except Hangs:
            return False

    def _shown(self, text: str, how: How) -> Shown | None:
        printed = [self._printed(module, text) for module in self._modules]
        if None in printed or printed[0] == printed[1]:
            return None
        return Shown(text, str(printed[0]), str(printed[1]), how)

    def is_steady(self, shown: Shown) -> bool:
        """Tell whether the script prints the same whatever the system draws."""
        return self._prints_again(shown, self._modules, _DRAWS)

    def holds(self, shown: Shown) -> bool:
        """Tell whether the script prints the same again beside files that were never run."""
        return all(
            self._prints_again(shown, [self._load(load) for load in self._loads], [draw])
            for draw in _OTHER_DRAWS
        )

    def _prints_again(
        self, shown: Shown, modules: Sequence[types.ModuleType], draws: Iterable[int]
    ) -> bool:
        try:
            for self._draw in draws:
                printed = [self._printed(module, shown.text) for module in modules]
                if printed != [shown.correct, shown.buggy]:
                    return False
        finally:
            self._draw = 0
        return True

    @contextlib.contextmanager
    def running(self, module: types.ModuleType) -> Iterator[None]:
        """Let `import <name>` find this module. Raises Hangs in what does not end."""
        sys.modules[self.name] = module
        random.seed(0)
        np.random.seed(0)
        torch.default_generator.manual_seed(0)
        self._effort.begin()
        try:
            with system_draws(self._draw):
                yield
        finally:
            del sys.modules[self.name]

    def _load(self, load: Callable[[], types.ModuleType]) -> types.ModuleType:
        self._effort.begin()
        return load()

    def _printed(self, module: types.ModuleType, text: str) -> str | None:
        """Return what a script prints, or None where it raises or prints too much."""
        out = io.StringIO()
        try:
            with self.running(module), contextlib.redirect_stdout(out):
                exec(compile(text, "<script>", "exec"), {"__name__": "__main__"})
        except (Exception, SystemExit, Hangs):
            return None
        return _readable(out.getvalue())

    def _run(self, module: types.ModuleType, written: Script) -> _End | None:
        """Run the calls; None where one raises that is not the last. Raises Hangs."""
        names: dict[str, Any] = {"__name__": "__main__"}
        try:
            with self.running(module):
                before = "\n".join((*written.head, *written.body))
                exec(compile(before, "<script>", "exec"), names)
                try:
                    with torch.device(ELSEWHERE) if written.elsewhere else contextlib.nullcontext():
                        names[written.answer] = eval(written.last, names)
                except Exception as error:
                    return _End(names, type(error).__name__)
                return _End(names, "")
        except (Exception, SystemExit):
            return None


@contextlib.contextmanager
def system_draws(seed: int) -> Iterator[None]:
    """Let what no one can predict (`os.urandom`, `secrets`) be the numbers of this seed.

    So a search takes the same way each time, and what it prints can be tried under other numbers.
    """
    before = os.urandom
    numbers = random.Random(seed).randbytes
    os.urandom = random._urandom = numbers  # type: ignore[attr-defined]
    try:
        yield
    finally:
        os.urandom = random._urandom = before  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class _End:
    names: dict[str, Any]
    raised: str
    """Type of what the last call raised, or empty."""


class _Side:
    """One file, beside which a long program runs call by call."""

    def __init__(self, beside: Beside, module: types.ModuleType, head: tuple[str, ...]) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._beside = beside
        self._module = module
        self._random: Any = None
        self.failed = self._within(lambda: exec("\n".join(head), self.names)) != ""

    def run(self, step: Step) -> str | None:
        """Run one call; return the type of what it raises, or empty. None where it hangs."""

        def call() -> None:
            self.names[step.name] = eval(step.text, self.names)

        return self._within(call)

    def _within(self, act: Callable[[], None]) -> str | None:
        try:
            with self._beside.running(self._module):
                if self._random is not None:
                    torch.set_rng_state(self._random[0])
                    random.setstate(self._random[1])
                try:
                    act()
                finally:
                    self._random = (torch.get_rng_state(), random.getstate())
        except Exception as error:
            return type(error).__name__
        except (SystemExit, Hangs):
            return None
        return ""


def looked(correct: dict[str, Any], buggy: dict[str, Any], name: str) -> str | None:
    """Return what tells two values of that name apart, as an expression, or None."""
    try:
        return difference(correct[name], buggy[name], name)
    except Exception:
        return None  # some property refuses to be asked now


def _printed_of(shown: str, names: dict[str, Any]) -> str | None:
    """Return what `print` makes of an expression after a run, or None as for a script."""
    out = io.StringIO()
    try:
        print(eval(shown, names), file=out)
    except Exception:
        return None
    return _readable(out.getvalue())


def _readable(printed: str) -> str | None:
    printed = printed.rstrip("\n")
    if not printed or len(printed) > _MOST_PRINTED or " at 0x" in printed:
        return None
    return printed
