"""Homes of a test's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from halfhour.generator import places
from halfhour.generator.judge.protection import rung_here


def make_home(folder: Path) -> Path:
    """Return a home that knows nothing but how well this machine confines a worker.

    To find that out takes seconds; it is known to whoever runs the tests.
    """
    rung_here()
    (folder / "cache").mkdir(parents=True)
    for memory in places.cache_dir().glob("protection-*.json"):
        shutil.copy(memory, folder / "cache")
    return folder
