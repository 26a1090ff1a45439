"""Children to confine; where the machine lacks a layer, a sentence instead."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from confinement import APPLY, IN_SANDBOX, Confined, Launch, OrdinaryUser, Tries, run_child

from halfhour.generator.judge import bubblewrap, rungs, tryout
from halfhour.generator.judge.child import CLEAN_ENVIRONMENT
from halfhour.generator.judge.worker.confine import Kernel, Layer, Limits, Policy, landlock


@pytest.fixture(scope="session")
def missing() -> Mapping[Layer, str]:
    """Return the layers that this machine does not have, each with a sentence."""
    lacks: dict[Layer, str] = {}
    if landlock.version(Kernel()) == 0:
        lacks[Layer.LANDLOCK] = "this kernel has no Landlock"
    if shutil.which("unshare") is None:
        lacks[Layer.NAMESPACES] = "there is no `unshare` to find out about user namespaces"
    elif subprocess.run(["unshare", "-U", "true"], capture_output=True, check=False).returncode:
        lacks[Layer.NAMESPACES] = "this machine refuses user namespaces"
    return lacks


@pytest.fixture(scope="session")
def bwrap() -> bubblewrap.Bubblewrap:
    """Return bubblewrap; skip where it is missing or cannot make even a wide sandbox."""
    found = bubblewrap.find()
    if found is None:
        pytest.skip("bubblewrap is not installed")
    wide = [found.path, "--unshare-all", "--unshare-user", "--ro-bind", "/", "/"]
    wide += ["--disable-userns"] if found.disables_user_namespaces else []
    wide += ["--proc", "/proc", "true"]
    run = subprocess.run(wide, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"bubblewrap does not work on this machine: {run.stderr.strip()}")
    return found


@pytest.fixture(scope="session")
def confined(missing: Mapping[Layer, str]) -> Confined:
    def run(
        code: str,
        *,
        before: str = "",
        layers: Sequence[Layer] = IN_SANDBOX,
        limits: Limits = rungs.PRACTICE,
        launch: Launch = list,
        torch: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        _skip_if_missing(layers, missing)
        policy = Policy(layers=tuple(layers), limits=limits)
        return run_child(before + APPLY + code, policy, launch=launch, torch=torch)

    return run


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[OrdinaryUser]:
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory(prefix="halfhour-tests-") as folder:
        yield OrdinaryUser(Path(folder))


@pytest.fixture(scope="session", params=["this user", "an ordinary user"])
def tries(request: pytest.FixtureRequest, missing: Mapping[Layer, str]) -> Tries:
    """Try everything under some layers, one child for each set of layers and user."""
    ordinary: OrdinaryUser | None = None
    if request.param == "an ordinary user":
        ordinary = request.getfixturevalue("ordinary_user")
    known: dict[tuple[Layer, ...], tryout.Tryout] = {}

    def run(*layers: Layer) -> tryout.Tryout:
        _skip_if_missing(layers, missing)
        if layers not in known:
            policy = Policy(layers=layers)
            known[layers] = (
                ordinary.try_everything(policy)
                if ordinary
                else tryout.run(policy, environment=CLEAN_ENVIRONMENT)
            )
        return known[layers]

    return run


def _skip_if_missing(layers: Sequence[Layer], missing: Mapping[Layer, str]) -> None:
    for layer in layers:
        if layer in missing:
            pytest.skip(missing[layer])
