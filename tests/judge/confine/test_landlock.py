"""Landlock: all that the kernel's version knows is refused, and reading given back."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest
from confinement import Confined, linux_only

from halfhour.generator.judge.worker.confine import Kernel, Layer, landlock

pytestmark = linux_only

JUST_LANDLOCK = (Layer.PRIVILEGES, Layer.LANDLOCK)


class OfVersion(Kernel):
    """A kernel that keeps what it is asked to enforce."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = version
        self.handled = (0, 0, 0)
        self.rules: list[int] = []
        self.enforced = False

    def call(self, function: str, *arguments: int | bytes | None) -> int:
        match (function, *arguments):
            case ("syscall", landlock.CREATE_RULESET, None, 0, landlock.ASK_VERSION):
                if self.version == 0:
                    raise OSError(errno.ENOSYS, "no such call")
                return self.version
            case ("syscall", landlock.CREATE_RULESET, bytes(handled), 24, 0):
                self.handled = struct.unpack("<QQQ", handled)
                return os.open(os.devnull, os.O_RDONLY)
            case ("syscall", landlock.ADD_RULE, _, landlock.RULE_PATH_BENEATH, bytes(rule), 0):
                self.rules.append(struct.unpack("<Qi", rule)[0])
                return 0
            case ("syscall", landlock.RESTRICT_SELF, _, 0):
                self.enforced = True
                return 0
        pytest.fail(f"unexpected: {function} {arguments}")


@pytest.mark.parametrize(
    ("version", "files", "network", "scopes"),
    [
        (1, 0x1FFF, 0, 0),
        (2, 0x3FFF, 0, 0),
        (3, 0x7FFF, 0, 0),
        (4, 0x7FFF, 0b11, 0),
        (5, 0xFFFF, 0b11, 0),
        (6, 0xFFFF, 0b11, 0b11),
        (8, 0xFFFF, 0b11, 0b11),
        (9, 0x1FFFF, 0b11, 0b11),
        (10, 0x1FFFF, 0b1111, 0b11),
        (99, 0x1FFFF, 0b1111, 0b11),
    ],
)
def test_every_right_that_the_version_knows_is_handled_and_no_other(
    version: int, files: int, network: int, scopes: int, tmp_path: Path
) -> None:
    """A right too many is an error of the kernel's, one too few an open door."""
    kernel = OfVersion(version)

    found = landlock.restrict(kernel, readable=[str(tmp_path)])

    assert found == version
    assert kernel.handled == (files, network, scopes)
    assert kernel.enforced
    assert all(rights & ~files == 0 for rights in kernel.rules)


def test_nothing_but_dev_null_is_writable_and_nothing_executable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kernel = OfVersion(7)

    landlock.restrict(
        kernel, readable=[str(tmp_path), str(tmp_path / "file")], listable=[str(tmp_path)]
    )

    folder, file, listed, null, urandom = kernel.rules
    assert folder == landlock.READ_FILE | landlock.READ_DIRECTORY
    assert listed == landlock.READ_DIRECTORY
    assert file == urandom == landlock.READ_FILE
    assert null == landlock.READ_FILE | landlock.WRITE_FILE | landlock.TRUNCATE


def test_a_kernel_without_landlock_is_an_error() -> None:
    with pytest.raises(OSError, match="no Landlock"):
        landlock.restrict(OfVersion(0), readable=[])


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        landlock.restrict(OfVersion(7), readable=[str(tmp_path / "gone")])


def test_a_worker_reads_the_libraries_and_not_what_lies_beside_them(confined: Confined) -> None:
    code = f"""
import os
library = os.path.dirname(os.__file__)
def reads(path):
    try:
        return bool(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1))
    except PermissionError:
        return False
print(reads(os.__file__), reads(library + "/json"), reads(library + "/json/__init__.py"))
print(reads("/etc/passwd"), reads("/etc"), reads("/"), reads("/proc/self/environ"))
print(reads({__file__!r}), reads({landlock.__file__!r}))
"""
    run = confined(code, layers=JUST_LANDLOCK)

    assert run.stdout == "True True True\nFalse False False False\nFalse False\n", run.stderr


def test_a_worker_sees_the_names_in_a_folder_of_packages_and_reads_no_stranger(
    confined: Confined, tmp_path: Path
) -> None:
    for name in ("numpy", "stranger"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("print(__name__)")
    before = f"sys.path.append({str(tmp_path)!r})\n"
    code = """
import importlib, os
importlib.invalidate_caches()
import wave, numpy
print(sorted(os.listdir(sys.path[-1])))
try:
    import stranger
except PermissionError:
    print("refused")
"""
    run = confined(code, before=before, layers=JUST_LANDLOCK)

    assert run.stdout == "numpy\n['numpy', 'stranger']\nrefused\n", run.stderr


def test_a_worker_writes_to_dev_null_alone(confined: Confined, tmp_path: Path) -> None:
    code = f"""
open("/dev/null", "w").write("gone")
for path in ({str(tmp_path)!r} + "/new", "/dev/shm/new", "/dev/zero", "/dev/tty"):
    try:
        open(path, "w")
        print("wrote", path)
    except PermissionError:
        pass
try:
    import os
    os.open(os.__file__, os.O_RDONLY | os.O_TRUNC)
    print("emptied", os.__file__)
except PermissionError:
    print("refused")
"""
    run = confined(code, layers=JUST_LANDLOCK)

    assert run.stdout == "refused\n", run.stderr
