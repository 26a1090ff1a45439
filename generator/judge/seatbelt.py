"""The command line that starts a worker under macOS's sandbox-exec. Never tried on a Mac.

The profile refuses by default and gives back reading below the allow-list and starting the one
interpreter. sandbox-exec is deprecated, and macOS ignores limits on memory: the judge has to watch
the size of such a worker itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .worker.confine import Tree

SANDBOX_EXEC = "/usr/bin/sandbox-exec"
SYSTEM = ("/usr/lib", "/System/Library", "/System/Volumes/Preboot/Cryptexes")
DEVICES = ("/dev/null", "/dev/urandom")


def command(
    worker: Sequence[str],
    *,
    trees: Iterable[Tree],
    worker_package: Path,
    environment: Mapping[str, str],
) -> list[str]:
    """Return the arguments that run `worker` under the profile, with `environment` alone."""
    interpreter = os.path.realpath(worker[0])
    text = profile(interpreter, trees=[*trees, Tree(str(worker_package))])
    variables = [f"{name}={value}" for name, value in sorted(environment.items())]
    return ["/usr/bin/env", "-i", *variables, SANDBOX_EXEC, "-p", text, interpreter, *worker[1:]]


def profile(interpreter: str, *, trees: Iterable[Tree]) -> str:
    """Return the profile. Of the rules that match, the last one holds."""
    lines = [
        "(version 1)",
        "(deny default)",
        "(allow sysctl-read)",
        "(allow file-read-metadata)",
        "(allow signal (target self))",
        # OpenMP ends the process if it cannot leave its mark there.
        "(allow ipc-posix-shm-read-data ipc-posix-shm-write-create ipc-posix-shm-write-unlink"
        ' (ipc-posix-name-regex #"^/__KMP_REGISTERED_LIB_[0-9]+$"))',
    ]
    # A framework's `python` starts a second program that is the interpreter.
    application = os.path.join(sys.base_prefix, "Resources/Python.app/Contents/MacOS/Python")
    lines += [
        f"(allow process-exec (literal {_quote(path)}))" for path in (interpreter, application)
    ]
    lines += [_allow_reading("subpath", path) for path in SYSTEM]
    lines += [_allow_reading("literal", path) for path in ("/", *DEVICES, interpreter, application)]
    for tree in trees:
        lines.append(_allow_reading("subpath", tree.path))
        lines += [
            f"(deny file-read* file-map-executable (subpath {_quote(f'{tree.path}/{name}')}))"
            for name in tree.hidden
        ]
    lines.append('(allow file-write-data (literal "/dev/null"))')
    return "\n".join(lines) + "\n"


def _allow_reading(match: str, path: str) -> str:
    return f"(allow file-read* file-map-executable ({match} {_quote(path)}))"


def _quote(path: str) -> str:
    escaped = path.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
