"""Limits of the process: memory, time, files, threads. The kernel keeps them, not Python.

RLIMIT_DATA is the real cap on memory: a large tensor then fails with an exception. RLIMIT_AS is
the outer one, for the mappings that RLIMIT_DATA does not count. Neither is honoured by macOS.
"""

from __future__ import annotations

import resource
import sys

from .policy import Limits


def lower(limits: Limits) -> dict[str, int]:
    """Lower the limits, soft and hard, and forbid core files; return what is now in force.

    Call it inside a new user namespace, not before: the kernel holds the namespace to its maker's
    limit on threads, and counts all that the maker already runs.
    """
    wanted = {
        "cpu_seconds": (resource.RLIMIT_CPU, limits.cpu_seconds),
        "file_bytes": (resource.RLIMIT_FSIZE, limits.file_bytes),
        "open_files": (resource.RLIMIT_NOFILE, limits.open_files),
        "core_bytes": (resource.RLIMIT_CORE, 0),
    }
    if limits.threads is not None:
        wanted["threads"] = (resource.RLIMIT_NPROC, limits.threads)
    if sys.platform == "linux":
        wanted["data_bytes"] = (resource.RLIMIT_DATA, limits.data_bytes)
        if limits.address_bytes is not None:
            wanted["address_bytes"] = (resource.RLIMIT_AS, limits.address_bytes)
    return {field: _lower(which, value) for field, (which, value) in wanted.items()}


def _lower(which: int, value: int) -> int:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))
    return resource.getrlimit(which)[0]
