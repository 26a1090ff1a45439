"""How the file is laid out: as ruff would, if the original is."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache

from ..errors import EnvironmentFault

WIDTH = 100


@lru_cache(maxsize=64)
def formatted(text: str) -> str:
    """Return the text as `ruff format` lays it out. Raises EnvironmentFault where ruff fails."""
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--no-cache", "--quiet"]
    command += [
        f"--line-length={WIDTH}",
        "--target-version=py311",
        "--stdin-filename=subject.py",
        "-",
    ]
    run = subprocess.run(
        command, input=text, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if run.returncode != 0:
        last = (run.stderr.strip() or "no message").splitlines()[-1]
        raise EnvironmentFault(
            f"ruff does not run here ({last}); install it with: pip install ruff"
        )
    return run.stdout


def width_of(text: str) -> int:
    """Return how long a line may be: longer than usual if the original has a longer one."""
    return max(WIDTH, *(len(line) for line in text.split("\n")))


def too_long(text: str, width: int) -> list[str]:
    """Return the lines that are longer than they may be."""
    return [line for line in text.split("\n") if len(line) > width]
