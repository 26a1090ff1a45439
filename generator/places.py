"""Where halfhour keeps its own things; `HALFHOUR_HOME` overrides both."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path


def state_dir() -> Path:
    """Return the folder of logs and clocks: lost, a hunt loses its history."""
    home = os.environ.get("HALFHOUR_HOME")
    return Path(home) / "state" if home else user_state_path("halfhour", appauthor=False)


def cache_dir() -> Path:
    """Return the folder of proofs: lost, they are made again."""
    home = os.environ.get("HALFHOUR_HOME")
    return Path(home) / "cache" if home else user_cache_path("halfhour", appauthor=False)
