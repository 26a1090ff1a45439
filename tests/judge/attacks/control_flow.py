"""Ways out of a call: ends, exceptions, signals, threads. One trial each; see test_forgeries.py.

The first word of a docstring is what must come of it. `answer(x, step)` should be `x * step(x)`.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import os
import signal
import sys
import threading
import time
import unittest
from typing import Any

import torch

LIE = torch.zeros(4)


def ends_the_process_with_success(*_: Any) -> None:
    """died: Code 0 is no verdict."""
    os._exit(0)


def ends_the_process_from_a_thread(*_: Any) -> None:
    """died: The thread that serves is not asked."""
    threading.Thread(target=os._exit, args=(0,)).start()
    time.sleep(60)


def exits(*_: Any) -> None:
    """raised: SystemExit(0) is an exception of the file, not of the judge."""
    print("== 2 passed in 0.01s ==")
    sys.exit(0)


def exits_with_a_last_word(*_: Any) -> None:
    """raised: What is registered for the exit is not run by it."""
    atexit.register(lambda: print("== 2 passed in 0.01s =="))
    atexit.register(os._exit, 0)
    raise SystemExit


def exits_in_a_finalizer(*_: Any) -> Any:
    """wrong: Nobody hears what `__del__` raises."""

    class Leaving:
        def __del__(self) -> None:
            sys.exit(0)

    Leaving()
    return LIE


def interrupts(*_: Any) -> None:
    """raised: As if Ctrl-C had been pressed."""
    raise KeyboardInterrupt


def closes_the_generator(*_: Any) -> None:
    """raised: GeneratorExit would end what iterates over the tests."""
    raise GeneratorExit


def stops_the_iteration(*_: Any) -> None:
    """raised: StopIteration would end what iterates over the tests."""
    raise StopIteration(LIE)


def cancels(*_: Any) -> None:
    """raised: CancelledError is no Exception."""
    raise asyncio.CancelledError


def skips_as_unittest_does(*_: Any) -> None:
    """raised: pytest takes this class for a skipped test."""
    raise unittest.SkipTest("not on this machine")


def skips_as_pytest_does(*_: Any) -> None:
    """raised: A class with the name, the module and the bases of pytest's own."""
    outcome = type("OutcomeException", (BaseException,), {"__module__": "_pytest.outcomes"})
    skipped = type("Skipped", (outcome,), {"__module__": "_pytest.outcomes"})
    raise skipped("not on this machine")


def ends_the_session_as_pytest_does(*_: Any) -> None:
    """raised: pytest's `Exit` ends a run, with a code of one's choice."""
    members = {"__module__": "_pytest.outcomes", "returncode": 0}
    raise type("Exit", (Exception,), members)("done")


def fails_as_expected(*_: Any) -> None:
    """raised: pytest's `xfail` makes a failure of a test harmless."""
    raise type("XFailed", (BaseException,), {"__module__": "_pytest.outcomes"})("known")


def raises_a_group(*_: Any) -> None:
    """raised: Several at once, some of which would steer a run."""
    raise BaseExceptionGroup("all", [KeyboardInterrupt(), SystemExit(0), ValueError("x")])


def raises_what_claims_to_be_something_else(*_: Any) -> None:
    """raised: `__class__` lies, and so do the name and the bases."""

    class Kind(type):
        def __instancecheck__(cls, _: object) -> bool:
            return True

        __subclasscheck__ = __instancecheck__

    class StopTesting(Exception, metaclass=Kind):
        __class__ = property(lambda _: KeyboardInterrupt)

    StopTesting.__name__ = StopTesting.__qualname__ = "KeyboardInterrupt"
    raise StopTesting


def raises_an_exception_that_cannot_be_told(*_: Any) -> None:
    """died: Its text ends the worker, which is the worker's own end."""

    class Untold(Exception):
        def __str__(self) -> str:
            raise SystemExit(0)

    raise Untold


def recurses_without_end(*_: Any) -> Any:
    """raised: RecursionError comes back as itself."""
    return recurses_without_end()


def recurses_beyond_the_stack(*_: Any) -> Any:
    """died: Without Python's own limit the stack ends first."""

    class Deeper:
        def __getattr__(self, name: str) -> Any:
            return getattr(self, name)

    sys.setrecursionlimit(1 << 30)
    return repr(Deeper().deeper)


def traces_every_line(*_: Any) -> Any:
    """wrong: A tracer sees and changes the worker's frames, where there is nothing to win."""

    def trace(frame: Any, *_: Any) -> Any:
        for name in ("verdict", "outcome", "kept", "expected"):
            frame.f_locals[name] = True
        return trace

    sys.settrace(trace)
    sys.setprofile(trace)
    threading.settrace(trace)
    return LIE


def kills_itself(*_: Any) -> None:
    """died: By the signal that cannot be handled."""
    signal.raise_signal(signal.SIGKILL)


def crashes(*_: Any) -> None:
    """died: By reading from the address 0."""
    ctypes.string_at(0)


def aborts(*_: Any) -> None:
    """died: The way of an assertion in C."""
    os.abort()


def is_interrupted_by_its_own_alarm(*_: Any) -> None:
    """raised: The handler raises in the middle of the worker's code."""

    def handler(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(60)


def ignores_every_signal(*_: Any) -> Any:
    """wrong: The one that ends a worker cannot be ignored."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_IGN)
        except OSError:  # libc keeps two for itself
            continue
    return LIE


def leaves_a_thread_that_prints_a_verdict(*_: Any) -> Any:
    """wrong: It outlives the call and is ended with its process."""

    def go_on() -> None:
        while True:
            print("== 2 passed in 0.01s ==", flush=True)
            time.sleep(0.001)

    threading.Thread(target=go_on).start()
    return LIE


def puts_its_answer_right_afterwards(x: torch.Tensor, step: Any) -> Any:
    """wrong: What was answered is no longer the file's to change."""
    answered = torch.zeros(4)
    right = (x * step(x)).detach()

    def put_right() -> None:
        while True:
            answered.copy_(right)

    threading.Thread(target=put_right, daemon=True).start()
    return answered.clone() * 0


def calls_back_from_a_thread(x: torch.Tensor, step: Any) -> Any:
    """wrong: The callback is refused there, and the answer is none."""
    told: list[Any] = [LIE]

    def ask() -> None:
        try:
            told[0] = x * step(x)
        except RuntimeError:
            told[0] = LIE

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return told[0]


def answers_with_a_coroutine(*_: Any) -> Any:
    """wrong: Nobody awaits it."""

    async def later() -> torch.Tensor:
        return LIE

    return later()


def closes_all_descriptors(*_: Any) -> Any:
    """died: Without the pipes there is no answer."""
    os.closerange(0, 64)
    return LIE


def becomes_another_program(*_: Any) -> Any:
    """raised: The kernel refuses, and the exception is the file's."""
    os.execv(sys.executable, [sys.executable, "-c", "print('== 2 passed in 0.01s ==')"])
