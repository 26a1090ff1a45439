"""Which rung the workers of this machine get: tried in children once, and then remembered.

What is remembered holds for one kernel, one user, one interpreter, one torch and one version of the
layers; if any of these changes, all is tried again. A worker whose layers fail does not start.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from .. import places
from ..errors import HalfhourError
from ..files import replace_file
from ..records import digest
from . import rungs
from .rungs import Rung

_WITHOUT_LAUNCHER = {
    "linux": (Rung.L2, Rung.L1, Rung.L0, Rung.P),
    "darwin": (Rung.M0, Rung.P),
}
"""The rungs that a worker can take by itself, the strongest first."""


def rung_here() -> Rung:
    """Return the strongest rung that holds here without another program's help.

    The first time takes some seconds. Raises JudgeError where no worker runs at all.
    """
    memory = places.cache_dir() / "protection.json"
    key = _key()
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(memory.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return Rung(kept["rung"])
    ladder = _WITHOUT_LAUNCHER.get(sys.platform, (Rung.P,))
    rung = rungs.probe(ladder=ladder).rung
    with suppress(OSError, HalfhourError):  # then it is tried again
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(memory, json.dumps({"key": key, "rung": rung}).encode())
    return rung


def _key() -> str:
    layers = sorted((Path(__file__).parent / "worker" / "confine").glob("*.py"))
    texts = [path.read_text(encoding="utf-8") for path in layers]
    machine = (*platform.uname(), str(os.geteuid() if hasattr(os, "geteuid") else ""))
    return digest(*machine, sys.executable, platform.python_version(), version("torch"), *texts)
