"""The sandbox: what the arguments say, and what a worker sees of the machine from inside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from confinement import IN_SANDBOX, Confined, inside, linux_only

from halfhour.generator.judge import bubblewrap, tryout
from halfhour.generator.judge.child import CLEAN_ENVIRONMENT
from halfhour.generator.judge.worker.confine import Tree, readable_trees

pytestmark = linux_only

OLD = bubblewrap.Bubblewrap("/usr/bin/bwrap", disables_user_namespaces=False)
NEW = bubblewrap.Bubblewrap("/usr/bin/bwrap", disables_user_namespaces=True)
REPOSITORY = Path(__file__).resolve().parents[3]

See = Callable[[str], Any]


TREES = (Tree("/lib/python3", ("site-packages",)), Tree("/lib/python3/site-packages/torch"))


def words(bwrap: bubblewrap.Bubblewrap = NEW, trees: Sequence[Tree] = TREES) -> list[str]:
    return bubblewrap.command(
        bwrap,
        [sys.executable, "-I", "boot.py"],
        trees=trees,
        worker_package=Path("/worker"),
        environment={"B": "2", "A": "1"},
    )


def test_the_sandbox_shares_nothing_and_ends_with_the_judge() -> None:
    arguments = words()

    for flag in ("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"):
        assert flag in arguments
    assert arguments[arguments.index("--cap-drop") + 1] == "ALL"


def test_user_namespaces_are_switched_off_where_bubblewrap_can() -> None:
    assert "--disable-userns" in words(NEW)
    assert "--disable-userns" not in words(OLD)


def test_packages_are_mounted_over_the_cover_of_their_folder() -> None:
    """First the library, then an empty folder over all packages, then the few that are needed."""
    text = " ".join(words())

    library = text.index("--ro-bind /lib/python3 /lib/python3")
    cover = text.index("--tmpfs /lib/python3/site-packages")
    torch = text.index("--ro-bind /lib/python3/site-packages/torch")
    closed = text.index("--remount-ro /lib/python3/site-packages")
    assert library < cover < torch < closed < text.index("--remount-ro / ")


def test_the_environment_is_given_in_order_and_nothing_else() -> None:
    arguments = words()

    first = arguments.index("--setenv")
    assert arguments[first : first + 6] == ["--setenv", "A", "1", "--setenv", "B", "2"]
    assert arguments.count("--setenv") == 2


def test_the_worker_is_started_by_the_interpreters_real_path() -> None:
    real = os.path.realpath(sys.executable)

    assert words()[-4:] == ["--", real, "-I", "boot.py"]
    assert f"--ro-bind {real} {real}" in " ".join(words())


def test_the_same_arguments_every_time() -> None:
    trees = readable_trees()

    assert words(trees=trees) == words(trees=trees)


@pytest.fixture(scope="module")
def see(bwrap: bubblewrap.Bubblewrap, confined: Confined) -> See:
    """Evaluate an expression inside the sandbox, where no further layer hides anything."""

    def run(expression: str) -> Any:
        code = f"import json, os, sys; print(json.dumps({expression}))"
        run = confined(code, layers=(), launch=inside(bwrap))
        assert run.returncode == 0, run.stderr

        return json.loads(run.stdout)

    return run


def test_a_worker_sees_no_home_and_no_folder_of_anyone(see: See) -> None:
    """Only what leads to the interpreter, its libraries and the worker, wherever they lie."""
    needed = {Path(tree.path).parts[1] for tree in readable_trees()}
    needed |= {tryout.PACKAGE.parts[1], Path(sys.base_prefix).resolve().parts[1]}
    anyones = {"home", "root", "tmp", "var", "mnt", "media", "opt", "srv", "boot", "run"}

    assert set(see("os.listdir('/')")).isdisjoint(anyones - needed)
    assert see("sorted(os.listdir('/etc'))") == ["ld.so.cache", "localtime"]
    assert see("sorted(os.listdir('/dev'))") == ["null", "urandom"]


def test_a_worker_sees_of_the_repository_only_itself(see: See) -> None:
    visible = see(
        f"[os.path.join(folder, name) for folder, _, names in os.walk({str(REPOSITORY)!r})"
        " for name in names]"
    )
    ours = [path for path in map(Path, visible) if _is_ours(path.relative_to(REPOSITORY))]

    assert ours
    assert all(path.is_relative_to(tryout.PACKAGE) for path in ours)


def _is_ours(path: Path) -> bool:
    """Tell our files from the libraries of an environment inside the repository."""
    return "site-packages" not in path.parts or "halfhour" in path.parts


def test_a_worker_sees_no_process_but_its_own(see: See) -> None:
    processes = see("[name for name in os.listdir('/proc') if name.isdigit()]")

    assert set(processes) <= {"1", "2", "3"}
    assert see("open('/proc/1/cmdline').read().split(chr(0))[0]").endswith("bwrap")


def test_a_worker_has_no_network_and_no_host_name(see: See) -> None:
    assert see("[line.split(':')[0].strip() for line in open('/proc/net/dev')][2:]") == ["lo"]
    assert see("os.uname().nodename") == "worker"


def test_a_worker_has_only_the_environment_it_was_given(see: See) -> None:
    assert see("{**os.environ, 'PWD': None}") == {**CLEAN_ENVIRONMENT, "PWD": None}


def test_nothing_in_the_sandbox_can_be_written(see: See) -> None:
    """Not even without Landlock, and not even by root."""
    attempt = "os.access(folder, os.W_OK) and not os.statvfs(folder).f_flag & os.ST_RDONLY"
    writable = see(
        f"[folder for folder, _, _ in os.walk('/') if not folder.startswith('/proc') and {attempt}]"
    )

    assert writable == []


def start(
    bwrap: bubblewrap.Bubblewrap, code: str, *, stdin: int, passed: int
) -> subprocess.Popen[bytes]:
    command = inside(bwrap)([sys.executable, "-I", "-S", "-c", code])
    return subprocess.Popen(command, stdin=stdin, pass_fds=[passed], start_new_session=True)


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """Return two pipes: one to hear the worker, one that it waits for in vain."""
    ends = (*os.pipe(), *os.pipe())
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


FAMILY = "import os; os.fork(); os.fork(); os.write({into}, b'here'); os.read(0, 1)"


def test_descriptors_that_are_passed_on_reach_the_worker(
    bwrap: bubblewrap.Bubblewrap, pipes: tuple[int, int, int, int]
) -> None:
    hear, into, wait, _ = pipes

    start(bwrap, f"import os; os.write({into}, b'here')", stdin=wait, passed=into).wait()
    os.close(into)

    assert os.read(hear, 4) == b"here"


def test_a_sandbox_dies_with_all_that_was_started_in_it(
    bwrap: bubblewrap.Bubblewrap, pipes: tuple[int, int, int, int]
) -> None:
    hear, into, wait, _ = pipes
    outer = start(bwrap, FAMILY.format(into=into), stdin=wait, passed=into)
    os.close(into)
    family = b"".join(os.read(hear, len(b"here")) for _ in range(4))
    assert family == 4 * b"here"

    outer.kill()
    outer.wait()

    assert os.read(hear, 1) == b""  # nobody holds the other end of the pipe


def test_a_sandbox_that_is_killed_at_once_needs_its_group_killed(
    bwrap: bubblewrap.Bubblewrap, pipes: tuple[int, int, int, int]
) -> None:
    """In its first milliseconds bubblewrap's own child does not die with it."""
    hear, into, wait, _ = pipes
    outer = start(bwrap, FAMILY.format(into=into), stdin=wait, passed=into)
    os.close(into)

    os.killpg(outer.pid, signal.SIGKILL)
    outer.wait()

    assert os.read(hear, 1) == b""


def test_all_layers_can_be_applied_inside(bwrap: bubblewrap.Bubblewrap, confined: Confined) -> None:
    run = confined("print(*report.layers)", layers=IN_SANDBOX, launch=inside(bwrap))

    assert run.stdout.split() == list(IN_SANDBOX), run.stderr
