"""`halfhour doctor`: what is here, what is missing, what to do."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import click

from .. import places
from .._version import VERSION
from ..console import here
from ..errors import HalfhourError
from ..records import Promise, Trial, VerdictKind
from . import _machine
from ._common import Verb, json_option

_WELL = Trial(
    name="well",
    source="def double(x: int) -> int:\n    return 2 * x\n",
    tests='def test_double(subject):\n    """Twice."""\n    assert subject.double(21) == 42\n',
    promises=(Promise("test_double", "Twice."),),
    public_names=("double",),
    seed=0,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    found: str
    todo: str = ""
    """What to do about it, where it is not ok."""
    meaning: str = ""
    needed: bool = True


@click.command(cls=Verb)
@json_option
def doctor() -> int:
    """Say what is installed, which device, which protection, and what to do.

    Exits with 4 where something needed is missing.
    """
    findings = [look() for look in _LOOKS]
    ok = all(finding.ok for finding in findings if finding.needed)
    console = here()
    if console.as_json:
        console.json({"ok": ok, "version": VERSION, "checks": [_as_json(f) for f in findings]})
    else:
        for finding in findings:
            console.out(f"{_mark(finding)} {finding.name:<9} {finding.found}")
            for line in _below(finding):
                console.out(f"               {line}")
        console.say("all is well" if ok else "something is missing; see what is marked")
    return 0 if ok else 4


def _below(finding: Finding) -> list[str]:
    """Return what is said below a finding; what is to be typed stays on one line."""
    if not finding.ok:
        return [finding.todo, *textwrap.wrap(finding.meaning, 84)]
    return textwrap.wrap(finding.meaning, 84)


def _mark(finding: Finding) -> str:
    if finding.ok:
        return click.style("ok  ", fg="green")
    return click.style("MISS", fg="red") if finding.needed else click.style("none", fg="yellow")


def _as_json(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "ok": finding.ok,
        "needed": finding.needed,
        "found": finding.found,
        "meaning": finding.meaning,
        "todo": finding.todo if not finding.ok else "",
    }


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding("python", ok, found, "install Python 3.11 or newer")


def _torch() -> Finding:
    todo = (
        "install it; without a GPU, the small one:"
        " pip install torch --index-url https://download.pytorch.org/whl/cpu"
    )
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return Finding("torch", False, f"cannot be imported: {error}", todo)
    return Finding("torch", True, str(torch.__version__))


def _cuda() -> Finding:
    todo = "none is needed: every promise can be tried on the CPU"
    try:
        torch = importlib.import_module("torch")
        found = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
    except (ImportError, OSError, RuntimeError) as error:
        return Finding("cuda", False, f"cannot be asked: {error}", todo, needed=False)
    return Finding("cuda", bool(found), found or "no GPU that torch can use", todo, needed=False)


def _ruff() -> Finding:
    todo = "install it: pip install ruff"
    command = [sys.executable, "-m", "ruff", "--version"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("ruff", False, str(error), todo)
    if run.returncode != 0:
        return Finding("ruff", False, "does not run here", todo)
    return Finding("ruff", True, run.stdout.strip())


def _state() -> Finding:
    folder = places.state_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"halfhour")
            os.fsync(file.fileno())
    except OSError as error:
        todo = "set HALFHOUR_HOME to a folder of yours; without it the clock is not kept"
        return Finding("state", False, f"{folder}: {error.strerror}", todo, needed=False)
    return Finding("state", True, str(folder))


def _judge() -> Finding:
    todo = "run again with --debug, and report what it says"
    try:
        verdict = _machine.judge(_WELL, device="auto")
    except HalfhourError as error:
        if here().debug:
            here().trace()
        return Finding("judge", False, str(error), todo)
    if verdict.kind is not VerdictKind.FIXED:
        return Finding("judge", False, f"{verdict.kind}: {verdict.reason}", todo)
    found = f"on {verdict.device}, rung {verdict.rung}"
    return Finding("judge", True, found, meaning=_machine.meaning_of(verdict.rung))


def _sandbox() -> Finding:
    """Say on which rung other people's files would run, and what a child was refused on it."""
    todo = (
        "on Linux: install bubblewrap (apt-get install bubblewrap); without it, grade other"
        " people's files as an ordinary user, in a container or a virtual machine"
    )
    try:
        found = _machine.protection()
    except HalfhourError as error:
        return Finding("sandbox", False, str(error), todo, needed=False)
    told = [f"layers: {', '.join(found.layers) or 'none'}."]
    told += [f"Refused: {', '.join(found.refused)}."] if found.refused else []
    told += [f"Not refused: {', '.join(found.allowed)}."] if found.allowed else []
    strong = found.rung in ("L3", "L2", "L1")
    words = f"{found.rung} ({found.rung.label})"
    return Finding(
        "sandbox", strong, words, todo, meaning=" ".join([*told, *found.notes]), needed=False
    )


_LOOKS: tuple[Callable[[], Finding], ...] = (
    *(_python, _torch, _cuda, _ruff, _state),
    *(_judge, _sandbox),
)
