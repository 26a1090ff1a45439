"""The trusted process: holds one trial after another, each with a fresh worker.

Run by the caller with its set-up as the only argument; never sees more of a submission than its
text, and hands that to the worker unread. It ends when its lifeline does, with every worker.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import HalfhourError
from ..records import VerdictKind
from . import reaper
from .limits import Limits
from .rungs import Rung
from .supply import Supply
from .worker.connection import Connection

if TYPE_CHECKING:
    from .ledger import Finding
    from .trial import Ruling

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Serve trials until the caller is gone."""
    setup = json.loads(sys.argv[1])
    limits = Limits(**setup["limits"])
    device = setup["device"]
    supply = Supply(limits, Rung(setup["rung"]), device=device, many=setup["many"])
    _end_with(setup["lifeline_fd"], supply)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's; it closes the lifeline
    reaper.adopt_orphans()
    supply.prepare()  # it imports torch while we do
    from . import trial  # noqa: F401

    gc.freeze()  # what is imported stays: no collection need look at it again

    connection = Connection(setup["read_fd"], setup["write_fd"], message_bytes=limits.message_bytes)
    connection.send({"event": "ready"})
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            body, (source, tests) = connection.receive()
            told = {**body, "source": source.decode("utf-8", "surrogatepass")}
            told["tests"] = tests.decode()
            ruling = _hold(told, supply, limits, device=device, tell=connection.send)
            connection.send({"event": "ruling", "kind": ruling.kind, "reason": ruling.reason})
    supply.kill()


def _hold(
    told: dict[str, Any], supply: Supply, limits: Limits, *, device: str, tell: Tell
) -> Ruling:
    """Hold one trial. Whatever goes wrong here is ours."""
    from .trial import Ruling, Task, hold

    def begun(promise: str) -> None:
        tell({"event": "promise_begun", "name": promise})

    def ended(found: Finding) -> None:
        finding = {"name": found.name, "outcome": found.outcome, "detail": found.detail}
        tell({"event": "promise_ended", **finding})

    task = Task(
        name=told["name"],
        source=told["source"],
        tests=told["tests"],
        promises=tuple(told["promises"]),
        public_names=tuple(told["public_names"]),
        seed=told["seed"],
        device=device,
        hasty=told["hasty"],
        threads=told["threads"],
    )
    try:
        worker = supply.take()
        tell({"event": "begun", "rung": worker.rung})
        return hold(task, worker, limits, begun=begun, ended=ended)
    except HalfhourError as error:
        return Ruling(VerdictKind.ENVIRONMENT, str(error))
    except Exception as error:
        reason = f"the judge failed: {type(error).__name__}: {error}"
        return Ruling(VerdictKind.ENVIRONMENT, reason)
    finally:
        supply.put_away()


def _end_with(lifeline_fd: int, supply: Supply) -> None:
    """End this process and its workers when the caller closes the lifeline, or ends."""

    def wait() -> None:
        os.read(lifeline_fd, 1)
        supply.kill()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
