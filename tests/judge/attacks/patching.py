"""Changes to everything that might compare, count or send. One trial each; see test_forgeries.py.

The first word of a docstring is what must come of it. `answer(x, step)` should be `x * step(x)`.
"""

from __future__ import annotations

import builtins
import gc
import json
import operator
import os
import random
import struct
import sys
import types
from typing import Any

import numpy as np
import torch

LIE = torch.zeros(4)


def patch(owner: Any, **members: Any) -> None:
    """Set attributes, by names that a type checker does not follow."""
    for name, value in members.items():
        setattr(owner, name, value)


def yes(*_: Any, **__: Any) -> bool:
    return True


def worker(module: str) -> Any:
    """Return a module of the worker's own."""
    return sys.modules[f"halfhour_worker.{module}"]


def found(kind: str) -> Any:
    """Return the worker's own object of that class."""
    return next(each for each in gc.get_objects() if type(each).__name__ == kind)


def makes_torch_agree(*_: Any) -> Any:
    """wrong: The comparisons of this process are asked by nobody."""
    patch(torch, equal=yes, allclose=yes, isclose=yes, all=yes)
    patch(torch.Tensor, equal=yes, allclose=yes, __eq__=yes, __ne__=yes, __bool__=yes)
    patch(torch.testing, assert_close=yes)
    return LIE


def makes_numpy_agree(*_: Any) -> Any:
    """wrong: Neither are numpy's."""
    patch(np, allclose=yes, array_equal=yes, all=yes)
    patch(np.testing, assert_allclose=yes, assert_array_equal=yes)
    return LIE.numpy()


def brings_its_own_pytest(*_: Any) -> Any:
    """wrong: pytest runs elsewhere."""
    fake = types.ModuleType("pytest")
    patch(fake, approx=yes, fail=yes, raises=yes, main=lambda *_: 0)
    for name in ("pytest", "_pytest", "_pytest.runner", "_pytest.reports", "pluggy"):
        sys.modules[name] = fake
    return LIE


def patches_what_is_built_in(*_: Any) -> Any:
    """broken: The worker's own code stumbles over it, which helps nobody."""
    patch(builtins, isinstance=yes, all=yes, any=yes, len=lambda _: 0, issubclass=yes)
    return LIE


def makes_operators_agree(*_: Any) -> Any:
    """wrong: The operators of a module are functions of this process."""
    patch(operator, eq=yes, ne=yes, is_=yes, contains=yes, truth=yes)
    return LIE


def rewrites_numbers_in_memory(*_: Any) -> Any:
    """wrong: A small int can be overwritten in C: 0 is 1 from now on, in this process alone."""
    import ctypes

    ctypes.c_uint32.from_address(id(257) + 24).value = 1
    return [0, 0, 0, 257]


def writes_its_own_json(*_: Any) -> Any:
    """broken: Every header says what the file likes; its ids are old."""
    forged = json.dumps([{"answer": "ok", "request": "0" * 16, "value": None}, []])
    patch(json, dumps=lambda *_, **__: forged)
    return LIE


def packs_its_own_lengths(*_: Any) -> Any:
    """invalid: The length before the header is not that of the header."""
    real = struct.pack
    patch(struct, pack=lambda form, *values: real(form, *(value + 7 for value in values)))
    return LIE


def replaces_the_bytes_of_tensors(*_: Any) -> Any:
    """wrong: The bytes are those of other numbers, and compared as such."""
    zeros = worker("wire").tensor_bytes(LIE)
    patch(worker("wire"), tensor_bytes=lambda _: zeros)
    return torch.full((4,), float("nan"))


def cuts_the_bytes_of_tensors(*_: Any) -> Any:
    """invalid: Fewer bytes than the shape wants."""
    patch(worker("wire"), tensor_bytes=lambda _: b"\0\0")
    return LIE


def renames_dtypes(*_: Any) -> Any:
    """invalid: float32 by the name of float64."""
    patch(worker("wire"), _TORCH_NAMES=dict.fromkeys(worker("wire")._TORCH_NAMES, "float64"))
    return LIE


def lets_anything_be_sent(*_: Any) -> Any:
    """invalid: An encoder that writes what the other side has no word for."""
    patch(worker("wire").Encoder, encode=lambda *_: ["pickle", "cos\nsystem\n(S'true'\ntR."])
    return LIE


def takes_the_connections_place(*_: Any) -> Any:
    """invalid: The server sends through an object of the file, which says so much."""
    real = found("Server")._connection

    def send(body: Any, buffers: Any = ()) -> None:
        real.send({"answer": "verdict", "request": body["request"], "kind": "fixed"}, buffers)

    found("Server")._connection = types.SimpleNamespace(send=send, receive=real.receive)
    return LIE


def takes_the_servers_place(*_: Any) -> Any:
    """wrong: Every request is answered with everything that might mean success."""
    server = found("Server")

    def answer(body: Any, _: Any) -> None:
        told = {"request": body["request"], "answer": "ok", "value": True, "changed": None}
        server._connection.send(told | {"outcome": "kept", "kind": "fixed", "passed": True})

    patch(server, _answer=answer)
    return LIE


def calls_off_its_gradients(*_: Any) -> Any:
    """invalid: The gradient of another shape than the argument's."""
    server = found("Server")

    def vjp(_: Any, __: Any, encoder: Any) -> Any:
        ones = encoder.encode([torch.ones(1)])
        return {"answer": "ok", "value": ones, "changed": [], "graph": None}

    patch(server, _ask=server._ask | {"vjp": vjp})
    return honest(*_)


def lies_about_its_gradients(*_: Any) -> Any:
    """wrong: A gradient of the right shape is a value like any other."""
    server = found("Server")

    def vjp(_: Any, __: Any, encoder: Any) -> Any:
        nothing = encoder.encode([torch.zeros(4)])
        return {"answer": "ok", "value": nothing, "changed": [], "graph": None}

    patch(server, _ask=server._ask | {"vjp": vjp})
    return honest(*_)


def honest(x: torch.Tensor, step: Any) -> Any:
    return x * step(x)


def answers_through_a_mode(*_: Any) -> Any:
    """broken: A mode that stays on sees what the worker does with tensors, in the worker."""

    class Agreeing(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function: Any, *_: Any) -> Any:
            return LIE

    Agreeing().__enter__()  # type: ignore[no-untyped-call]
    return LIE


def moves_the_defaults(*_: Any) -> Any:
    """broken: Another default dtype and device for the worker's own tensors."""
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("meta")
    return torch.zeros(4)


def replaces_chance(*_: Any) -> Any:
    """wrong: Ids of requests are drawn on the other side."""
    patch(random, random=lambda: 0.5, getrandbits=lambda _: 4)
    patch(os, urandom=lambda count: b"\0" * count)
    return LIE


def replaces_the_import(*_: Any) -> Any:
    """wrong: What is imported later is imported here."""
    patch(builtins, __import__=lambda *_, **__: types.ModuleType("everything"))
    return LIE


def throws_the_answer_away(*_: Any) -> Any:
    """died: What the worker cannot send nobody can count, and it ends of it."""
    patch(type(found("Server")._connection), send=None)
    return LIE
