"""Calls across the wire: arguments out, results in, exceptions raised here."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from .gradients import Graph, attach
from .limits import Limits
from .proxy import (
    Handle,
    Record,
    RemoteClass,
    RemoteFunction,
    RemoteMember,
    RemoteMethod,
    handle_type,
    record_type,
)
from .remote_errors import (
    NoValue,
    ProtocolViolation,
    RemoteErrors,
    TestAuthorError,
    WorkerFault,
)
from .session import Message, Session
from .worker.frames import Json
from .worker.wire import Decoder, Encoder, Reader, Unsendable, WireError, tensor_bytes

Key = int | str

_MAX_MESSAGE = 2000
_MAX_TEXT = 200
_MODULE = object()
"""Stands for the submission's module."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One of the worker's named operations."""

    name: str


class Remote:
    """One submission, as its worker serves it."""

    def __init__(self, session: Session, limits: Limits) -> None:
        self.mutated: tuple[Key, ...] = ()
        """Positions and keywords of the arguments that the last call changed in place."""
        self.on_accelerator = False
        """Whether calls find their tensors on another device than the default one."""
        self._session = session
        self._limits = limits
        self._errors = RemoteErrors()
        self._loans: list[tuple[weakref.ref[torch.Tensor], int]] = []
        self._callbacks: list[Callable[..., Any]] = []
        self._failures: list[BaseException] = []
        self._named: dict[str, Any] = {}
        self._paths: dict[type[Exception], str] = {}
        self._readers: dict[str, Reader] = {
            "function": self._read_function,
            "class": self._read_class,
            "error": self._read_error,
            "member": self._read_member,
            "record": _read_record,
            "ref": self._read_ref,
        }

    def load(
        self, name: str, source: str, names: Sequence[str], *, seed: int, threads: int = 1
    ) -> Json:
        """Load the submission; return the answer. Raises WorkerFault."""
        body = {"ask": "load", "name": name, "names": list(names), "seed": seed}
        body["threads"] = threads
        text = source.encode("utf-8", "surrogatepass")
        answer, buffers = self._session.ask(
            body, [text], self._called_back, seconds=self._limits.load_s
        )
        if answer["answer"] == "ok":
            answer["value"] = self._decode(self._decoder(buffers), answer.get("value"))
        return answer

    def look_up(self, name: str) -> Any:
        """Return what the submission calls by that name."""
        if name not in self._named:
            return self.operate("getattr", _MODULE, name)
        return self._named[name]

    def operate(self, operation: str, *args: Any) -> Any:
        """Do one of the worker's named operations."""
        return self._call(Operation(operation), args, {}, keys=None)

    def call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function, a class or a handle of the submission."""
        self._refuse_changed_loans()
        return self._call(function, args, kwargs, keys=(*range(len(args)), *kwargs))

    def vjp(self, graph: int, result: int, gradient: torch.Tensor) -> Any:
        """Return the product of a gradient with the Jacobian of one result of an earlier call."""
        encoder = self._encoder()
        body = {"ask": "vjp", "graph": graph, "result": result}
        body["gradient"] = encoder.encode(gradient.detach())
        return self._ask(body, encoder, None)

    def release(self, number: int) -> None:
        """Let the worker forget an object."""
        self._session.release(number)

    def end_with(self, fault: WorkerFault) -> WorkerFault:
        """End the worker and the trial; return what to raise."""
        return self._session.end_with(fault)

    def _call(
        self,
        function: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        keys: tuple[Key, ...] | None,
    ) -> Any:
        encoder = self._encoder()
        grad = torch.is_grad_enabled()
        body: dict[str, Json] = {"ask": "call", "grad": grad}
        body["accelerator"] = self.on_accelerator
        try:
            for name, value in (("function", function), ("args", args), ("kwargs", kwargs)):
                body[name] = encoder.encode(value)
        except Unsendable as error:
            fault = TestAuthorError(f"a test passes what the judge cannot: {error}")
            raise self.end_with(fault) from None
        return self._ask(body, encoder, keys)

    def _ask(self, body: dict[str, Any], encoder: Encoder, keys: tuple[Key, ...] | None) -> Any:
        failed_before = len(self._failures)
        answer, buffers = self._session.ask(
            body, encoder.buffers, self._called_back, seconds=self._limits.call_s
        )
        failures = self._failures[failed_before:]
        del self._failures[failed_before:]
        if keys is not None:
            self.mutated = self._changed(answer.get("changed"), keys)
        for failure in failures:  # a promise that breaks in a callback is broken, whoever caught it
            if _breaks_a_promise(failure):
                raise failure
        match answer["answer"]:
            case "ok":
                return self._result(answer, buffers, encoder.gradients)
            case "raised":
                raised = answer.get("failure")
                if type(raised) is int and 0 <= raised - failed_before < len(failures):
                    raise failures[raised - failed_before]
                raise self._error(answer)
            case "refused" if answer.get("too_large") is True:
                raise self.end_with(ProtocolViolation("it answered too much"))
            case "refused":
                raise NoValue("the submission returned what cannot be sent")
        raise self.end_with(ProtocolViolation("it answered what is no answer"))

    def _result(
        self, answer: dict[str, Any], buffers: list[bytearray], sources: list[torch.Tensor]
    ) -> Any:
        number = answer.get("graph")
        graph = None
        if number is not None:
            if type(number) is not int or not sources:
                raise self.end_with(ProtocolViolation("it answered a graph that is none"))
            graph = Graph(self, number, sources)
        return self._decode(self._decoder(buffers, graph), answer.get("value"))

    def _decode(self, decoder: Decoder, data: Json) -> Any:
        try:
            return decoder.decode(data)
        except WireError as error:
            raise self.end_with(ProtocolViolation(f"it answered {error}")) from None

    def _error(self, answer: dict[str, Any]) -> Exception:
        try:
            return self._errors.rebuild(
                answer.get("error"), answer.get("message"), answer.get("trace")
            )
        except WireError as error:
            raise self.end_with(ProtocolViolation(f"it answered {error}")) from None

    def _changed(self, changed: Json, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        if type(changed) is not list or not all(type(key) in (int, str) for key in changed):
            raise self.end_with(ProtocolViolation("it answered arguments that are none"))
        return tuple(key for key in keys if key in changed)

    def _decoder(self, buffers: list[bytearray], graph: Graph | None = None) -> Decoder:
        def seen(tensor: torch.Tensor) -> torch.Tensor:
            if graph is not None and tensor.requires_grad:
                tensor = attach(graph, tensor)
            if not tensor.is_inference():
                self._loans.append((weakref.ref(tensor), tensor._version))
            return tensor

        return Decoder(buffers, self._readers, seen=seen)

    def _refuse_changed_loans(self) -> None:
        """A tensor that came back is a copy: the submission would not see what a test writes."""
        alive = [(loan, version) for loan, version in self._loans if loan() is not None]
        self._loans = alive
        for loan, version in alive:
            tensor = loan()
            if tensor is not None and tensor._version != version:
                raise self.end_with(
                    TestAuthorError(
                        "a test writes into a tensor that the submission returned, and calls it"
                        " again: clone the tensor first"
                    )
                )

    # --- callbacks

    def _called_back(self, asked: dict[str, Any], buffers: list[bytearray]) -> Message:
        """Call the test's function that the worker asks for, and return the reply."""
        number = asked.get("number")
        if type(number) is not int or not 0 <= number < len(self._callbacks):
            raise self.end_with(ProtocolViolation("it called back a function that is none"))
        decoder = self._decoder(buffers)
        args = self._decode(decoder, asked.get("args"))
        kwargs = self._decode(decoder, asked.get("kwargs"))
        if type(args) is not tuple or type(kwargs) is not dict:
            raise self.end_with(ProtocolViolation("it called back with arguments that are none"))
        encoder = self._encoder()
        try:
            value = encoder.encode(self._callbacks[number](*args, **kwargs))
        except WorkerFault:
            raise
        except Unsendable as error:
            fault = TestAuthorError(f"a test's callback returns what the judge cannot: {error}")
            raise self.end_with(fault) from None
        except BaseException as failure:
            self._failures.append(failure)
            place = len(self._failures) - 1
            # What a promise expected is nothing that the submission needs to know.
            message = "" if _breaks_a_promise(failure) else str(failure)[:_MAX_MESSAGE]
            told = {"error": type(failure).__name__, "message": message}
            return {"ask": "failed", **told, "failure": place}, []
        return {"ask": "returned", "value": value}, encoder.buffers

    # --- values that are not plain

    def _encoder(self) -> Encoder:
        return Encoder(self._describe, message_bytes=self._limits.message_bytes)

    def _describe(self, value: Any, encoder: Encoder, depth: int) -> Json:
        match value:
            case Handle():
                return ["ref", value._number]
            case RemoteMethod():
                return ["method", value._owner._number, value.__name__]
            case RemoteFunction() | RemoteClass():
                return ["path", value._path]
            case RemoteMember():
                return ["path", f"{value._path}.{value.name}"]
            case Operation():
                return ["op", value.name]
        if value is _MODULE:
            return ["module"]
        if isinstance(value, type) and value in self._paths:
            return ["path", self._paths[value]]
        if isinstance(value, Record):
            items = [encoder.encode(item, depth + 1) for item in value]
            return ["record", value._path, list(value._fields), *items]
        if isinstance(value, torch.Generator) and value.device.type == "cpu":
            state = encoder.buffer(tensor_bytes(value.get_state()))
            return ["generator", state, value.initial_seed()]
        if callable(value) and not isinstance(value, torch.Tensor):
            return ["callback", self._number_of(value)]
        raise Unsendable(f"a {type(value).__name__}")

    def _number_of(self, callback: Callable[..., Any]) -> int:
        for number, known in enumerate(self._callbacks):
            if known is callback:
                return number
        self._callbacks.append(callback)
        return len(self._callbacks) - 1

    def _read_function(self, _: Decoder, fields: list[Any], __: int) -> RemoteFunction:
        (path,) = fields
        found = self._named.setdefault(_text(path), RemoteFunction(self, path))
        return _only(RemoteFunction, found)

    def _read_class(self, _: Decoder, fields: list[Any], __: int) -> RemoteClass:
        (path,) = fields
        found = self._named.setdefault(_text(path), RemoteClass(self, path))
        return _only(RemoteClass, found)

    def _read_error(self, _: Decoder, fields: list[Any], __: int) -> type[Exception]:
        path, description = fields
        kind = self._errors.kind(description)
        if path is not None:
            self._paths[kind] = _text(path)
        return kind

    def _read_member(self, decoder: Decoder, fields: list[Any], depth: int) -> RemoteMember:
        path, name, value = fields
        member = RemoteMember(_text(path), _text(name), decoder.read(value, depth + 1))
        return _only(RemoteMember, self._named.setdefault(f"{path}.{name}", member))

    def _read_ref(self, _: Decoder, fields: list[Any], __: int) -> Handle:
        number, kind, classes, operations, methods = fields
        names = (*classes, *methods)
        if type(number) is not int or not all(type(name) is str for name in names):
            raise WireError("a malformed handle")
        cls = handle_type(frozenset(operations))
        return cls(self, number, _text(kind), tuple(classes), frozenset(methods))


def _breaks_a_promise(failure: BaseException) -> bool:
    return isinstance(failure, AssertionError) or not isinstance(failure, Exception)


_Named = TypeVar("_Named")


def _only(kind: type[_Named], found: object) -> _Named:
    if not isinstance(found, kind):
        raise WireError("a name that is two things")
    return found


def _text(value: Json) -> str:
    if type(value) is not str or not 0 < len(value) <= _MAX_TEXT:
        raise WireError("a malformed name")
    return value


def _read_record(decoder: Decoder, fields: list[Any], depth: int) -> Record:
    path, names, *items = fields
    record = record_type(_text(path), tuple(_text(name) for name in names))
    if len(names) != len(items):
        raise WireError("a record with items that have no name")
    return record(decoder.read_all(items, depth))
