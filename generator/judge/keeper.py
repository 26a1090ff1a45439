"""A judge that stays: listens to this user's commands, and ends after some idle minutes.

It runs the same judge as a command would by itself. It trusts whoever it serves, which is its own
user; nothing of a submission reaches it but through the judge.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from ..errors import HalfhourError
from ..records import Promise, Trial, Verdict
from .client import Judge
from .limits import PRACTICE
from .warm import same_user, write_verdict
from .worker.connection import Connection
from .worker.frames import FrameError, Json


class Ruling(Protocol):
    """What a keeper asks of its judge."""

    def verdict(self, trial: Trial) -> Verdict: ...

    def close(self) -> None: ...


_WAITING = 8
"""As many commands may wait for their turn."""
_LOOK_MS = 200


def main() -> None:
    """Serve until nobody has come for as long as the set-up says."""
    setup = json.loads(sys.argv[1])
    os.closerange(3, 256)  # what a shell may have left open is not ours to hold
    os.chdir("/")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal ends no keeper
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(bytes.fromhex(setup["address"]))
        except OSError:  # another keeper was quicker
            return
        listener.listen(_WAITING)
        listener.settimeout(setup["minutes"] * 60)
        with suppress(HalfhourError), Judge(device=setup["device"], many=True) as judge:
            keep(listener, judge)


def keep(listener: socket.socket, judge: Ruling) -> None:
    """Serve one caller after the other, until the listener's time is over."""
    while True:
        try:
            caller, _ = listener.accept()
        except TimeoutError:
            return
        with caller:
            caller.setblocking(True)
            if same_user(caller):
                with suppress(OSError, EOFError, FrameError):
                    _serve(caller, judge)


def _serve(caller: socket.socket, judge: Ruling) -> None:
    ends = caller.fileno(), caller.fileno()
    connection = Connection(*ends, message_bytes=PRACTICE.message_bytes)
    told, _ = connection.receive()
    try:
        with _ending_with(caller, judge):  # not with the answer: its reader may hang up at once
            ruled = write_verdict(judge.verdict(_trial(told)))
    except HalfhourError:  # the command tries by itself, and says what is wrong
        ruled = None
    connection.send(ruled)


def _trial(told: Json) -> Trial:
    promises = tuple(Promise(**promise) for promise in told["promises"])
    names = tuple(told["public_names"])
    return Trial(**{**told, "promises": promises, "public_names": names})


@contextmanager
def _ending_with(caller: socket.socket, judge: Ruling) -> Iterator[None]:
    """End the judge and this process when the caller goes away before it has its verdict."""
    served = threading.Event()
    gone = select.poll()
    gone.register(caller, select.POLLRDHUP)

    def watch() -> None:
        while not served.is_set():
            if gone.poll(_LOOK_MS) and not served.is_set():
                judge.close()
                os._exit(0)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        served.set()
        watcher.join()


if __name__ == "__main__":
    main()
