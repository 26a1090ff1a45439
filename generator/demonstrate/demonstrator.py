"""The caller's side of demonstrations: asks the process that finds them, and remembers."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import weakref
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..cache import ProofCache
from ..errors import JudgeError
from ..records import Demonstration, Subject, digest
from ..screen import Screen, Unscreenable
from ..screen.screen import _end, _folders

_START = """
import json, site, sys
for folder in json.loads(sys.argv[1]):
    site.addsitedir(folder)
from halfhour.generator.demonstrate.process import main
main()
"""


class Demonstrator(Screen):
    """Finds the smallest script that shows a bug; what was found is kept under its content."""

    def __init__(self, cache: ProofCache | None = None) -> None:
        super().__init__()
        self._cache = cache if cache is not None else ProofCache()

    def demonstration(
        self, subject: Subject, text: str, *, broken: Sequence[str], seeds: Sequence[int]
    ) -> Demonstration | None:
        """Return a script that shows the bug in `text`, or None where no short one was found.

        `broken` names the promises that the bug breaks under these seeds. A process that fails
        means no demonstration, never no puzzle.
        """
        key = _key(subject, text, broken, seeds)
        kept = self._cache.get(key)
        if kept is None:
            try:
                found = self._ask(
                    "demonstrate", subject, text=text, broken=list(broken), seeds=list(seeds)
                )
            except (JudgeError, Unscreenable):
                return None
            if found.get("ended"):
                return None  # perhaps for want of time: not to be remembered
            kept = {name: str(found.get(name, "")) for name in _FIELDS}
            self._cache.put(key, dict(kept))
        if not kept.get("script"):
            return None
        return Demonstration(**{name: str(kept[name]) for name in _FIELDS})

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONHASHSEED": "0",
            }
            self._process = subprocess.Popen(
                [sys.executable, "-B", "-c", _START, json.dumps(_folders())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="surrogatepass",
                env=environment,
                start_new_session=True,  # Ctrl-C is ours; it closes the process
            )
            self._end = weakref.finalize(self, _end, self._process)
        return self._process


_FIELDS = tuple(asdict(Demonstration("", "", "", "")))


def _key(subject: Subject, text: str, broken: Sequence[str], seeds: Sequence[int]) -> str:
    """Digest everything a demonstration depends on."""
    return digest(
        "demonstration",
        subject.source,
        subject.hidden_tests,
        text,
        *broken,
        *map(str, seeds),
        _finder(),
    )


@cache
def _finder() -> str:
    here = Path(__file__).parent
    own = sorted(here.glob("*.py")) + sorted((here.parent / "screen").glob("*.py"))
    libraries = [f"{name} {version(name)}" for name in ("torch", "numpy")]
    return digest(platform.python_version(), *libraries, *(path.read_text() for path in own))
