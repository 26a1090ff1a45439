"""The worker's loop: load the submission, call it, answer. Holds no test and no expected value.

    request             answers
    load                ok (names that are missing) | unloaded
    call                ok | raised | refused
    vjp                 ok | raised | refused

While it works on a request the worker may send `callback`; before the reply (`returned`,
`failed`) the other side may send requests of its own, which are served at once. Every message
carries the id of the request it belongs to.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from . import accelerator, confine, fingerprint, source
from .accelerator import outside
from .connection import Connection
from .frames import FrameTooLarge, Json
from .objects import Objects, describe_error
from .operations import OPERATIONS, seed
from .wire import Decoder, Encoder, Reader, TooLarge, Unsendable, WireError


def main(
    read_fd: int,
    write_fd: int,
    message_bytes: int,
    policy: str,
    *,
    device: str = "cpu",
    grants: confine.Grants | None = None,
) -> None:
    """Take the layers of the policy, say that all is ready, serve until the other end is gone.

    Raises ConfinementError if a layer cannot be taken, RuntimeError if there is no such device.
    """
    torch.set_num_threads(1)
    _forbid_short_floats()
    confine.apply(confine.Policy.from_json(policy), grants=grants)
    torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)  # wakes the device up
    connection = Connection(read_fd, write_fd, message_bytes=message_bytes)
    connection.send({"answer": "ready"})
    Server(connection, message_bytes=message_bytes, device=device).serve()


def _forbid_short_floats() -> None:
    """Have a GPU multiply float32 as float32, not as TF32 with ten bits after the point."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


class Server:
    """Serves one submission, whose arguments lie on `device`."""

    def __init__(self, connection: Connection, *, message_bytes: int, device: str = "cpu") -> None:
        self._connection = connection
        self._message_bytes = message_bytes
        self._device = device
        self._thread = threading.get_ident()
        self._objects = Objects()
        self._file_name = ""
        self._request = ""
        self._changed: tuple[fingerprint.Key, ...] = ()
        self._readers: dict[str, Reader] = {
            **self._objects.readers,
            "op": _read_operation,
            "generator": self._read_generator,
            "callback": self._read_callback,
        }
        self._ask = {"load": self._load, "call": self._call, "vjp": self._vjp}

    def serve(self) -> None:
        """Answer requests until the other end is gone."""
        while True:
            try:
                body, buffers = self._connection.receive()
            except EOFError:
                return
            self._answer(body, buffers)

    def _answer(self, body: Json, buffers: list[bytearray]) -> None:
        outer, self._request = self._request, body["request"]
        self._objects.release(body["release"])
        self._changed = ()
        encoder = self._encoder()
        try:
            answer = self._ask[body["ask"]](body, buffers, encoder)
        except Unsendable as error:
            answer, encoder = self._refusal(error), self._encoder()
        except BaseException as error:  # SystemExit of a submission is an answer like any other
            answer, encoder = self._raised(error), self._encoder()
        answer["request"] = self._request
        try:
            self._connection.send(answer, encoder.buffers)
        except FrameTooLarge as error:
            refusal = self._refusal(TooLarge(str(error)))
            self._connection.send(refusal | {"request": self._request})
        self._request = outer

    def _load(self, body: Json, buffers: list[bytearray], encoder: Encoder) -> dict[str, Json]:
        self._file_name = f"{body['name']}.py"
        seed(body["seed"])
        torch.set_num_threads(body["threads"])
        try:
            text = buffers[0].decode()
            with self._devices(False):
                self._objects.module = source.load(body["name"], text)
        except BaseException as error:
            return {"answer": "unloaded", **source.load_failure(error, self._file_name)}
        missing = [path for path in body["names"] if not self._offers(path)]
        return {"answer": "ok", "value": encoder.encode(missing), "changed": [], "graph": None}

    def _call(self, body: Json, buffers: list[bytearray], encoder: Encoder) -> dict[str, Json]:
        sources: list[torch.Tensor] = []

        def seen(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.requires_grad:
                sources.append(tensor)
            return tensor

        decoder = Decoder(buffers, self._readers, device=self._device, seen=seen)
        function = decoder.decode(body["function"])
        args, kwargs = decoder.decode(body["args"]), decoder.decode(body["kwargs"])
        before = fingerprint.fingerprints(args, kwargs)
        try:
            with torch.set_grad_enabled(body["grad"]), self._devices(body["accelerator"]):
                result = function(*args, **kwargs)
                if body["accelerator"] and self._device == "cpu":
                    accelerator.refuse_default(result)
        finally:
            after = fingerprint.fingerprints(args, kwargs)
            self._changed = fingerprint.changed(before, after)
        value = encoder.encode(result)
        differentiable = body["grad"] and sources and encoder.gradients
        graph = self._objects.hold((sources, encoder.gradients)) if differentiable else None
        return {"answer": "ok", "value": value, "changed": self._changed, "graph": graph}

    def _vjp(self, body: Json, buffers: list[bytearray], encoder: Encoder) -> dict[str, Json]:
        """Answer the product of a gradient with the Jacobian of one result of a call."""
        sources, results = self._objects.held(body["graph"])
        result: torch.Tensor = results[body["result"]]
        gradient = Decoder(buffers, {}, device=self._device).decode(body["gradient"])
        # A weighted sum has this product as its gradient. To pass `grad_outputs` instead would
        # import sympy, for a second, in every worker.
        weighted = (result * gradient.conj()).sum()
        scalar = weighted.real if weighted.is_complex() else weighted
        gradients = torch.autograd.grad(scalar, sources, retain_graph=True, allow_unused=True)
        value = encoder.encode(list(gradients))
        return {"answer": "ok", "value": value, "changed": [], "graph": None}

    def _refusal(self, error: Unsendable) -> dict[str, Json]:
        too_large = isinstance(error, TooLarge)
        return {"answer": "refused", "too_large": too_large, "changed": self._changed}

    def _raised(self, error: BaseException) -> dict[str, Json]:
        return {
            "answer": "raised",
            "error": describe_error(type(error)),
            "message": source.text_of(error),
            "trace": source.trace(error, self._file_name),
            "changed": self._changed,
            "failure": getattr(error, "callback_failure", None),
        }

    def _offers(self, path: str) -> bool:
        try:
            self._objects.look_up(path)
        except AttributeError:
            return False
        return True

    def _encoder(self) -> Encoder:
        return Encoder(self._objects.describe, message_bytes=self._message_bytes)

    @contextmanager
    def _devices(self, accelerator_wanted: bool) -> Iterator[None]:
        """Where a call finds its devices.

        On a GPU tensors are made there by default, for so are the modules that a promise builds;
        but a call that must not rely on that has the CPU for its default, as in earnest.
        """
        if self._device != "cpu":
            with nullcontext() if accelerator_wanted else torch.device(self._device):
                yield
        else:
            with accelerator.accelerator() if accelerator_wanted else nullcontext():
                yield

    def _read_generator(self, decoder: Decoder, fields: list[Any], _: int) -> torch.Generator:
        index, initial_seed = fields
        state = decoder.take(index)
        generator = torch.Generator(self._device)
        if self._device != "cpu":  # the states of another device's generator mean nothing to it
            return generator.manual_seed(initial_seed)
        if not state:
            raise WireError("a generator without a state")
        generator.set_state(torch.frombuffer(state, dtype=torch.uint8))
        return generator

    # --- callbacks

    def _read_callback(self, _: Decoder, fields: list[Any], __: int) -> Any:
        (number,) = fields

        def callback(*args: Any, **kwargs: Any) -> Any:
            return self._call_back(number, args, kwargs)

        return callback

    def _call_back(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Ask the other side to call one of its functions, and return what it returns."""
        if threading.get_ident() != self._thread:
            raise RuntimeError("a function that was passed in is called on another thread")
        encoder = self._encoder()
        body: Json = {"answer": "callback", "request": self._request, "number": number}
        try:
            with outside():
                body |= {"args": encoder.encode(args), "kwargs": encoder.encode(kwargs)}
            self._connection.send(body, encoder.buffers)
        except (Unsendable, FrameTooLarge) as error:
            raise TypeError(f"a function that was passed in cannot take this: {error}") from None
        while True:
            reply, buffers = self._connection.receive()
            match reply["ask"]:
                case "returned":
                    decoder = Decoder(buffers, self._readers, device=self._device)
                    with outside():
                        return decoder.decode(reply["value"])
                case "failed":
                    raise _callback_error(reply)
            self._answer(reply, buffers)


def _callback_error(reply: Json) -> Exception:
    """Rebuild a built-in exception by name; any other is a RuntimeError."""
    kind = getattr(builtins, reply["error"], None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        kind = RuntimeError
    try:
        error = kind(reply["message"])
    except TypeError:  # it wants more than a message, as UnicodeDecodeError does
        error = RuntimeError(reply["message"])
    error.callback_failure = reply["failure"]  # type: ignore[attr-defined]
    return error


def _read_operation(_: Decoder, fields: list[Any], __: int) -> Any:
    (name,) = fields
    return OPERATIONS[name]
