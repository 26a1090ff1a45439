"""Answers that no worker gives, over the worker's own pipe. One trial each; see test_forgeries.py.

The first word of a docstring is what must come of it. `answer(x, step)` should be `x * step(x)`.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import struct
import subprocess
from collections.abc import Sequence
from typing import Any

import torch

LIE = torch.zeros(4)
TENSOR = ["tensor", "float32", [4], 0, False]
MEGABYTE = 1 << 20


def server() -> Any:
    """Return the object that answers, found among all objects of this process."""
    return next(each for each in gc.get_objects() if type(each).__name__ == "Server")


def write(data: bytes) -> None:
    """Write to the pipe that answers go through."""
    pipe = server()._connection._write_fd
    while data:
        data = data[os.write(pipe, data) :]


def frame(header: bytes, *buffers: bytes) -> bytes:
    return b"".join([struct.pack("<I", len(header)), header, *buffers])


def told(value: Any, lengths: Sequence[Any] = (), **other: Any) -> bytes:
    """Return the header of an answer to the current request."""
    body = {"answer": "ok", "request": server()._request, "value": value, "changed": []}
    return json.dumps([body | {"graph": None} | other, list(lengths)]).encode()


def only(data: bytes) -> Any:
    """Write that, and keep the worker from saying anything of its own to this request."""
    connection = server()._connection
    real = connection.send

    def be_silent_once(*_: Any) -> None:
        connection.send = real

    connection.send = be_silent_once
    write(data)
    return LIE


def reply(value: Any, *buffers: bytes, **other: Any) -> bytes:
    """Return a frame that answers the current request."""
    return frame(told(value, [len(buffer) for buffer in buffers], **other), *buffers)


def say(value: Any, *buffers: bytes, **other: Any) -> Any:
    """Answer the current request so, and not otherwise."""
    return only(reply(value, *buffers, **other))


def right_bytes() -> bytes:
    return struct.pack("<4f", 2, 6, 12, 20)


# --- answers at the wrong time


def answers_twice(*_: Any) -> Any:
    """invalid: A right answer first; the worker's own is then the next request's."""
    write(reply(TENSOR, right_bytes()))
    return LIE


def answers_the_next_request_too(*_: Any) -> Any:
    """invalid: Two right answers, but the id of the second cannot be known yet."""
    another = f"{int(server()._request, 16) + 1:016x}"
    return only(reply(TENSOR, right_bytes()) + reply(TENSOR, right_bytes(), request=another))


def answers_another_request(*_: Any) -> Any:
    """invalid: A right answer to what nobody asked."""
    return say(TENSOR, right_bytes(), request="0" * 16)


def answers_every_request(*_: Any) -> Any:
    """invalid: An id that is not a text but would be equal to any, were it an object here."""
    return say(TENSOR, right_bytes(), request={"__eq__": True})


def writes_a_verdict_to_every_descriptor(*_: Any) -> Any:
    """invalid: One of them is the pipe to the judge."""
    forged = frame(b'[{"event": "ruling", "kind": "fixed", "reason": "every promise is kept"}, []]')
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, forged)
        except OSError:
            continue
    return LIE


def answers_half_and_ends(*_: Any) -> None:
    """died: The rest of the answer never comes."""
    write(frame(told(TENSOR, [16]), right_bytes()[:7]))
    os._exit(0)


# --- frames that are none


def writes_random_bytes(*_: Any) -> Any:
    """invalid: What they say first is a length."""
    return only(b"\xde\xad\xbe\xef" * 99)


def announces_a_giant_header(*_: Any) -> Any:
    """invalid: Four gigabytes, of which nothing is reserved."""
    return only(b"\xff\xff\xff\xff")


def announces_a_header_one_byte_too_long(*_: Any) -> Any:
    """invalid: The limit is a megabyte."""
    return only(struct.pack("<I", MEGABYTE + 1) + b" " * 99)


def sends_an_empty_header(*_: Any) -> Any:
    """invalid: Nothing is no JSON."""
    return only(frame(b""))


def sends_a_pickle(*_: Any) -> Any:
    """invalid: It is not even looked at as one."""

    class Bomb:
        def __reduce__(self) -> Any:
            return subprocess.call, (["touch", "/tmp/planted-by-a-pickle"],)

    return only(frame(pickle.dumps(Bomb())))


def sends_another_encoding(*_: Any) -> Any:
    """invalid: JSON is UTF-8."""
    return only(frame(told("é").decode().encode("utf-16")))


def sends_a_broken_encoding(*_: Any) -> Any:
    """invalid: A byte that UTF-8 does not have."""
    return only(frame(told("x").replace(b'"x"', b'"\xff"')))


def announces_a_negative_buffer(*_: Any) -> Any:
    """invalid: A length below zero."""
    return only(frame(told(TENSOR, [-16]), right_bytes()))


def announces_lengths_that_cancel_out(*_: Any) -> Any:
    """invalid: Their sum is small, each of them is not."""
    return only(frame(told(TENSOR, [1 << 62, -(1 << 62) + 16]), right_bytes()))


def announces_a_buffer_of_a_petabyte(*_: Any) -> Any:
    """invalid: Nothing is reserved for it."""
    return only(frame(told(TENSOR, [1 << 50])))


def announces_a_buffer_by_a_float(*_: Any) -> Any:
    """invalid: A length is an int."""
    return only(frame(told(TENSOR, [16.0]), right_bytes()))


def announces_buffers_without_end(*_: Any) -> Any:
    """invalid: A hundred thousand, all empty."""
    return only(frame(told(None, [0] * 100_000)))


def nests_without_end(*_: Any) -> Any:
    """invalid: A megabyte of opening brackets."""
    return only(frame(b"[" * MEGABYTE))


def nests_as_deep_as_json_goes(*_: Any) -> Any:
    """invalid: Deep enough to be parsed, too deep to be walked through."""
    deep: Any = "x"
    for _level in range(900):
        deep = ["list", deep]
    return say(deep)


def nests_in_what_is_not_decoded(*_: Any) -> Any:
    """invalid: The kind of an answer is looked at, never walked through."""
    deep: Any = "ok"
    for _level in range(900):
        deep = [deep]
    return say(None, answer=deep, changed=deep)


def sends_a_number_without_end(*_: Any) -> Any:
    """invalid: A million digits, which take hours to read as a number."""
    return only(frame(told("x").replace(b'"x"', b"9" * (MEGABYTE - 999))))


def sends_not_a_number(*_: Any) -> Any:
    """invalid: JSON has no NaN, though Python's does."""
    return say([float("nan")])


def sends_infinity_as_a_number(*_: Any) -> Any:
    """invalid: 1e999 is JSON, and infinite."""
    return only(frame(told("x").replace(b'"x"', b"1e999")))


# --- values that are none


def sends_an_unknown_tag(*_: Any) -> Any:
    """invalid: There is no way to say "unpickle this"."""
    return say(["pickle", 0], pickle.dumps(LIE))


def sends_a_shape_that_is_not_filled(*_: Any) -> Any:
    """invalid: Sixteen bytes for a million elements."""
    return say(["tensor", "float32", [1000, 1000], 0, False], right_bytes())


def sends_a_negative_shape(*_: Any) -> Any:
    """invalid: -2 times -2 is four as well."""
    return say(["tensor", "float32", [-2, -2], 0, False], right_bytes())


def sends_an_empty_tensor_of_absurd_shape(*_: Any) -> Any:
    """invalid: No bytes, but a dimension that a broadcast would fill."""
    return say(["tensor", "float32", [1 << 52, 0], 0, False], b"")


def sends_half_an_element(*_: Any) -> Any:
    """invalid: Fifteen bytes are no four floats."""
    return say(TENSOR, right_bytes()[:15])


def sends_a_dtype_of_objects(*_: Any) -> Any:
    """invalid: The bytes would be pointers."""
    return say(["array", "object", [2], 0], right_bytes())


def sends_one_buffer_twice(*_: Any) -> Any:
    """invalid: Two tensors that share their memory."""
    return say(["list", TENSOR, TENSOR], right_bytes())


def sends_a_buffer_from_the_end(*_: Any) -> Any:
    """invalid: Buffer -1."""
    return say(["tensor", "float32", [4], -1, False], right_bytes())


def sends_a_device_of_its_own(*_: Any) -> Any:
    """invalid: Devices are few."""
    return say(["device", "/dev/mem", 0])


def sends_a_range_without_end(*_: Any) -> Any:
    """invalid: Three small numbers that are a terabyte as a list."""
    return say(["range", 0, 1 << 37, 1])


def sends_numbers_with_one_hash(*_: Any) -> Any:
    """invalid: Each is compared with all before it, for half a minute."""
    return say(["set", *(["int", hex(((1 << 61) - 1) * n)] for n in range(30_000))])


def sends_tuples_with_one_hash(*_: Any) -> Any:
    """invalid: Hidden one level below."""
    keys = (["tuple", ["int", hex(((1 << 61) - 1) * n)]] for n in range(20_000))
    return say(["dict", *(part for key in keys for part in (key, 0))])


def sends_a_handle_that_compares(*_: Any) -> Any:
    """invalid: A handle has no `==` of the file's."""
    return say(["ref", 1, "Tensor", [], ["eq", "bool"], []])


def sends_a_name_that_steers_a_terminal(*_: Any) -> Any:
    """wrong: It is shown with its control characters escaped."""
    return say(["ref", 1, "\x1b[2J\u202e\u2066\x00\x9b31m\u2028kept", [], ["call"], []])


def sends_text_that_steers_a_terminal(*_: Any) -> Any:
    """wrong: A text is a value, and what is shown of it is escaped."""
    return say("\x1b]0;fixed\x07\x1b[2J\u202e\u2066\ud800\x00\x9b31m\u2028kept")


def sends_a_record_with_methods_for_fields(*_: Any) -> Any:
    """invalid: A tuple that would compare as the file likes."""
    return say(["record", "Answer", ["__eq__", "_fields"], True, True])


def sends_a_class_of_many_bases(*_: Any) -> Any:
    """raised: Bases whose layouts and orders contradict each other."""
    error = [
        ["a:Impossible", ["a:Left", "a:Right", "KeyError", "OSError", "UnicodeError"]],
        ["a:Left", ["KeyError", "a:Right"]],
        ["a:Right", ["OSError", "ValueError"]],
        *([name, None] for name in ("KeyError", "OSError", "UnicodeError", "ValueError")),
    ]
    return say(None, answer="raised", error=error, message="", trace="")


def sends_an_exception_that_steers_a_terminal(*_: Any) -> Any:
    """raised: The message, the trace and the name come escaped and cut."""
    steer = "\x1b[2J\x1b[32mfixed\u202e\u2066\x9b\u2028" * 999
    error = [[steer[:99], ["Exception"]], ["Exception", None]]
    return say(None, answer="raised", error=error, message=steer, trace=steer)


def sends_an_exception_without_classes(*_: Any) -> Any:
    """invalid: Every exception has one."""
    return say(None, answer="raised", error=[], message="", trace="")


def says_that_it_refuses(*_: Any) -> Any:
    """wrong: That an answer cannot be sent is no answer."""
    return say(None, answer="refused")


def says_that_all_is_kept(*_: Any) -> Any:
    """invalid: Promises are not the worker's to judge."""
    return say(None, answer="passed", outcome="kept", kind="fixed")


def answers_with_a_graph_that_is_none(*_: Any) -> Any:
    """invalid: The graphs of calls have numbers."""
    return say(TENSOR, right_bytes(), graph="all")


# --- callbacks


def calls_back(number: Any, args: Any, kwargs: Any = ("dict",)) -> Any:
    body = {"answer": "callback", "request": server()._request, "number": number}
    return only(frame(json.dumps([body | {"args": args, "kwargs": kwargs}, []]).encode()))


def calls_back_what_was_never_passed(*_: Any) -> Any:
    """invalid: The test has one function to offer, not a hundred."""
    return calls_back(100, ["tuple"])


def calls_back_from_the_end(*_: Any) -> Any:
    """invalid: Function -1 would be the last one."""
    return calls_back(-1, ["tuple"])


def calls_back_by_name(*_: Any) -> Any:
    """invalid: A number, not a text that someone might look up."""
    return calls_back("__import__", ["tuple", "os"])


def calls_back_with_no_arguments(*_: Any) -> Any:
    """invalid: Arguments are a tuple and a dict."""
    return calls_back(0, None)


def calls_back_with_keywords_that_are_none(*_: Any) -> Any:
    """died: The test's failure is answered, which the worker takes for a request."""
    return calls_back(0, ["tuple"], ["dict", 1, 2])


def says_that_a_callback_failed(*_: Any) -> Any:
    """raised: One that did not; the exception is then the file's own."""
    error = [["ValueError", None]]
    return say(None, answer="raised", error=error, message="", trace="", failure=0)
