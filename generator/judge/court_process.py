"""The caller's side of the court: starts it, hands it trials, and ends it whatever it is doing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ..errors import JudgeError
from ..records import Trial, VerdictKind
from .channel import ChannelClosed, ChannelTimeout
from .child import CLEAN_ENVIRONMENT, spawn, user_site
from .limits import Limits
from .plain import plain
from .rungs import Rung
from .worker.frames import FrameError, FrameTooLarge

_START = """
import json, site, sys
for folder in json.loads(sys.argv[1])["site_dirs"]:
    site.addsitedir(folder)
from halfhour.generator.judge.court import main
main()
"""
_ENVIRONMENT = {**CLEAN_ENVIRONMENT, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
_GRACE_S = 5.0
"""The court keeps the limits itself; so much later the caller ends it."""
_GOODBYE_S = 2.0


class RulingLate(Exception):
    """The court did not rule in time."""


class CourtProcess:
    """One court. After an exception of `hold` it must be ended."""

    def __init__(self, limits: Limits, rung: Rung, *, device: str, many: bool) -> None:
        self._limits = limits
        self._ready = False
        setup = {"limits": asdict(limits), "rung": rung, "device": device, "many": many}
        self._child = spawn(
            [sys.executable, "-I", "-B", "-c", _START],
            {**setup, "site_dirs": user_site()},
            environment=_ENVIRONMENT,
            message_bytes=limits.message_bytes,
            output_bytes=limits.output_bytes,
        )

    def hold(self, trial: Trial) -> Iterator[dict[str, Any]]:
        """Yield the events of a trial, the ruling last. Raises JudgeError, RulingLate."""
        start = time.monotonic() + 2 * self._limits.start_s  # the court's and then the worker's
        if not self._ready:
            self._receive(start)
            self._ready = True
        body = {
            "name": trial.name,
            "promises": [promise.name for promise in trial.promises],
            "public_names": list(trial.public_names),
            "seed": trial.seed,
            "hasty": trial.hasty,
            "threads": trial.threads,
        }
        texts = [trial.source.encode("utf-8", "surrogatepass"), trial.tests.encode()]
        try:
            with suppress(ChannelClosed):  # then receiving says so
                self._child.channel.send(body, texts, deadline=start)
        except FrameTooLarge:  # nothing of it was sent
            reason = f"{trial.name}.py is too large to be judged"
            yield {"event": "ruling", "kind": VerdictKind.INVALID, "reason": reason}
            return
        deadline = start
        while True:
            event = self._receive(deadline)
            if event["event"] == "begun":
                deadline = time.monotonic() + self._limits.verdict_s + _GRACE_S
            yield event
            if event["event"] == "ruling":
                return

    def end(self) -> None:
        """End the court and its workers; from whatever thread, whatever it is doing."""
        self._child.let_go()
        with suppress(subprocess.TimeoutExpired):
            self._child.process.wait(_GOODBYE_S)
        self._child.kill()

    def close(self) -> None:
        """End the court and close our ends of its pipes; only while nobody waits for it."""
        self.end()
        self._child.close()

    def _receive(self, deadline: float) -> dict[str, Any]:
        try:
            event, _ = self._child.channel.receive(deadline=deadline)
        except ChannelTimeout:
            raise RulingLate from None
        except (ChannelClosed, FrameError):
            last = plain(self._child.channel.printed().strip().rpartition("\n")[2], limit=300)
            raise JudgeError(f"the judge's court ended before it ruled: {last}") from None
        assert isinstance(event, dict)
        return event
