"""Children to confine, as this user and as an ordinary one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

import halfhour.generator
from halfhour.generator.judge import bubblewrap, tryout
from halfhour.generator.judge.child import CLEAN_ENVIRONMENT
from halfhour.generator.judge.worker.confine import Layer, Limits, Policy, readable_trees

GENERATOR = Path(halfhour.generator.__file__).resolve().parent
NOBODY = 65534
IN_SANDBOX = tuple(layer for layer in Layer if layer is not Layer.NAMESPACES)
"""The layers that a worker can still apply inside bubblewrap, and inside most containers."""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these layers")

Launch = Callable[[list[str]], list[str]]

LOAD = """
import importlib.util, sys
folder, policy, packages, code = sys.argv[1:]
spec = importlib.util.spec_from_file_location(
    "confine", folder + "/__init__.py", submodule_search_locations=[folder]
)
sys.modules["confine"] = confine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(confine)
if packages:
    sys.path.append(packages)
    import torch
exec(code)
"""
APPLY = "report = confine.apply(confine.Policy.from_json(policy))\n"

TRY = """
import json, sys
from dataclasses import asdict
from halfhour.generator.judge import child, tryout
from halfhour.generator.judge.worker.confine import Policy
policy = Policy.from_json(sys.argv[1])
print(json.dumps(asdict(tryout.run(policy, environment=child.CLEAN_ENVIRONMENT))))
"""


class Confined(Protocol):
    """Runs `code` in a child after confining it, and `before` before.

    Both see `confine`, and `code` sees the `report`. Without `layers` they are IN_SANDBOX.
    """

    def __call__(
        self,
        code: str,
        *,
        before: str = ...,
        layers: Sequence[Layer] = ...,
        limits: Limits = ...,
        launch: Launch = ...,
        torch: bool = ...,
    ) -> subprocess.CompletedProcess[str]: ...


class Tries(Protocol):
    """Tries everything in a child under some layers."""

    def __call__(self, *layers: Layer) -> tryout.Tryout: ...


def run_child(
    code: str,
    policy: Policy,
    *,
    launch: Launch = list,
    torch: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `code` in a child that has loaded the package and, if asked, torch."""
    packages = tryout.torch_folder() if torch else ""
    worker = [sys.executable, "-I", "-S", "-B", "-c", LOAD, str(tryout.PACKAGE)]
    return subprocess.run(
        launch([*worker, policy.to_json(), packages, code]),
        env=dict(CLEAN_ENVIRONMENT),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def inside(bwrap: bubblewrap.Bubblewrap) -> Launch:
    """Return what starts a worker in the sandbox that the judge would make."""
    return functools.partial(
        bubblewrap.command,
        bwrap,
        trees=readable_trees(),
        worker_package=tryout.PACKAGE,
        environment=CLEAN_ENVIRONMENT,
    )


class OrdinaryUser:
    """Runs our code as a user without privileges, from a copy which that user can read."""

    def __init__(self, folder: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("this already is an ordinary user")
        self._python = self._find_python()
        self._folder = folder
        folder.chmod(0o755)
        copy = folder / "halfhour" / "generator"
        shutil.copytree(GENERATOR, copy, ignore=shutil.ignore_patterns("__pycache__"))

    def _find_python(self) -> str:
        this = f"{sys.version_info.major}.{sys.version_info.minor}"
        code = f"import sys, ctypes; sys.exit('%d.%d' % sys.version_info[:2] != '{this}')"
        for python in (sys.executable, f"/usr/bin/python{this}", f"/usr/local/bin/python{this}"):
            with contextlib.suppress(PermissionError, FileNotFoundError):
                if self._run([python, "-c", code]).returncode == 0:
                    return python
        return pytest.skip(f"an ordinary user can run no Python {this} on this machine")

    def call(self, code: str, *arguments: str) -> Any:
        """Run `code`, for which halfhour and torch can be imported; return the JSON it prints."""
        path = os.pathsep.join([str(self._folder), tryout.torch_folder()])
        run = self._run([self._python, "-B", "-c", code, *arguments], PYTHONPATH=path)
        assert run.returncode == 0, run.stderr

        return json.loads(run.stdout)

    def _run(self, command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env={"PATH": "/usr/bin:/bin", **environment},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def try_everything(self, policy: Policy) -> tryout.Tryout:
        known = self.call(TRY, policy.to_json())
        return tryout.Tryout(
            layers=tuple(known["layers"]),
            refused=known["refused"],
            done=tuple(known["done"]),
            fault=known["fault"],
        )
