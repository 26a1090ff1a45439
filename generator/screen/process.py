"""The process that mutants are forked from: imports torch and pytest once, never runs a mutant.

Talks to its caller in lines of JSON. A child tries several mutants, one after the other, and writes
a line for each; where it ends or hangs the next child goes on with the rest.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import select
import signal
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from ..records import Outcome
from . import reach
from .differences import Recorder, first_difference
from .items import Suite, Unusable, collect
from .reach import Reach
from .subject import Subject, load
from .tracer import Tracer

Json = dict[str, Any]
_BATCH = 8
"""Mutants for one child: enough that forking costs little, few enough that they stay apart."""
_WORTH_TRACING = 4
"""Mutants that together save more than it takes to trace the promises on the correct file."""
_STUCK_S = 60.0
"""For one mutant, whatever it waits for; its items have limits of their own."""
PATIENCE_S = 600.0
"""For what always ends of itself, and that a puzzle's text depends on: no machine is so busy."""
_MEMORY = 4 << 30
_ENOUGH = 300


def main(more: Mapping[str, Serve] = types.MappingProxyType({})) -> None:
    """Serve requests until the caller is gone: our own, and `more` by their names."""
    served = {**_DO, **more}
    requests, answers = _take_the_pipes()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    known: dict[str, Prepared] = {}
    for line in requests:
        request = json.loads(line)
        key = json.dumps(request["subject"], sort_keys=True)
        try:
            if key not in known:
                known.clear()  # one subject after the other
                known[key] = _prepared(request)
            answer = served[request["do"]](known[key], request)
        except Unusable as error:
            answer = {"problem": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _take_the_pipes() -> tuple[Iterator[str], Any]:
    """Keep the caller's pipes to ourselves: nothing that is printed gets into the talk."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="surrogatepass")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogatepass")
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(nothing, fd)
    return iter(requests.readline, ""), answers


def _prepared(request: Json) -> Prepared:
    try:
        return Prepared(request["subject"], request["seeds"])
    except (Unusable, MemoryError):
        raise
    except Exception as error:  # the file would do it again
        raise Unusable(f"it raises {type(error).__name__}: {error}"[:_ENOUGH]) from error


class Prepared:
    """A correct file with its tests, collected and run once."""

    def __init__(self, told: Json, seeds: Sequence[int]) -> None:
        self.name: str = told["name"]
        self.source: str = told["source"]
        self._code = self.compiled(self.source)
        self._bodies = reach.bodies(self._code)
        self._reaches: dict[int, Reach] = {}
        correct = self.subject(self.source)
        self.hidden = collect(self.name, told["hidden_tests"], told["promises"], correct)
        self.visible = collect(self.name, told["visible_tests"], told["visible"], correct)
        for suite in (self.visible, self.hidden):
            suite.measure(correct, seed=seeds[0])
        _make_ready_to_fork()

    def compiled(self, source: str) -> types.CodeType:
        return compile(source, f"{self.name}.py", "exec", dont_inherit=True)

    def subject(self, source: str, code: types.CodeType | None = None) -> Subject:
        return Subject(load(self.name, code or self.compiled(source)), source)

    def trace(self, seeds: Sequence[int]) -> None:
        """Learn what the promises run of the correct file under these seeds."""
        new = [seed for seed in seeds if seed not in self._reaches]
        for seed in new:
            with reach.calls(f"{self.name}.py") as when_loaded:
                self.subject(self.source, self._code)
            found = self.hidden.calls(lambda: self.subject(self.source, self._code), seed=seed)
            self._reaches[seed] = Reach(frozenset(when_loaded), found)
        if new:
            _make_ready_to_fork()

    def spared(self, bodies: reach.Bodies, seed: int) -> frozenset[str]:
        """Return the hidden tests that what is changed does not reach, as far as is known."""
        if seed not in self._reaches:
            return frozenset()
        return self._reaches[seed].spared(reach.changed_functions(self._bodies, bodies))


def _make_ready_to_fork() -> None:
    if threading.active_count() > 1:
        raise Unusable("the correct file leaves a thread behind, which no fork takes along")
    gc.collect()
    gc.freeze()  # or every child would copy all that the collector touches


# --- what the caller may ask

Serve = Callable[[Prepared, Json], Json]


def _sift(prepared: Prepared, request: Json) -> Json:
    """Try every text on the visible and the hidden tests."""
    texts: list[str] = request["texts"]
    if len(texts) >= _WORTH_TRACING:
        prepared.trace(request["seeds"])
    found: list[Json] = []
    while len(found) < len(texts):
        rest = texts[len(found) : len(found) + _BATCH]
        found += in_a_child(lambda text: _try(prepared, text, request["seeds"]), rest)
    return {"sifted": found}


def _try(prepared: Prepared, text: str, seeds: Sequence[int]) -> Json:
    try:
        code = prepared.compiled(text)
        subject = prepared.subject(text, code)
    except BaseException as error:
        return {"unloaded": f"{type(error).__name__}: {error}"[:_ENOUGH]}
    visible = prepared.visible.run(subject, seed=seeds[0])
    if _broken(visible):
        return {"visible": visible, "runs": []}
    runs = []
    bodies = reach.bodies(code)
    for seed in seeds:
        spared = prepared.spared(bodies, seed)
        runs.append(prepared.hidden.run(subject, seed=seed, spared=spared))
        if any(outcome is Outcome.TIMED_OUT for outcome, _ in runs[-1].values()):
            break
    return {"visible": visible, "runs": runs}


def _broken(found: dict[str, tuple[Outcome, str]]) -> bool:
    return any(outcome is not Outcome.KEPT for outcome, _ in found.values())


def _profile(prepared: Prepared, request: Json) -> Json:
    """Trace the correct file under all promises."""

    def trace(_: str) -> Json:
        tracer = Tracer(f"{prepared.name}.py")
        subject = prepared.subject(prepared.source)
        suite = Suite(prepared.name, prepared.hidden.code, prepared.hidden.items, {})
        with tracer.following():
            suite.run(subject, seed=request["seeds"][0], around=tracer.begin)
        return {"depths": tracer.depths, "kinds": {k: v for k, v in tracer.kinds.items() if v}}

    return in_a_child(trace, [""], patience=PATIENCE_S)[0]


def _difference(prepared: Prepared, request: Json) -> Json:
    """Look for a call of the promises that a text answers otherwise than the correct file."""

    def recorded(text: str, seed: int) -> Recorder:
        subject, recorder = prepared.subject(text), Recorder()
        subject.on_call = recorder.note
        prepared.hidden.run(subject, seed=seed, around=recorder.begin)
        return recorder

    def compare(text: str) -> Json:
        for seed in request["seeds"]:
            found = first_difference(recorded(prepared.source, seed), recorded(text, seed))
            if found:
                return {"difference": found}
        return {"difference": ""}

    return in_a_child(compare, [request["text"]])[0]


_DO: dict[str, Serve] = {
    "sift": _sift,
    "profile": _profile,
    "difference": _difference,
}


# --- children


def in_a_child(
    work: Callable[[str], Json], texts: Sequence[str], *, patience: float = _STUCK_S
) -> list[Json]:
    """Do the work on the texts in one child, so many seconds on each.

    The last answer says so where the child `ended`, and whether it was `killed`: by us, who had
    waited long enough, or by the machine. Otherwise it ended of itself, as it would again.
    """
    read_fd, write_fd = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(read_fd)
            _work(work, texts, write_fd)
        finally:
            os._exit(0)
    os.close(write_fd)
    try:
        answers = list(_lines(read_fd, len(texts), patience))
    finally:
        os.close(read_fd)
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    found: list[Json] = [json.loads(line) for line in answers]
    if len(found) < len(texts):
        # A child that is ending already keeps the status with which it ends.
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        found.append({"ended": True, "killed": killed})
    return found


def _work(work: Callable[[str], Json], texts: Sequence[str], write_fd: int) -> None:
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    for text in texts:
        line = (json.dumps(work(text)) + "\n").encode("utf-8", "surrogatepass")
        while line:
            line = line[os.write(write_fd, line) :]


def _lines(read_fd: int, count: int, patience: float) -> Iterator[bytes]:
    """Yield the lines that a child writes, until it ends or is stuck."""
    waiting = b""
    deadline = time.monotonic() + patience
    while count:
        ready, _, _ = select.select([read_fd], [], [], max(0.0, deadline - time.monotonic()))
        part = os.read(read_fd, 1 << 16) if ready else b""
        if not part:
            return
        waiting += part
        *whole, waiting = waiting.split(b"\n")
        for line in whole:
            yield line
            count -= 1
            deadline = time.monotonic() + patience
