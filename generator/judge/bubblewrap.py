"""The command line that starts a worker inside bubblewrap: a root of its own, almost empty.

Inside, there are the interpreter, its standard library, torch and numpy with what they import, the
system's libraries, the worker's own folder and two devices, all read-only, at the paths they have
outside. No home, no processes but its own, no network, nothing writable.

Start it in a session of its own and end it by its process group: killed alone in its first
milliseconds, bubblewrap leaves its child behind. It also dies with the thread that started it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .worker.confine import Tree

DEVICES = ("/dev/null", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """An installed bubblewrap."""

    path: str
    disables_user_namespaces: bool
    """Since 0.8.0."""


@functools.cache
def find() -> Bubblewrap | None:
    """Return the installed bubblewrap; whether it works here is for a trial to say."""
    path = shutil.which("bwrap")
    if path is None:
        return None
    run = subprocess.run([path, "--help"], capture_output=True, text=True, check=False)
    return Bubblewrap(path, "--disable-userns" in run.stdout + run.stderr)


def command(
    bwrap: Bubblewrap,
    worker: Sequence[str],
    *,
    trees: Iterable[Tree],
    worker_package: Path,
    environment: Mapping[str, str],
) -> list[str]:
    """Return the arguments that run `worker` in the sandbox.

    The first word of `worker` is an interpreter; it is started by its real path, outside of any
    virtual environment. File descriptors that the caller passes on reach the worker. `trees` come
    parents first, as `readable_trees()` returns them.
    """
    interpreter = os.path.realpath(worker[0])
    arguments = [
        bwrap.path,
        *("--unshare-all", "--unshare-user"),
        *(("--disable-userns",) if bwrap.disables_user_namespaces else ()),
        *("--hostname", "worker"),
        *("--die-with-parent", "--new-session"),
        *("--cap-drop", "ALL"),
        "--clearenv",
    ]
    for name, value in sorted(environment.items()):
        arguments += ["--setenv", name, value]
    arguments += ["--proc", "/proc"]
    for device in DEVICES:
        arguments += ["--dev-bind", device, device]
    covers: list[str] = []
    for tree in trees:
        if tree.path.startswith("/proc/"):
            continue
        arguments += ["--ro-bind", tree.path, tree.path]
        for name in tree.hidden:
            covers.append(os.path.join(tree.path, name))
            arguments += ["--tmpfs", covers[-1]]
    for path in (interpreter, str(worker_package)):
        arguments += ["--ro-bind", path, path]
    # Only now: what lies below a cover had to be mounted on it first.
    for path in (*covers, "/"):
        arguments += ["--remount-ro", path]
    return [*arguments, "--chdir", "/", "--", interpreter, *worker[1:]]
