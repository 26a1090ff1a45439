"""A worker that does not do what workers do: no answer of it passes, none makes the judge wait."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from halfhour.generator.judge import Limits
from halfhour.generator.judge.channel import Channel, ChannelTimeout
from halfhour.generator.judge.remote import Remote
from halfhour.generator.judge.remote_errors import (
    CallTimedOut,
    ProtocolViolation,
    WorkerDied,
    WorkerFault,
)
from halfhour.generator.judge.session import Session
from halfhour.generator.judge.trial import Task, hold
from halfhour.generator.judge.worker.connection import Connection
from halfhour.generator.judge.worker.frames import Json
from halfhour.generator.records import VerdictKind

LIMITS = Limits(call_s=20.0, verdict_s=20.0, message_bytes=1 << 20)
HASTY = Limits(call_s=0.5, verdict_s=5.0, message_bytes=1 << 20)
Script = Callable[[Connection, int], None]


class FakeWorker:
    """Two pipes and a thread that does what the script says."""

    def __init__(self, script: Script) -> None:
        (self._read_fd, our_write), (our_read, self._write_fd) = os.pipe(), os.pipe()
        self.channel = Channel(our_read, our_write, message_bytes=LIMITS.message_bytes)
        self.kills = 0
        self._script = script
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def kill(self) -> None:
        self.kills += 1

    def end(self) -> None:
        self.channel.close()
        self._thread.join()

    def _run(self) -> None:
        connection = Connection(self._read_fd, self._write_fd, message_bytes=LIMITS.message_bytes)
        with suppress(OSError, EOFError):
            self._script(connection, self._write_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)


@contextmanager
def remote(script: Script, limits: Limits = LIMITS) -> Iterator[tuple[Remote, Session, FakeWorker]]:
    worker = FakeWorker(script)
    session = Session(worker, limits, end=time.monotonic() + limits.verdict_s)
    try:
        yield Remote(session, limits), session, worker
    finally:
        worker.end()


def answers(*bodies: dict[str, Any]) -> Script:
    """Answer each request with the next body; `request` is filled in unless it is there."""

    def script(connection: Connection, _: int) -> None:
        for body in bodies:
            asked, _buffers = connection.receive()
            connection.send({"request": asked["request"], **body})
        connection.receive()

    return script


def writes(content: bytes) -> Script:
    def script(connection: Connection, write_fd: int) -> None:
        connection.receive()
        os.write(write_fd, content)
        connection.receive()

    return script


OK = {"answer": "ok", "value": 1, "changed": [], "graph": None}


def test_an_answer_is_returned() -> None:
    with remote(answers(OK)) as (subject, session, worker):
        assert subject.operate("len", []) == 1
        assert session.fault is None
        assert worker.kills == 0


VIOLATIONS: dict[str, Script] = {
    "another request's answer": answers(OK | {"request": "0" * 16}),
    "no request": answers(OK | {"request": None}),
    "no answer": answers({}),
    "an unknown answer": answers({"answer": "passed"}),
    "an answer that is no text": answers({"answer": ["ok"]}),
    "a value without a tag": answers(OK | {"value": [1]}),
    "a handle that is malformed": answers(OK | {"value": ["ref", "1", "x", [], [], []]}),
    "a handle with a special method of its own": answers(
        OK | {"value": ["ref", 1, "x", [], ["eq"], []]}
    ),
    "a handle with a class that is no name": answers(OK | {"value": ["ref", 1, "x", [1], [], []]}),
    "a record with a private field": answers(OK | {"value": ["record", "R", ["_a"], 1]}),
    "a record with a field twice": answers(OK | {"value": ["record", "R", ["a", "a"], 1, 1]}),
    "a record with a keyword for a field": answers(OK | {"value": ["record", "R", ["if"], 1]}),
    "a record without its last item": answers(OK | {"value": ["record", "R", ["a", "b"], 1]}),
    "a name that is no text": answers(OK | {"value": ["function", 1]}),
    "a name without end": answers(OK | {"value": ["class", "x" * 1000]}),
    "a callback for a value": answers(OK | {"value": ["callback", 0]}),
    "a name that is two things": answers(
        OK | {"value": ["list", ["function", "f"], ["class", "f"]]}
    ),
    "an exception class without bases": answers(OK | {"value": ["error", "E", [["E"]]]}),
    "an exception class without end": answers(OK | {"value": ["error", "E", [["E", None]] * 65]}),
    "an exception that is none": answers(
        {"answer": "raised", "error": [], "message": "", "trace": "", "changed": []}
    ),
    "an exception without a message": answers(
        {"answer": "raised", "error": [["ValueError", None]], "trace": "", "changed": []}
    ),
    "a graph that was not asked for": answers(OK | {"graph": 1}),
    "a callback of nothing": answers(
        {"answer": "callback", "number": 0, "args": ["tuple"], "kwargs": ["dict"]}
    ),
    "random bytes": writes(b"\x03\x00\x00\x00abc"),
    "a header without end": writes(b"\xff\xff\xff\xff"),
    "a buffer larger than a message": writes(b"\x12\x00\x00\x00[1,[9999999999999]]"),
}


@pytest.mark.parametrize("script", VIOLATIONS.values(), ids=VIOLATIONS)
def test_a_violation_ends_the_worker_and_every_later_call(script: Script) -> None:
    with remote(script) as (subject, session, worker):
        with pytest.raises(ProtocolViolation):
            subject.operate("len", [])
        with pytest.raises(ProtocolViolation):
            subject.operate("len", [])
        assert worker.kills == 1
        assert isinstance(session.fault, ProtocolViolation)


@pytest.mark.parametrize(
    "changed", [None, "0", [None], [True], {"0": 1}], ids=["none", "text", "null", "bool", "object"]
)
def test_changed_arguments_are_positions_and_keywords(changed: Any) -> None:
    with remote(answers(OK | {"value": ["function", "f"]}, OK | {"changed": changed})) as parts:
        subject, _, _ = parts
        function = subject.look_up("f")
        with pytest.raises(ProtocolViolation):
            function(1)


def test_changed_arguments_are_only_those_there_are() -> None:
    told = OK | {"changed": ["b", 7, 0, "c"]}
    with remote(answers(OK | {"value": ["function", "f"]}, told)) as (subject, _, _):
        subject.look_up("f")(1, 2, b=3)
        assert subject.mutated == (0, "b")


def _silent(connection: Connection, _: int) -> None:
    connection.receive()
    connection.receive()


def _never_reads(_: Connection, __: int) -> None:
    time.sleep(1.5)


def _trickles(connection: Connection, write_fd: int) -> None:
    """Send a frame byte by byte: there is always something to read, never a whole answer."""
    connection.receive()
    os.write(write_fd, b"\xff\xff\x00\x00")
    while True:
        os.write(write_fd, b" ")
        time.sleep(0.01)


def _calls_back_without_end(connection: Connection, _: int) -> None:
    asked, _buffers = connection.receive()
    body = {"answer": "callback", "number": 0, "args": ["tuple"], "kwargs": ["dict"]}
    while True:
        connection.send({"request": asked["request"], **body})
        connection.receive()


LATE: dict[str, tuple[Script, Any]] = {
    "silent": (_silent, 1),
    "never reads": (_never_reads, b"x" * (1 << 19)),
    "a byte at a time": (_trickles, 1),
    "calls back without end": (_calls_back_without_end, lambda: None),
}


@pytest.mark.parametrize(("script", "argument"), LATE.values(), ids=LATE)
def test_a_worker_that_is_late_is_ended_in_time(script: Script, argument: Any) -> None:
    with remote(script, HASTY) as (subject, _, worker):
        begun = time.monotonic()
        with pytest.raises(CallTimedOut, match=r"a call took longer than 0\.5 s"):
            subject.operate("len", argument)
        assert time.monotonic() - begun < 60  # the scripts would go on for ever
        assert worker.kills == 1


def test_a_nested_call_has_no_more_time_than_the_call_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def script(connection: Connection, _: int) -> None:
        asked, _buffers = connection.receive()
        body = {"answer": "callback", "number": 0, "args": ["tuple"], "kwargs": ["dict"]}
        connection.send({"request": asked["request"], **body})
        connection.receive()  # the nested call, never answered
        connection.receive()

    deadlines: list[float] = []
    receive = Channel.receive

    def watched(self: Channel, *, deadline: float) -> tuple[Json, list[bytearray]]:
        deadlines.append(deadline)
        return receive(self, deadline=deadline)

    monkeypatch.setattr(Channel, "receive", watched)
    with remote(script, HASTY) as (subject, _, _), pytest.raises(CallTimedOut):
        subject.operate("len", lambda: subject.operate("len", []))

    around, nested = deadlines
    assert nested == around


def test_a_worker_that_is_gone_is_noticed_at_once() -> None:
    def half_an_answer(connection: Connection, write_fd: int) -> None:
        connection.receive()
        os.write(write_fd, b"\x40\x00")

    with remote(half_an_answer) as (subject, session, _):
        with pytest.raises(WorkerDied):
            subject.operate("len", [])
        assert isinstance(session.fault, WorkerDied)


def test_a_message_that_is_whole_but_late_is_late() -> None:
    """Else bytes that are always there would keep the judge reading for ever."""
    read_fd, write_fd = os.pipe()
    channel = Channel(read_fd, write_fd, message_bytes=1 << 20)
    now = time.monotonic()
    channel.send({"number": 1}, [b"x"], deadline=now + 20)
    assert channel.receive(deadline=now + 20) == ({"number": 1}, [bytearray(b"x")])
    channel.send({"number": 2}, [b"x"], deadline=now + 20)
    with pytest.raises(ChannelTimeout):
        channel.receive(deadline=now)
    channel.close()


def test_of_what_a_process_prints_the_beginning_is_kept() -> None:
    (read_fd, write_fd), (printed_fd, printing_fd) = os.pipe(), os.pipe()
    channel = Channel(
        read_fd, write_fd, printed_fds=[printed_fd], message_bytes=1 << 20, output_bytes=1000
    )
    os.write(printing_fd, b"one" + b"x" * 5000)
    os.close(printing_fd)

    assert channel.printed() == "one" + "x" * 997
    assert channel.printed() == "one" + "x" * 997
    channel.close()


def test_no_test_can_catch_a_fault_by_accident() -> None:
    """Neither `except Exception` nor `pytest.raises` of any ordinary class."""
    for fault in (CallTimedOut, ProtocolViolation, WorkerDied):
        assert issubclass(fault, WorkerFault)
        assert not issubclass(fault, Exception)
        assert WorkerFault.__bases__ == (BaseException,)


STEERING = ("StopIteration", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "Exception")


@pytest.mark.parametrize("name", [*STEERING, "SkipTest", "Skipped", "Exit", "RuntimeErrors"])
def test_an_exception_that_would_steer_the_test_run_is_not_rebuilt(name: str) -> None:
    raised = {"answer": "raised", "message": "m", "trace": "", "changed": []}
    for description in ([[name, None]], [[f"unittest.case:{name}", ["Exception"]]]):
        with remote(answers(raised | {"error": description})) as (subject, _, _):
            with pytest.raises(Exception, match="m") as caught:
                subject.operate("len", [])
            assert caught.type.__name__ in (name, "SubmissionError")
            assert caught.type.__module__ != "builtins"
            assert not isinstance(caught.value, RuntimeError | StopIteration)


def test_the_text_of_an_exception_is_cut_and_harmless() -> None:
    raised = {
        "answer": "raised",
        "error": [["ValueError", None]],
        "message": "\x1b[2J" + "x" * 9999,
        "trace": "\u202e" * 9999,
        "changed": [],
    }
    with remote(answers(raised)) as (subject, _, _):
        with pytest.raises(ValueError, match=r"^\\x1b\[2Jxxx") as caught:
            subject.operate("len", [])
        assert len(str(caught.value)) < 2100
        assert "\u202e" not in caught.value.remote_trace  # type: ignore[attr-defined]


def test_names_that_are_missing_are_names() -> None:
    """A worker that answers anything else than the names it was asked for did not load."""
    for value in (["list", 1], ["list", ["ref", 1, "x", [], [], []]], None, "gone"):
        with remote(answers(OK | {"value": value})) as (_, _, worker):
            task = Task("kit", "", "", (), ("one",), 1)
            ruling = hold(task, worker, LIMITS, begun=lambda _: None, ended=lambda _: None)

        assert ruling.kind is VerdictKind.INVALID
        assert "it answered no names" in ruling.reason
