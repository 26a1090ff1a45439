"""What was proven before, under a key of everything the proof depends on."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from .places import cache_dir


class ProofCache:
    """A folder of small JSON files named by digest; a lost or damaged one is only proven again."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None else cache_dir() / "proofs"

    def get(self, key: str) -> dict[str, object] | None:
        """Return what was kept under the key, or None."""
        try:
            kept = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(kept, dict) or kept.get("key") != key:
            return None
        return kept

    def put(self, key: str, record: dict[str, object]) -> None:
        """Keep the record; a folder that cannot be written to only means proving again."""
        with suppress(OSError):
            self._write(self._path(key), json.dumps({**record, "key": key}, sort_keys=True))

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}.json"

    @staticmethod
    def _write(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
