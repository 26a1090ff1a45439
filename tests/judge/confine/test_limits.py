"""Limits: too much memory is an exception that honest code can meet, not the end of the worker."""

from __future__ import annotations

import json
import signal

import pytest
from confinement import Confined, linux_only

from halfhour.generator.judge.worker.confine import Layer, Limits

pytestmark = linux_only

MIB = 1 << 20
JUST_LIMITS = (Layer.LIMITS,)


def test_the_limits_in_force_are_those_asked_for(confined: Confined) -> None:
    limits = Limits(
        cpu_seconds=7,
        data_bytes=600 * MIB,
        address_bytes=900 * MIB,
        file_bytes=5,
        open_files=32,
    )
    code = """
import json, resource
names = ("CPU", "DATA", "AS", "FSIZE", "NOFILE", "CORE")
print(json.dumps([resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in names]))
print(json.dumps(dict(report.limits)))
"""
    kernel, reported = map(json.loads, confined(code, limits=limits).stdout.splitlines())

    expected = {
        "cpu_seconds": 7,
        "data_bytes": 600 * MIB,
        "address_bytes": 900 * MIB,
        "file_bytes": 5,
        "open_files": 32,
        "core_bytes": 0,
    }
    assert reported == expected
    assert kernel == [[value, value] for value in expected.values()]


def test_a_limit_is_never_raised(confined: Confined) -> None:
    lower_first = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
    again = "print(confine.limits.lower(confine.Limits(open_files=64))['open_files'])"

    assert confined(lower_first + again, layers=()).stdout == "20\n"


@pytest.mark.parametrize("taken", ["bytearray(700 << 20)", "[0] * (100 << 20)"])
def test_too_much_memory_is_a_memory_error_and_the_worker_lives(
    taken: str, confined: Confined
) -> None:
    code = f"""
try:
    {taken}
except MemoryError:
    print("no memory")
print("alive")
"""
    run = confined(code, limits=Limits(data_bytes=600 * MIB))

    assert run.stdout == "no memory\nalive\n", run


@pytest.mark.parametrize(
    "flags",
    ["MAP_SHARED | mmap.MAP_ANONYMOUS", "MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x100"],
    ids=["shared memory", "a stack that grows downwards"],
)
def test_memory_that_the_limit_does_not_count_needs_seccomp(flags: str, confined: Confined) -> None:
    code = f"import mmap; mmap.mmap(-1, 700 << 20, mmap.{flags}); print('escaped')"
    limits = Limits(data_bytes=600 * MIB)

    assert confined(code, limits=limits, layers=JUST_LIMITS).stdout == "escaped\n"
    assert "PermissionError" in confined(code, limits=limits).stderr


def test_time_on_the_processor_is_limited(confined: Confined) -> None:
    run = confined("while True: pass", limits=Limits(cpu_seconds=1))

    assert run.returncode in (-signal.SIGKILL, -signal.SIGXCPU)


def test_threads_are_counted_in_the_workers_own_namespace(confined: Confined) -> None:
    """Root is never refused a thread, so only the limit itself can be seen by any user."""
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC), report.limits)"

    run = confined(code, limits=Limits(threads=5), layers=(Layer.NAMESPACES, Layer.LIMITS))

    assert "(5, 5)" in run.stdout
    assert "'threads': 5" in run.stdout


def test_many_threads_end_in_an_exception(confined: Confined) -> None:
    code = """
import threading
stop = threading.Event()
count = 0
try:
    while count < 5000:
        threading.Thread(target=stop.wait, daemon=True).start()
        count += 1
except RuntimeError as error:
    print(error, 0 < count < 5000)
stop.set()
"""
    run = confined(code, limits=Limits(data_bytes=600 * MIB, address_bytes=900 * MIB))

    assert run.stdout == "can't start new thread True\n", run
