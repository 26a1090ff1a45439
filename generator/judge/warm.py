"""The way to the keeper: a judge that stays for some minutes, so that the next verdict is quick.

Everything works the same without it: where there is none to be had, the answer is None.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import time
from dataclasses import asdict
from pathlib import Path

from .._version import VERSION
from ..records import Outcome, PromiseResult, Trial, Verdict, VerdictKind, digest
from .channel import Channel, ChannelClosed, ChannelTimeout
from .limits import PRACTICE
from .worker.frames import FrameError, Json

MINUTES = "HALFHOUR_WARM_MINUTES"
"""The environment variable that says how long an idle keeper stays; 0 for none at all."""
_DEFAULT_MINUTES = 3.0
_START_S = 5.0
"""For a new keeper to listen; it imports nothing large before."""
_VERDICT_S = 2 * PRACTICE.start_s + PRACTICE.verdict_s + 30.0
_RETRY_S = 0.005


def verdict(trial: Trial, *, device: str) -> Verdict | None:
    """Return the keeper's verdict, from a new keeper if there is none; None if that cannot be."""
    if sys.platform != "linux" or minutes() <= 0:
        return None
    connection = _connect(address(device)) or _start(device)
    if connection is None:
        return None
    with connection:
        ends = os.dup(connection.fileno()), os.dup(connection.fileno())
    channel = Channel(*ends, message_bytes=PRACTICE.message_bytes)
    deadline = time.monotonic() + _VERDICT_S
    try:
        channel.send(asdict(trial), deadline=deadline)
        told, _ = channel.receive(deadline=deadline)
    except (ChannelClosed, ChannelTimeout, FrameError, ConnectionError):
        return None
    finally:
        channel.close()
    return None if told is None else read_verdict(told, trial)


def minutes() -> float:
    """Return how long an idle keeper stays."""
    try:
        return float(os.environ.get(MINUTES, _DEFAULT_MINUTES))
    except ValueError:
        return _DEFAULT_MINUTES


def address(device: str) -> bytes:
    """Return the name of the socket: of this user, this interpreter and this text of the judge.

    In Linux's abstract namespace: it is no file, and gone with the process that listens.
    """
    texts = [(str(path), path.stat().st_mtime_ns) for path in sorted(_HERE.rglob("*.py"))]
    key = digest(VERSION, sys.executable, device, str(minutes()), repr(texts))
    return f"\0halfhour-{os.geteuid()}-{key[:32]}".encode()


def same_user(connection: socket.socket) -> bool:
    """Tell whether the process at the other end is this user's: others may take a name first."""
    size = struct.calcsize("3i")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", credentials)
    return bool(user == os.geteuid())


def write_verdict(ruled: Verdict) -> Json:
    """Return a verdict as JSON; the promises themselves need not cross."""
    results = [[r.promise.name, r.outcome, r.detail] for r in ruled.results]
    return {**asdict(ruled), "results": results}


def read_verdict(told: Json, trial: Trial) -> Verdict:
    """Return the verdict on a trial."""
    promises = {promise.name: promise for promise in trial.promises}
    results = tuple(
        PromiseResult(promises[name], Outcome(outcome), detail)
        for name, outcome, detail in told["results"]
    )
    return Verdict(**{**told, "kind": VerdictKind(told["kind"]), "results": results})


_HERE = Path(__file__).resolve().parent


def _connect(name: bytes) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(name)
        if same_user(connection):
            return connection
    except OSError:
        pass
    connection.close()
    return None


def _start(device: str) -> socket.socket | None:
    """Start a keeper and return a connection to it, or to one that another has just started."""
    name = address(device)
    setup = json.dumps({"device": device, "address": name.hex(), "minutes": minutes()})
    nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    command = [sys.executable, "-P", "-m", "halfhour.generator.judge.keeper", setup]
    with contextlib.suppress(OSError):
        os.posix_spawn(sys.executable, command, os.environ, file_actions=nothing, setsid=True)
        patience = time.monotonic() + _START_S
        while time.monotonic() < patience:
            if connection := _connect(name):
                return connection
            time.sleep(_RETRY_S)
    return None
