"""What a worker may read: enough for torch, and neither a home, nor a prefix, nor halfhour."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from confinement import linux_only, run_child

import halfhour.generator
from halfhour.generator.judge.worker.confine import (
    Policy,
    Tree,
    readable_roots,
    readable_trees,
    roots,
)

pytestmark = linux_only

OURS = Path(halfhour.generator.__file__).resolve().parent


def covers(root: str, path: Path) -> bool:
    return path.resolve().is_relative_to(Path(root).resolve())


@pytest.mark.parametrize(
    "path",
    [
        OURS,
        OURS / "judge" / "worker",
        Path(__file__),
        Path.home(),
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(sys.base_prefix) / "bin",
        Path("/etc/passwd"),
        Path("/tmp"),
        Path("/proc/self"),
    ],
    ids=str,
)
def test_no_root_covers(path: Path) -> None:
    assert [root for root in readable_roots() if covers(root, path)] == []


def test_no_root_covers_a_folder_of_packages() -> None:
    own = Path(os.__file__).parent / "site-packages"
    folders = {own, *(Path(entry) for entry in sys.path if entry.endswith("-packages"))}

    assert [root for root in readable_roots() for f in folders if covers(root, f)] == []


def test_of_a_folder_of_packages_only_what_torch_and_numpy_need_is_readable(
    tmp_path: Path,
) -> None:
    for name in ("torch", "numpy", "numpy.libs", "halfhour", "somebody_else", "pip"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "typing_extensions.py").touch()
    (tmp_path / "secrets_of_mine.py").touch()
    code = f"sys.path.append({str(tmp_path)!r}); print(*confine.readable_roots(), sep=chr(10))"

    roots_there = run_child(code, Policy(layers=())).stdout.splitlines()

    granted = {Path(root).name for root in roots_there if covers(str(tmp_path), Path(root))}
    assert granted == {"torch", "numpy", "numpy.libs", "typing_extensions.py"}


@pytest.mark.parametrize("module", ["torch", "numpy", "sympy", "json", "ctypes"])
def test_a_root_covers(module: str) -> None:
    file = __import__(module).__file__
    assert file is not None

    assert [root for root in readable_roots() if covers(root, Path(file))]


def test_every_root_exists() -> None:
    assert all(os.path.exists(root) for root in readable_roots())


def test_parents_come_before_what_lies_below_them() -> None:
    paths = [tree.path for tree in readable_trees()]

    assert paths == sorted(paths)
    assert len(paths) == len(set(paths))


def test_a_hidden_folder_is_left_out_entry_by_entry(tmp_path: Path) -> None:
    for name in ("json", "lib-dynload", "site-packages"):
        (tmp_path / name).mkdir()
    (tmp_path / "os.py").touch()

    visible = Tree(str(tmp_path), ("site-packages",)).visible()

    assert visible == [str(tmp_path / name) for name in ("json", "lib-dynload", "os.py")]


def test_a_folder_of_libraries_hides_the_interpreters_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """/usr/lib64 holds python3.12/site-packages on some systems."""
    (tmp_path / "python3.12").mkdir()
    (tmp_path / "libc.so.6").touch()
    monkeypatch.setattr(roots, "_library_folders", lambda: [str(tmp_path)])

    assert Tree(str(tmp_path), ("python3.12",)) in readable_trees()
    assert str(tmp_path / "libc.so.6") in readable_roots()
