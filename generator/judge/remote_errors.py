"""What can go wrong across the wire, told apart by who may catch it.

WorkerFault (BaseException)   no test can swallow it: the trial is over
├── CallTimedOut              the submission did not answer in time
├── WorkerDied                its process ended
├── ProtocolViolation         it answered what no worker answers, or too much
└── TestAuthorError           the test asks for what the judge cannot do: our fault
Exception
├── SubmissionError           the submission raised something that has no safe twin here
├── NoValue                   it returned what cannot be sent
└── OpaqueObject              the test compares or tests a handle as if it were a value

An exception of the submission is rebuilt as the built-in of the same name where that is safe, else
as a class made here with the same name and the rebuilt bases.
"""

from __future__ import annotations

from typing import Any

from .plain import plain
from .worker.frames import Json
from .worker.wire import WireError

_MAX_MESSAGE = 2000
_MAX_TRACE = 4000
_MAX_CLASSES = 64
_MAX_NAME = 200


class WorkerFault(BaseException):
    """The trial is over; the message is a sentence about the file under test."""


class CallTimedOut(WorkerFault):
    """A call, or everything together, ran past its limit."""


class WorkerDied(WorkerFault):
    """The worker process ended."""


class ProtocolViolation(WorkerFault):
    """The worker's answer is none."""


class TestAuthorError(WorkerFault):
    """Seen by the author of a promise."""

    __test__ = False


class SubmissionError(Exception):
    """Raised by the submission; nothing but `subject.<Name>` or `Exception` catches it."""


class NoValue(Exception):
    """The submission returned something that cannot be sent."""


class OpaqueObject(Exception):
    """An object of the submission is no value: its attributes and what it returns are."""


_SAFE: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (
        *(ArithmeticError, AssertionError, AttributeError, BufferError, FloatingPointError),
        *(ImportError, IndexError, KeyError, LookupError, MemoryError, ModuleNotFoundError),
        *(NameError, NotImplementedError, OSError, OverflowError, RecursionError, RuntimeError),
        *(TypeError, UnboundLocalError, UnicodeError, ValueError, ZeroDivisionError),
    )
}
"""Never StopIteration, SystemExit, KeyboardInterrupt or GeneratorExit: they steer the test run."""


def came_over_the_wire(error: BaseException) -> bool:
    """Tell whether the submission raised this exception."""
    return hasattr(error, "remote_trace")


def remote_trace(error: BaseException) -> str:
    """Return the submission's own frames of such an exception."""
    return str(getattr(error, "remote_trace", ""))


class RemoteErrors:
    """Rebuilds the exceptions of one submission. Raises WireError for a malformed one."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, tuple[type[Exception], ...]], type[Exception]] = {}

    def rebuild(self, description: Json, message: Json, trace: Json) -> Exception:
        """Return the exception that the submission raised."""
        if type(message) is not str or type(trace) is not str:
            raise WireError("an exception that is none")
        error = self.kind(description)(plain(message, limit=_MAX_MESSAGE, lines=True))
        error.remote_trace = plain(trace, limit=_MAX_TRACE, lines=True)  # type: ignore[attr-defined]
        return error

    def kind(self, description: Json) -> type[Exception]:
        """Return the class for a description: `[name, names of bases or None]`, itself first."""
        if type(description) is not list or not 0 < len(description) <= _MAX_CLASSES:
            raise WireError("an exception class that is none")
        known: dict[str, type[Exception]] = {}
        for entry in reversed(description):
            match entry:
                case [str(name), None] if len(name) <= _MAX_NAME:
                    known[name] = _SAFE.get(name, SubmissionError)
                case [str(name), list(bases)] if len(name) <= _MAX_NAME:
                    above = [known[base] for base in bases if type(base) is str and base in known]
                    known[name] = self._make(name, above)
                case _:
                    raise WireError("an exception class that is none")
        return known[description[0][0]]

    def _make(self, name: str, above: list[type[Exception]]) -> type[Exception]:
        bases = tuple(dict.fromkeys(above)) or (SubmissionError,)
        if (name, bases) not in self._made:
            own_name = name.rpartition(":")[2].rpartition(".")[2]
            members: dict[str, Any] = {"__module__": "submission"}
            shown = own_name if own_name.isidentifier() else "SubmissionError"
            try:
                made = type(shown, bases, members)
            except TypeError:  # a layout that only the submission's own classes have
                made = type(shown, bases[:1], members)
            self._made[name, bases] = made
        return self._made[name, bases]
