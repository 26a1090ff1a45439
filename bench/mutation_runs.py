"""Run the promises of a file on its mutants, each mutant in a forked child of a warm process.

A child runs the promises that call the mutated function, those first that killed lately, and stops
at the first that is broken. Time and memory are limited; a mutant that exceeds them is killed.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from inprocess import Subject, failure, load, promises_in
from mutation_texts import Mutant

SEEDS = (0, 1, 2)
MEMORY = 4 << 30  # bytes of data of one child
SLOWER = 10  # times the correct file's time of the processor are a promise's limit, and
GRACE_S = 1.0  # seconds more
STUCK_S = 600  # for a child that waits for something
POLL_S = 0.005
SURVIVED, BREAKS_WHEN_LOADED = 0, 255  # exit codes; between them the number of a promise


class NotKeptError(Exception):
    """The correct file itself breaks a promise in this process."""


@dataclass(frozen=True, slots=True)
class _Promise:
    """What a run on the correct file tells about a promise."""

    name: str
    seconds: float
    calls: frozenset[str]  # the outermost functions of the file that it runs
    draws: bool  # whether it takes a seed


class Runner:
    """Tells which mutants of one file survive all its promises."""

    def __init__(self, name: str, source: str, tests: str) -> None:
        self._name = name
        self._tests = compile(tests, f"{name}_hidden.py", "exec")
        with _calls(name) as when_loaded:
            subject = self._subject(source)
        module = self._promises()
        if not 0 < len(module) < BREAKS_WHEN_LOADED:
            raise NotKeptError(f"{name}: {len(module)} promises")
        self._when_loaded = frozenset(when_loaded)
        self._known = [self._learn(promise, subject) for promise in module.values()]
        self._lately = sorted(range(len(module)), key=lambda i: self._known[i].seconds)

    def survivors(
        self, mutants: Iterable[Mutant], *, jobs: int, sure: frozenset[tuple[str, str, int]]
    ) -> Iterator[Mutant]:
        """Yield the mutants that keep every promise, those in `sure` under one seed."""
        waiting = iter(mutants)
        running: dict[int, Mutant] = {}
        while True:
            while len(running) < jobs and (mutant := next(waiting, None)):
                running[self._fork(mutant, SEEDS[:1] if mutant.key in sure else SEEDS)] = mutant
            if not running:
                return
            child, code = _first_to_end(running)
            mutant = running.pop(child)
            if code == SURVIVED:
                yield mutant
            elif 0 < code < BREAKS_WHEN_LOADED:
                self._lately.remove(code - 1)
                self._lately.insert(0, code - 1)

    def _subject(self, text: str) -> Subject:
        return Subject(load(self._name, text))

    def _promises(self) -> dict[str, Callable[..., None]]:
        return promises_in(load(f"{self._name}_hidden", self._tests))

    def _learn(self, promise: Callable[..., None], subject: Subject) -> _Promise:
        name = promise.__name__
        draws = "seed" in promise.__code__.co_varnames[: promise.__code__.co_argcount]
        begun = time.process_time()
        with _calls(self._name) as calls:
            for seed in SEEDS if draws else SEEDS[:1]:
                error = failure(promise, subject, seed=seed)
                if error is not None:
                    raise NotKeptError(f"{self._name}: {name} with seed {seed}: {error!r}")
        return _Promise(name, time.process_time() - begun, frozenset(calls), draws)

    def _fork(self, mutant: Mutant, seeds: Sequence[int]) -> int:
        """Start a child that exits with what became of the mutant; return its process id."""
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        code = BREAKS_WHEN_LOADED
        try:
            _confine()
            code = self._outcome(mutant, seeds)
        finally:
            os._exit(code)

    def _outcome(self, mutant: Mutant, seeds: Sequence[int]) -> int:
        """Return 1 and the number of the promise that breaks first, or SURVIVED."""
        signal.setitimer(signal.ITIMER_PROF, GRACE_S)
        subject = self._subject(mutant.text)
        promises = list(self._promises().values())
        everywhere = mutant.scope is None or mutant.scope in self._when_loaded
        for seed in seeds:
            for i in self._lately:
                known = self._known[i]
                if not (everywhere or mutant.scope in known.calls):
                    continue
                if seed != seeds[0] and not known.draws:
                    continue
                signal.setitimer(signal.ITIMER_PROF, SLOWER * known.seconds + GRACE_S)
                try:
                    broken = failure(promises[i], subject, seed=seed) is not None
                except BaseException:  # a mutant that leaves the interpreter
                    broken = True
                if broken:
                    return i + 1
        return SURVIVED


def _first_to_end(children: Iterable[int]) -> tuple[int, int]:
    """Wait for one of some children; return it and its exit code, negative after a signal."""
    while True:
        for child in children:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return child, os.waitstatus_to_exitcode(status)
        time.sleep(POLL_S)


def _confine() -> None:
    """Limit this process, and let nothing of it be heard. An expired timer ends it."""
    for expired in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(expired, signal.SIG_DFL)
    signal.alarm(STUCK_S)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    warnings.simplefilter("ignore")


@contextmanager
def _calls(module_name: str) -> Iterator[set[str]]:
    """Collect the outermost functions of a loaded file that are called meanwhile."""
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == f"{module_name}.py":
            called.add(frame.f_code.co_qualname.split(".<locals>")[0])

    sys.setprofile(note)
    try:
        yield called
    finally:
        sys.setprofile(None)
