"""Confine this process, for good: limits, namespaces, privileges, Landlock, seccomp.

Made by hand on ctypes: a worker can import nothing but the standard library, torch and numpy, and
should need no compiler and no system package. `pyseccomp` has had no release since 2021 and needs
libseccomp.so.2; `py-landlock` is an alpha that stops at version 7 of Landlock; `sandlock` is 13 MB
of native code per version of Python, and applies nothing but Landlock to a process that runs.

No layer is enough: Landlock does not see UDP, fork or shared memory, seccomp does not see paths.
"""

from __future__ import annotations

import os
import platform
import sys

from . import landlock, limits, namespaces, privileges, seccomp
from .kernel import Kernel
from .policy import ConfinementError, Layer, Limits, Policy, Report
from .roots import Grants, Tree, listable_folders, readable_roots, readable_trees

__all__ = [
    "ConfinementError",
    "Grants",
    "Kernel",
    "Layer",
    "Limits",
    "Policy",
    "Report",
    "Tree",
    "apply",
    "listable_folders",
    "readable_roots",
    "readable_trees",
]


def apply(policy: Policy, *, kernel: Kernel | None = None, grants: Grants | None = None) -> Report:
    """Apply every layer of `policy` to this process and say what was applied.

    Call it once, after torch is imported and before the submission is loaded, while the process
    has one thread. Raises ConfinementError if a layer cannot be applied; the process then has some
    layers and not others, and has to end.
    """
    if set(policy.layers) - {Layer.LIMITS}:
        _check_linux_and_one_thread()
    kernel = kernel or Kernel()
    in_force: dict[str, int] = {}
    landlock_version = 0
    for layer in (layer for layer in Layer if layer in policy.layers):
        try:
            match layer:
                case Layer.NAMESPACES:
                    namespaces.enter(kernel)
                case Layer.LIMITS:
                    in_force = limits.lower(policy.limits)
                case Layer.PRIVILEGES:
                    privileges.give_up(kernel)
                case Layer.LANDLOCK:
                    grants = grants or Grants.here()
                    landlock_version = landlock.restrict(
                        kernel,
                        readable=(*grants.readable, *policy.readable),
                        listable=grants.listable,
                    )
                case Layer.SECCOMP:
                    # Without a layer that guards the files, none may be opened for writing.
                    guarded = landlock_version >= landlock.TRUNCATE_SINCE
                    seccomp.install(kernel, machine=platform.machine(), writing=guarded)
        except (OSError, ValueError) as error:
            raise ConfinementError(f"the layer {layer} failed: {error}") from error
    return Report(
        layers=tuple(layer for layer in Layer if layer in policy.layers),
        limits=in_force,
        landlock=landlock_version,
    )


def _check_linux_and_one_thread() -> None:
    """A namespace, Landlock and seccomp hold for the thread that asks; others would stay free."""
    if sys.platform != "linux":
        raise ConfinementError(f"{sys.platform} has none of the layers but limits")
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:
        raise ConfinementError(f"only one of the worker's {threads} threads would be confined")
