"""The wheel holds what the checkout holds, under one name."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("generator", "mutators", "puzzles", "solutions")


def tracked() -> set[str]:
    """Return the committed files below the four folders."""
    out = subprocess.check_output(["git", "ls-files", "-z", *FOLDERS], cwd=ROOT, text=True)
    return {name for name in out.split("\0") if name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    out = tmp_path_factory.mktemp("wheel")
    tree = out / "tree"
    for name in sorted(tracked() | {"pyproject.toml", "README.md", "LICENSE"}):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, tree],
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_four_folders_and_nothing_else(
    wheel: zipfile.ZipFile,
) -> None:
    packed = {
        name.removeprefix("halfhour/") for name in wheel.namelist() if name.startswith("halfhour/")
    }

    assert packed == tracked()


def test_nothing_is_installed_beside_the_one_package(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"halfhour"}


def test_the_command_is_installed(wheel: zipfile.ZipFile) -> None:
    (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]

    assert "halfhour = halfhour.generator.entry:main" in wheel.read(entry).decode()


def test_the_constraints_pin_every_direct_dependency() -> None:
    """What the README installs is what was tested."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {requirement.split(">=")[0].strip().lower() for requirement in wanted}
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower()
    pinned = {line.split("==")[0] for line in pins.splitlines() if "==" in line}

    assert names == pinned
