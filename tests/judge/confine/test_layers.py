"""Every layer alone refuses its rows of the table; together they refuse all but one.

The attempts are made in earnest, by a child, as this user and as one without privileges.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Set

import pytest
from confinement import Confined, Tries, linux_only

from halfhour.generator.judge.worker.confine import Layer
from halfhour.generator.judge.worker.confine.attempts import Deed

pytestmark = linux_only

ALL = frozenset(Deed)
NETWORK = {Deed.TCP, Deed.UDP}
JUDGE = {Deed.TRACE_JUDGE, Deed.READ_ENVIRONMENT, Deed.READ_MEMORY}

REFUSED_BY: Mapping[Layer, Set[Deed]] = {
    Layer.NAMESPACES: NETWORK | JUDGE,
    Layer.LANDLOCK: JUDGE | {Deed.READ_FILE, Deed.WRITE_FILE, Deed.RUN_PROGRAM},
    Layer.SECCOMP: ALL - JUDGE - {Deed.READ_FILE, Deed.SEE_FILE} | {Deed.TRACE_JUDGE},
}
LEFT_OPEN_BY: Mapping[Layer, Set[Deed]] = {
    Layer.NAMESPACES: {Deed.READ_FILE, Deed.WRITE_FILE, Deed.UNIX, Deed.START_PROCESS},
    Layer.LANDLOCK: {Deed.UDP, Deed.START_PROCESS, Deed.SHARE_MEMORY, Deed.IO_URING},
    Layer.SECCOMP: {Deed.READ_FILE, Deed.SEE_FILE},
}
JUST_LANDLOCK = (Layer.PRIVILEGES, Layer.LANDLOCK)
LAYERS = {
    Layer.NAMESPACES: (Layer.NAMESPACES,),
    Layer.LANDLOCK: JUST_LANDLOCK,
    Layer.SECCOMP: (Layer.PRIVILEGES, Layer.SECCOMP),
}


def rows(table: Mapping[Layer, Set[Deed]]) -> list[tuple[Layer, Deed]]:
    return [(layer, deed) for layer in table for deed in Deed if deed in table[layer]]


def test_everything_can_be_done_without_a_layer(tries: Tries) -> None:
    """Else a refusal further down would prove nothing."""
    assert tries().fault == ""
    if tries().refused:
        pytest.skip(f"this machine itself refuses to {', '.join(tries().refused)}")
    assert set(tries().done) == ALL


@pytest.mark.parametrize(("layer", "deed"), rows(REFUSED_BY))
def test_a_layer_alone_refuses(layer: Layer, deed: Deed, tries: Tries) -> None:
    assert deed in tries(*LAYERS[layer]).refused


@pytest.mark.parametrize(("layer", "deed"), rows(LEFT_OPEN_BY))
def test_no_layer_alone_is_enough(layer: Layer, deed: Deed, tries: Tries) -> None:
    if deed in tries().refused:
        pytest.skip(f"this machine itself refuses to {deed}")

    assert deed in tries(*LAYERS[layer]).done


def test_landlock_keeps_signals_inside_since_its_version_six(
    tries: Tries, confined: Confined
) -> None:
    version = int(confined("print(report.landlock)", layers=JUST_LANDLOCK).stdout)
    if version < 6:
        pytest.skip(f"this kernel has version {version} of Landlock")

    assert Deed.SIGNAL_JUDGE in tries(*JUST_LANDLOCK).refused


@pytest.mark.parametrize("deed", sorted(ALL - {Deed.SEE_FILE}))
@pytest.mark.parametrize(
    "layers",
    [tuple(Layer), (Layer.LIMITS, Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP)],
    ids=["with namespaces", "without namespaces"],
)
def test_all_layers_together_refuse(layers: tuple[Layer, ...], deed: Deed, tries: Tries) -> None:
    assert deed in tries(*layers).refused


def test_the_layers_are_reported_in_the_order_they_were_applied(tries: Tries) -> None:
    assert tries(*Layer).layers == tuple(Layer)


def test_a_worker_of_root_has_no_capability_left(confined: Confined) -> None:
    """Bounding set aside: it matters to programs that are run, and none can be."""
    reads_status = "print(open('/proc/self/status').read())"
    layers = (Layer.NAMESPACES, Layer.PRIVILEGES)

    status = confined(reads_status, layers=layers).stdout
    held = {line.split()[1] for line in status.splitlines() if line.startswith(("CapP", "CapE"))}

    assert held == {"0000000000000000"}


def test_a_worker_without_privileges_is_hidden_and_gains_none_by_running_a_program(
    confined: Confined,
) -> None:
    pr_get_dumpable, pr_get_no_new_privs = 3, 39
    code = f"""
import ctypes
prctl = ctypes.CDLL(None).prctl
print(prctl({pr_get_dumpable}, 0, 0, 0, 0), prctl({pr_get_no_new_privs}, 0, 0, 0, 0))
"""
    assert confined(code, layers=(Layer.PRIVILEGES,)).stdout == "0 1\n"


@pytest.mark.parametrize("kind", ["user", "net", "ipc", "uts"])
def test_a_worker_leaves_the_judges_namespace(kind: str, confined: Confined) -> None:
    code = f"import os; print(os.readlink('/proc/self/ns/{kind}'))"

    inside = confined(code, layers=(Layer.NAMESPACES,)).stdout.strip()

    assert inside.startswith(f"{kind}:")
    assert inside != os.readlink(f"/proc/self/ns/{kind}")


def test_a_worker_in_its_namespaces_does_not_know_the_host_name(confined: Confined) -> None:
    code = "import os; print(os.uname().nodename)"

    assert confined(code, layers=(Layer.NAMESPACES,)).stdout == "worker\n"


def test_a_worker_dies_with_the_thread_that_started_it(confined: Confined) -> None:
    """The child of the child is confined, its parent ends, and it is gone."""
    code = """
import os, time
out, into = os.pipe()
middle = os.fork()
if middle == 0:
    if os.fork() == 0:
        confine.apply(confine.Policy(layers=(confine.Layer.PRIVILEGES,)))
        os.write(into, b"confined")
        time.sleep(30)
    os.read(out, 8)
    os._exit(0)
os.close(into)
os.waitpid(middle, 0)
print(os.read(out, 8))
"""
    run = confined(code, layers=())

    assert run.stdout == "b''\n", run.stderr
