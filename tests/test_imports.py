"""Imports run one way, and light commands stay light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_imports_run_one_way() -> None:
    """The contracts stand in pyproject.toml."""
    run = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        [],
        ["subjects", "list"],
        ["mutators", "list"],
        ["hint", "--help"],
        ["status", "."],
        ["hint", "."],
        ["hunt", "--help"],
        ["pause", "."],
        ["completion", "bash"],
    ],
    ids=" ".join,
)
def test_a_light_command_imports_neither_torch_nor_libcst(
    arguments: list[str], tmp_path: Path
) -> None:
    code = (
        "import sys, atexit\n"
        "heavy = {'torch', 'libcst', 'numpy', 'pytest', 'rich', 'watchfiles'}\n"
        "atexit.register(lambda: print('HEAVY', sorted(heavy & set(sys.modules))))\n"
        "from halfhour.generator.cli import main\n"
        f"sys.argv = ['halfhour', *{arguments!r}]\n"
        "main()\n"
    )

    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "HALFHOUR_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "HEAVY []" in run.stdout, run.stdout + run.stderr
