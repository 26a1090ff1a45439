"""Files that take all they can get. One trial each, with short limits; see test_forgeries.py.

The first word of a docstring is what must come of it. `answer(x, step)` should be `x * step(x)`.
"""

from __future__ import annotations

import gc
import itertools
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch

LIE = torch.zeros(4)


def honest(x: torch.Tensor, step: Any) -> Any:
    return x * step(x)


def sleeps(*_: Any) -> None:
    """timed_out: It does not even use the processor."""
    while True:
        time.sleep(60)


def holds_the_interpreters_lock(*_: Any) -> None:
    """timed_out: No thread of the worker would get a turn to stop it."""
    re.fullmatch("(a*)*b", "a" * 64)


def stops_itself(*_: Any) -> None:
    """timed_out: A stopped process can still be killed."""
    signal.raise_signal(signal.SIGSTOP)


def prints_without_end(*_: Any) -> None:
    """timed_out: The judge reads on and keeps the beginning."""
    while True:
        os.write(1, b"== 2 passed in 0.01s ==\n" * 4096)


def answers_a_byte_at_a_time(*_: Any) -> None:
    """timed_out: There always is something to read, and never an answer."""
    server = next(each for each in gc.get_objects() if type(each).__name__ == "Server")
    os.write(server._connection._write_fd, b"\xff\xff\x00\x00")
    while True:
        os.write(server._connection._write_fd, b" ")
        time.sleep(0.01)


def calls_back_without_end(x: torch.Tensor, step: Any) -> None:
    """timed_out: The time of a call holds for all that it calls back."""
    while True:
        step(x)


def has_an_endless_text(*_: Any) -> None:
    """timed_out: The text of an exception is part of the call."""

    class Endless(Exception):
        def __str__(self) -> str:
            return "x" * sum(1 for _ in itertools.count())

    raise Endless


def yields_without_end(*_: Any) -> Iterator[int]:
    """timed_out: Every item is in time, but not all together."""
    while True:
        yield 0


def yields_more_than_fits(*_: Any) -> Iterator[Any]:
    """invalid: Every item may be sent, but not all that the judge would have to keep."""
    item = torch.zeros(1 << 18)
    while True:
        yield item


def hoards_memory(*_: Any) -> Any:
    """raised: A MemoryError, and none of the judge's."""
    hoard = []
    while True:
        hoard.append(bytearray(64 << 20))


def hoards_tensors(*_: Any) -> Any:
    """raised: torch has no more to give either."""
    hoard = []
    while True:
        hoard.append(torch.ones(16 << 20))


def answers_a_terabyte(*_: Any) -> Any:
    """invalid: One element, expanded; noticed before it is made whole."""
    return torch.zeros(1).expand(1 << 40)


def answers_tensors_without_end(*_: Any) -> Any:
    """invalid: More buffers than a message may have."""
    return [torch.zeros(1)] * 5000


def raises_a_text_without_end(*_: Any) -> None:
    """raised: Two hundred megabytes, of which two thousand characters cross."""
    raise ValueError("x" * (200 << 20))


def raises_a_class_with_a_long_history(*_: Any) -> None:
    """invalid: A class with more classes above it than any exception has."""
    kind: type[Exception] = Exception
    for number in range(200):
        kind = type(f"Level{number}", (kind,), {})
    raise kind("deep")


def starts_threads_without_end(x: torch.Tensor, step: Any) -> Any:
    """fixed: They end with the worker, and the answer is right."""
    wait = threading.Event().wait
    for _ in range(200):
        try:
            threading.Thread(target=wait, daemon=True).start()
        except RuntimeError:
            break
    return honest(x, step)


def keeps_the_processor_busy_behind_its_answer(x: torch.Tensor, step: Any) -> Any:
    """fixed: Until the verdict, and not a moment longer."""

    def spin() -> None:
        while True:
            pass

    sys.setswitchinterval(1e-4)
    for _ in range(4):
        threading.Thread(target=spin, daemon=True).start()
    return honest(x, step)


def forks_without_end(x: torch.Tensor, step: Any) -> Any:
    """fixed: Every fork is refused."""
    for _ in range(100):
        try:
            child = os.fork()
        except PermissionError:
            continue
        if child == 0:
            time.sleep(60)
        return LIE
    return honest(x, step)


def opens_files_without_end(x: torch.Tensor, step: Any) -> Any:
    """fixed: Until there are no descriptors left; the pipes are open already."""
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return honest(x, step)


def fills_its_pipes(x: torch.Tensor, step: Any) -> Any:
    """fixed: What is written into pipes of its own is its own memory."""
    kept = []
    try:
        while True:
            ends = os.pipe()
            os.set_blocking(ends[1], False)
            os.write(ends[1], b"x" * (1 << 20))
            kept.append(ends)
    except OSError:
        return honest(x, step)
