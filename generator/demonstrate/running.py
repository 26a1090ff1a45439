"""Runs a program beside two files, in this process, and tells what they answer differently."""

from __future__ import annotations

import contextlib
import io
import random
import signal
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
import torch

from ..screen.subject import load
from .observing import difference
from .program import Call, Program, uses
from .text import Script, Step, every_step

_HANG_S = 0.5
"""Of the processor's time: how busy the machine is does not count."""
_HANG_STEPS = 40
"""What a program that hangs costs of the budget."""
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


@dataclass(frozen=True, slots=True)
class Shown:
    """A script that prints different things."""

    text: str
    correct: str
    buggy: str
    how: How

    @property
    def size(self) -> tuple[int, int, int]:
        """How much a reader is asked to read."""
        lines = [line for line in self.text.splitlines() if line]
        long = sum(max(0, (len(line) - 1) // 100) for line in lines)
        printed = max(self.correct.count("\n"), self.buggy.count("\n"))
        long += printed // _PRINTED_LINES
        return (self.how, len(lines) + long, len(self.text) + len(self.correct) + len(self.buggy))


class _Late(BaseException):
    """A script hangs."""


Load = Callable[[], types.ModuleType]


class Beside:
    """Two files of one name, to run the same script beside either."""

    def __init__(self, name: str, load_correct: Load, load_buggy: Load) -> None:
        self.name = name
        self.steps = 0
        """Programs tried so far."""
        self._loads = (load_correct, load_buggy)
        self._modules = (load_correct(), load_buggy())

    def show(self, written: Script) -> Shown | None:
        """Return what the script prints beside either file where that differs, else None."""
        self.steps += 1
        try:
            ends = [_run(self.name, module, written) for module in self._modules]
        except _Late:
            self.steps += _HANG_STEPS
            return None
        correct, buggy = ends
        if correct is None or buggy is None:
            return None
        if correct.raised or buggy.raised:
            if correct.raised == buggy.raised:
                return None
            return self._shown(_with_try(written), How.REFUSED if correct.raised else How.RAISED)
        for name in written.shown:
            found = looked(correct.names, buggy.names, name)
            if found is None:
                continue
            printed = [_printed(found, end.names) for end in ends if end is not None]
            if None not in printed and printed[0] != printed[1]:
                text = _with_print(written, found)
                return Shown(text, str(printed[0]), str(printed[1]), How.VALUE)
        return None

    def walk(self, program: Program) -> Program | None:
        """Return the beginning of a program up to the first call that tells the files apart.

        Calls that raise beside both, or need what such a call would have answered, are left out.
        """
        steps = every_step(self.name, program)
        sides = [_Side(self.name, module, steps.head) for module in self._modules]
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
                return None
            one, two = (side.names for side in sides)
            if correct != buggy or (not correct and any(looked(one, two, n) for n in step.shown)):
                return replace(program, calls=(*kept, call))
            if correct:
                lost.add(call.variable)
            else:
                kept.append(call)
        return None

    def _shown(self, text: str, how: How) -> Shown | None:
        printed = [printed_beside(self.name, module, text) for module in self._modules]
        if None in printed or printed[0] == printed[1]:
            return None
        return Shown(text, str(printed[0]), str(printed[1]), how)

    def holds(self, shown: Shown) -> bool:
        """Tell whether the script prints the same again beside files that were never run."""
        for _ in range(2):
            fresh = [load_anew() for load_anew in self._loads]
            printed = [printed_beside(self.name, module, shown.text) for module in fresh]
            if printed != [shown.correct, shown.buggy]:
                return False
        return True


@dataclass(frozen=True, slots=True)
class _End:
    names: dict[str, Any]
    raised: str
    """Type of what the last call raised, or empty."""


class _Side:
    """One file, beside which a long program runs call by call."""

    def __init__(self, name: str, module: types.ModuleType, head: tuple[str, ...]) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self._name = name
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
            with _beside(self._name, self._module):
                if self._random is not None:
                    torch.set_rng_state(self._random[0])
                    random.setstate(self._random[1])
                try:
                    act()
                finally:
                    self._random = (torch.get_rng_state(), random.getstate())
        except Exception as error:
            return type(error).__name__
        except (SystemExit, _Late):
            return None
        return ""


def looked(correct: dict[str, Any], buggy: dict[str, Any], name: str) -> str | None:
    """Return what tells two values of that name apart, as an expression, or None."""
    try:
        return difference(correct[name], buggy[name], name)
    except Exception:
        return None  # some property refuses to be asked now


def printed_beside(name: str, module: types.ModuleType, text: str) -> str | None:
    """Return what a script prints, or None where it raises or prints too much."""
    out = io.StringIO()
    try:
        with _beside(name, module), contextlib.redirect_stdout(out):
            exec(compile(text, "<script>", "exec"), {"__name__": "__main__"})
    except (Exception, SystemExit, _Late):
        return None
    return _readable(out.getvalue())


def _printed(shown: str, names: dict[str, Any]) -> str | None:
    """Return what `print` makes of an expression after a run, or None as `printed_beside` does."""
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


def _run(name: str, module: types.ModuleType, written: Script) -> _End | None:
    """Run the calls; None where one raises that is not the last. Raises _Late."""
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        with _beside(name, module):
            before = "\n".join((*written.head, *written.body))
            exec(compile(before, "<script>", "exec"), names)
            try:
                names[written.answer] = eval(written.last, names)
            except Exception as error:
                return _End(names, type(error).__name__)
            return _End(names, "")
    except (Exception, SystemExit):
        return None


def _with_print(written: Script, shown: str) -> str:
    body = [*written.head, *written.body]
    if shown == written.answer:
        return "\n".join([*body, f"print({written.last})"]) + "\n"
    needed = written.answer in shown
    last = f"{written.answer} = {written.last}" if needed else written.last
    return "\n".join([*body, last, f"print({shown})"]) + "\n"


def _with_try(written: Script) -> str:
    lines = [
        *written.head,
        *written.body,
        "try:",
        f"    {written.last}",
        '    print("answers")',
        "except Exception as error:",
        "    print(type(error).__name__)",
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _beside(name: str, module: types.ModuleType) -> Iterator[None]:
    """Let `import <name>` find this module, and end what hangs."""

    def late(_: int, __: object) -> None:
        raise _Late

    sys.modules[name] = module
    random.seed(0)
    np.random.seed(0)
    torch.default_generator.manual_seed(0)
    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, _HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        signal.signal(signal.SIGVTALRM, before)
        del sys.modules[name]


def load_plain(name: str, source: str) -> Callable[[], types.ModuleType]:
    """Return what executes a text anew as a module of that name."""
    code = compile(source, f"{name}.py", "exec", dont_inherit=True)
    return lambda: load(name, code)
