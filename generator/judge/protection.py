"""Which rung the workers of this machine get: tried in children once, and then remembered.

One's own file is judged on the strongest rung that a worker takes by itself, which costs nothing.
The file of another is judged on the strongest there is, and not at all where that is too weak.

What is remembered holds for one kernel, one user, one interpreter, one torch and one version of the
layers; if any of these changes, all is tried again. A worker whose layers fail does not start.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from .. import places
from ..errors import EnvironmentFault, HalfhourError
from ..files import replace_file
from ..records import digest
from . import rungs
from .devices import CPU
from .rungs import Rung

_WITHOUT_LAUNCHER = {
    "linux": (Rung.L2, Rung.L1, Rung.L0, Rung.P),
    "darwin": (Rung.M0, Rung.P),
}
"""The rungs that a worker can take by itself, the strongest first."""
_FOR_OTHERS = (Rung.L3, Rung.L2, Rung.L1, Rung.M1)
"""On these the kernel keeps a submission from the tests, the files and the network."""


def rung_here(device: str = CPU) -> Rung:
    """Return the strongest rung that holds here without another program's help.

    The first time takes some seconds. A GPU is driven through files and calls that every layer
    refuses, and so its worker gets none. Raises JudgeError where no worker runs at all.
    """
    if device != CPU:
        return Rung.P
    ladder = _WITHOUT_LAUNCHER.get(sys.platform, (Rung.P,))
    return _remembered("own", ladder)


def rung_for_others(device: str = CPU, *, accept_risk: bool = False) -> Rung:
    """Return the rung on which to run the files of people one need not trust.

    Raises EnvironmentFault where that is below L1, or below L3 for root, unless the risk is
    accepted; JudgeError where no worker runs at all.
    """
    rung = _remembered("others", ()) if device == CPU else Rung.P
    if accept_risk:
        return rung
    if rung not in _FOR_OTHERS:
        raise EnvironmentFault(
            f"other people's files are not run here: on {device} this machine offers no more than"
            f" {rung.label}; use Linux 5.13 or newer on the CPU, or accept the risk with"
            " --accept-risk"
        )
    if _is_root() and rung is not Rung.L3:
        raise EnvironmentFault(
            f"other people's files are not run as root on rung {rung}; install bubblewrap, be"
            " another user, or accept the risk with --accept-risk"
        )
    return rung


def _remembered(use: str, ladder: Sequence[Rung]) -> Rung:
    """Return the first rung of the ladder that holds; an empty ladder is the platform's own."""
    memory = places.cache_dir() / f"protection-{use}.json"
    key = _key()
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(memory.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return Rung(kept["rung"])
    rung = rungs.probe(ladder=ladder).rung
    with suppress(OSError, HalfhourError):  # then it is tried again
        memory.parent.mkdir(parents=True, exist_ok=True)
        replace_file(memory, json.dumps({"key": key, "rung": rung}).encode())
    return rung


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _key() -> str:
    here = Path(__file__).parent
    layers = [*sorted((here / "worker" / "confine").glob("*.py")), here / "bubblewrap.py"]
    texts = [path.read_text(encoding="utf-8") for path in layers]
    machine = (*platform.uname(), str(os.geteuid() if hasattr(os, "geteuid") else ""))
    programs = (sys.executable, shutil.which("bwrap") or "")
    return digest(*machine, *programs, platform.python_version(), version("torch"), *texts)
