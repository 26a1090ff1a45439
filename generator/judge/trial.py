"""One trial in the court: load the submission into a worker, run the promises, rule."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from ..records import Outcome, VerdictKind
from . import comparison, tests_text
from .devices import CPU
from .ledger import Finding
from .limits import Limits
from .plain import plain
from .plugin import PromisesPlugin
from .remote import Remote
from .remote_errors import CallTimedOut, ProtocolViolation, TestAuthorError, WorkerDied, WorkerFault
from .session import Session, Talker
from .subject import Subject, module_of
from .worker.frames import Json

_HERE = Path(__file__).resolve().parent
_MAX_LINE = 1 << 20
"""A line beyond is none: the submission may say what it likes."""
_UNWANTED_PLUGINS = (
    *("cacheprovider", "debugging", "doctest", "faulthandler", "junitxml", "logging", "pastebin"),
    *("setuponly", "setupplan", "stepwise", "terminal", "threadexception"),
    "unraisableexception",  # collects garbage five times at the end of every run
)
PYTEST_ARGUMENTS = (
    str(Path(__file__).resolve()),  # any module: the plugin puts the tests in its place
    *("-c", os.devnull, f"--rootdir={_HERE}", "--noconftest"),
    *("--strict-markers", "--assert=plain", "--capture=no"),
    *(f"-pno:{name}" for name in _UNWANTED_PLUGINS),
)


@dataclass(frozen=True, slots=True)
class Task:
    """What the court is told of a trial."""

    name: str
    source: str
    tests: str
    promises: tuple[str, ...]
    public_names: tuple[str, ...]
    seed: int
    device: str = CPU
    hasty: bool = False
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the court finds; the reason is one sentence that a candidate may read."""

    kind: VerdictKind
    reason: str


class Unloadable(Exception):
    """The submission does not load; the message is a sentence."""


def hold(
    task: Task,
    worker: Talker,
    limits: Limits,
    *,
    begun: Callable[[str], None],
    ended: Callable[[Finding], None],
) -> Ruling:
    """Judge a submission with a worker that waits for one."""
    if not task.name.isidentifier() or task.name in sys.modules:
        return Ruling(VerdictKind.ENVIRONMENT, f"no file can be judged as {task.name!r}")
    session = Session(worker, limits, end=time.monotonic() + limits.verdict_s)
    remote = Remote(session, limits)
    try:
        _load(task, remote, limits)
    except Unloadable as error:
        return Ruling(VerdictKind.INVALID, str(error))
    except TestAuthorError as fault:
        return Ruling(VerdictKind.ENVIRONMENT, str(fault))
    subject = Subject(remote, task.source)
    plugin = PromisesPlugin(
        task.tests,
        task.promises,
        session,
        subject,
        seed=task.seed,
        hasty=task.hasty,
        begun=begun,
        ended=ended,
    )
    module = module_of(subject, remote, task.name)
    with _importable(task.name, module), comparison.for_device(task.device):
        status = pytest.main(list(PYTEST_ARGUMENTS), plugins=[plugin])
    return _rule(task, plugin, session.fault, status)


def _load(task: Task, remote: Remote, limits: Limits) -> None:
    """Load the submission. Raises Unloadable."""
    file = f"{task.name}.py"
    digest = hashlib.sha256(f"{task.seed}:worker".encode()).digest()
    seed = int.from_bytes(digest[:4], "little")  # repeatable, and tells nothing of the tests' seeds
    try:
        answer = remote.load(
            task.name, task.source, task.public_names, seed=seed, threads=task.threads
        )
    except CallTimedOut:
        raise Unloadable(f"importing {file} takes longer than {limits.load_s:g} s") from None
    except WorkerDied:
        raise Unloadable(f"the process ends while {file} is imported") from None
    except ProtocolViolation as fault:
        raise Unloadable(f"{file} does not keep to the judge's protocol: {fault}") from None
    if answer["answer"] != "ok":
        raise Unloadable(_load_failure(file, answer))
    match answer["value"]:
        case []:
            return
        case [*missing] if all(type(name) is str for name in missing):
            names = ", ".join(name for name in task.public_names if name in missing)
            raise Unloadable(f"{file} no longer offers {names}")
    raise Unloadable(f"{file} does not keep to the judge's protocol: it answered no names")


def _load_failure(file: str, answer: dict[str, Json]) -> str:
    kind, message = (plain(str(answer.get(key)), limit=200) for key in ("error", "message"))
    line, absent = answer.get("line"), answer.get("absent")
    where = f" (line {line})" if type(line) is int and 0 < line <= _MAX_LINE else ""
    if absent is not None:
        return f"{file} imports {plain(str(absent), limit=100)}, which is not there{where}"
    if kind in ("SystemExit", "KeyboardInterrupt"):
        return f"{file} exits while it is imported{where}"
    return f"{file} does not load: {kind}: {message}{where}"


@contextmanager
def _importable(name: str, module: ModuleType) -> Iterator[None]:
    """Let `import <name>` in the tests find the proxy while they run."""
    sys.modules[name] = module
    try:
        yield
    finally:
        del sys.modules[name]
        tests_text.forget()


def _rule(
    task: Task, plugin: PromisesPlugin, fault: WorkerFault | None, status: int | pytest.ExitCode
) -> Ruling:
    file = f"{task.name}.py"
    if isinstance(fault, TestAuthorError):
        return Ruling(VerdictKind.ENVIRONMENT, str(fault))
    if isinstance(fault, ProtocolViolation):
        reason = f"{file} does not keep to the judge's protocol: {fault}"
        return Ruling(VerdictKind.INVALID, reason)
    if fault is None and plugin.problem:
        return Ruling(VerdictKind.ENVIRONMENT, plain(plugin.problem, limit=500))
    findings = tuple(plugin.ledger.findings())
    broken = [finding for finding in findings if finding.outcome is not Outcome.KEPT]
    ran = status == (pytest.ExitCode.TESTS_FAILED if broken else pytest.ExitCode.OK)
    if fault is None and not ran:
        return Ruling(VerdictKind.ENVIRONMENT, f"pytest ended with {status!r}")
    if fault is None and not broken:
        return Ruling(VerdictKind.FIXED, "every promise is kept")
    return Ruling(VerdictKind.NOT_FIXED, not_fixed(findings, fault))


def not_fixed(findings: Sequence[Finding], fault: WorkerFault | None) -> str:
    """Say how many promises are kept and, where a fault ended the run, in which."""
    kept = sum(finding.outcome is Outcome.KEPT for finding in findings)
    sentence = f"{kept} of {len(findings)} promises are kept"
    if fault is None:
        return sentence
    met = [f.name for f in findings if f.outcome in (Outcome.TIMED_OUT, Outcome.DIED)]
    where = f" in {met[0]}" if met else ""
    return f"{sentence}: {fault}{where}, and nothing after it was reached"
