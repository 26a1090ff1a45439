"""A policy is applied whole or not at all, and says what it did."""

from __future__ import annotations

import json
import sys

import pytest
from confinement import Confined, linux_only, run_child

from halfhour.generator.judge.worker import confine
from halfhour.generator.judge.worker.confine import ConfinementError, Layer, Limits, Policy

pytestmark = linux_only

LACKING = """
import errno
class Lacking(confine.Kernel):
    def call(self, function, *arguments):
        if {condition}:
            raise OSError(errno.{error}, "it is not there")
        return super().call(function, *arguments)
try:
    confine.apply(confine.Policy.from_json(policy), kernel=Lacking())
    print("applied")
except confine.ConfinementError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("layer", "condition", "error"),
    [
        (Layer.NAMESPACES, "function == 'unshare'", "EPERM"),
        (Layer.PRIVILEGES, "function == 'capset'", "EPERM"),
        (Layer.PRIVILEGES, "function == 'prctl' and arguments[0] == 38", "EINVAL"),
        (Layer.LANDLOCK, "function == 'syscall' and arguments[0] == 444", "ENOSYS"),
        (Layer.LANDLOCK, "function == 'syscall' and arguments[0] == 444", "EOPNOTSUPP"),
        (Layer.LANDLOCK, "function == 'syscall' and arguments[0] == 445", "EINVAL"),
        (Layer.LANDLOCK, "function == 'syscall' and arguments[0] == 446", "EPERM"),
        (Layer.SECCOMP, "function == 'prctl' and arguments[0] == 22", "EINVAL"),
    ],
    ids=[
        *("no user namespaces", "capabilities kept", "no no_new_privs", "no Landlock"),
        *("Landlock off", "a rule refused", "a ruleset refused", "no seccomp"),
    ],
)
def test_a_layer_that_is_missing_is_an_error_and_no_step_down(
    layer: Layer, condition: str, error: str, missing: dict[Layer, str]
) -> None:
    layers = tuple(known for known in Layer if known not in missing or known is layer)
    code = LACKING.format(condition=condition, error=error)

    run = run_child(code, Policy(layers=layers))

    assert run.stdout.startswith(f"the layer {layer} failed: "), run


def test_a_second_thread_is_an_error(confined: Confined) -> None:
    """It would stay outside of most layers."""
    code = """
import threading
stop = threading.Event()
threading.Thread(target=stop.wait).start()
try:
    confine.apply(confine.Policy())
except confine.ConfinementError as error:
    print(error)
stop.set()
"""
    run = confined(code, layers=())

    assert run.stdout == "only one of the worker's 2 threads would be confined\n"


def test_another_system_has_no_layer_but_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")

    with pytest.raises(ConfinementError, match="darwin has none of the layers but limits"):
        confine.apply(Policy(layers=(Layer.PRIVILEGES,)))


def test_an_empty_policy_applies_nothing() -> None:
    report = confine.apply(Policy(layers=()))

    assert report.layers == ()
    assert report.limits == {}
    assert report.landlock == 0


def test_the_report_crosses_as_json(confined: Confined) -> None:
    report = json.loads(confined("print(report.to_json())", layers=tuple(Layer)).stdout)

    assert report["layers"] == list(Layer)
    assert report["landlock"] >= 1
    assert report["limits"]["data_bytes"] == Limits().data_bytes


@pytest.mark.parametrize(
    "policy",
    [
        Policy(),
        Policy(layers=()),
        Policy(
            layers=(Layer.LIMITS,),
            limits=Limits(cpu_seconds=3, address_bytes=None, threads=9),
            readable=("/opt/more",),
        ),
    ],
    ids=["whole", "empty", "changed"],
)
def test_a_policy_crosses_as_json(policy: Policy) -> None:
    assert Policy.from_json(policy.to_json()) == policy


def test_a_policy_with_an_unknown_layer_is_refused() -> None:
    text = Policy().to_json().replace("seccomp", "prayer")

    with pytest.raises(ValueError, match="prayer"):
        Policy.from_json(text)


@pytest.mark.parametrize("layer", [Layer.LANDLOCK, Layer.SECCOMP])
def test_a_policy_that_keeps_its_privileges_is_refused(layer: Layer) -> None:
    """Neither layer holds for a process that can gain privileges."""
    with pytest.raises(ValueError, match="cannot be applied without privileges"):
        Policy(layers=(layer,))


def test_the_package_needs_nothing_but_the_standard_library(confined: Confined) -> None:
    """A worker has no site-packages when it loads it, and must not wait for torch."""
    code = """
import sys
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("halfhour", "torch")))
print([path for path in sys.path if path.endswith("-packages")])
"""
    assert confined(code).stdout == "[]\n[]\n"
