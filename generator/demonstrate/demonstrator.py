"""The caller's side of demonstrations: asks the process that finds them, and remembers."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..cache import ProofCache
from ..errors import JudgeError
from ..records import Demonstration, Subject, digest
from ..screen import Screen, Unscreenable


class Demonstrator(Screen):
    """Finds the smallest script that shows a bug; what was found is kept under its content."""

    process_module = "halfhour.generator.demonstrate.process"

    def __init__(self, cache: ProofCache | None = None) -> None:
        super().__init__()
        self._cache = cache if cache is not None else ProofCache()

    def demonstration(
        self, subject: Subject, text: str, *, broken: Sequence[str], seeds: Sequence[int]
    ) -> Demonstration | None:
        """Return a script that shows the bug in `text`, or None where no short one was found.

        `broken` names the promises that the bug breaks under these seeds. A search that ends of
        itself, as it would again, means no demonstration. One that was killed tells nothing: a
        puzzle must not depend on how busy the machine is. Raises JudgeError there.
        """
        key = _key(subject, text, broken, seeds)
        kept = self._cache.get(key)
        if kept is None:
            try:
                found = self._ask(
                    "demonstrate", subject, text=text, broken=list(broken), seeds=list(seeds)
                )
            except Unscreenable:
                return None
            if found.get("killed"):
                raise JudgeError(
                    f"the search for a script that shows a bug in {subject.file_name} was killed,"
                    " for want of time or memory; try again when the machine is less busy"
                )
            kept = {name: str(found.get(name, "")) for name in _FIELDS}
            self._cache.put(key, dict(kept))
        if not kept.get("script"):
            return None
        return Demonstration(**{name: str(kept[name]) for name in _FIELDS})


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
