"""Start a child confined by a policy, let it try everything, and see what it was refused."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .worker import confine
from .worker.confine.attempts import Deed, Targets

PACKAGE = Path(confine.__file__).resolve().parent
SECONDS = 60

BOOTSTRAP = """
import importlib.util, sys
folder = sys.argv.pop(1)
spec = importlib.util.spec_from_file_location(
    "confine", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["confine"] = confine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(confine)
importlib.import_module("confine.attempts").main()
"""
"""Loads the package by its path: the child does not have halfhour."""


@dataclass(frozen=True, slots=True)
class Tryout:
    """What became of one child."""

    layers: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """The deed and the error it met."""
    done: tuple[str, ...] = ()
    fault: str = ""
    """Why the child could not be confined, or not do honest work; else empty."""


def run(
    policy: confine.Policy,
    *,
    environment: Mapping[str, str],
    launch: Callable[[list[str]], list[str]] = list,
    torch: str = "",
) -> Tryout:
    """Try everything in a child under `policy`, started by the arguments that `launch` returns.

    `torch`: the folder to import torch from; the child then also multiplies matrices.
    """
    with ExitStack() as stack:
        targets = _targets(stack)
        worker = [sys.executable, "-I", "-S", "-B", "-c", BOOTSTRAP, str(PACKAGE)]
        worker += [policy.to_json(), json.dumps(asdict(targets)), torch]
        try:
            child = subprocess.run(
                launch(worker),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return Tryout(fault=f"the child could not be run: {error}")
    return _read(child)


def torch_folder() -> str:
    """Return the folder to import torch from, "" if there is none; torch is not imported."""
    spec = importlib.util.find_spec("torch")
    return str(Path(spec.origin).parent.parent) if spec and spec.origin else ""


def _targets(stack: ExitStack) -> Targets:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="halfhour-")))
    (folder / "planted").write_text("a file that the worker has no business with")
    listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    receiving = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    receiving.bind(("127.0.0.1", 0))
    local = stack.enter_context(socket.socket(socket.AF_UNIX))
    local.bind(str(folder / "socket"))
    local.listen()
    return Targets(
        folder=str(folder),
        file=str(folder / "planted"),
        tcp_port=listening.getsockname()[1],
        udp_port=receiving.getsockname()[1],
        unix_socket=str(folder / "socket"),
        judge=os.getpid(),
    )


def _read(child: subprocess.CompletedProcess[str]) -> Tryout:
    lines = child.stdout.splitlines()
    try:
        report = json.loads(lines[0])
        if "error" in report:
            return Tryout(fault=report["error"])
        outcomes = {**report["outcomes"], Deed.RUN_PROGRAM.value: lines[1]}
    except (ValueError, IndexError):
        words = child.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return Tryout(fault=f"the child ended with {child.returncode}: {words[0]}")
    return Tryout(
        layers=tuple(report["layers"]),
        refused={deed: error for deed, error in outcomes.items() if error},
        done=tuple(deed for deed, error in outcomes.items() if not error),
    )
