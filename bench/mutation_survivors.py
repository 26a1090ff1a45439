"""The survivors that were looked at: `survivors/NAME.toml`, one entry each, with a reason."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mutation_texts import Mutant

FOLDER = Path(__file__).resolve().parent / "survivors"
Key = tuple[str, str, int]


class Reason(StrEnum):
    """Why a mutant may survive."""

    EQUIVALENT = "equivalent"  # no call can tell it from the original
    MESSAGE = "message"  # only the words of an error differ
    PERFORMANCE = "performance"  # only time or memory differ
    FREEDOM = "freedom"  # it does differ, where nothing is promised: counts against the score
    UNEXPLAINED = ""


@dataclass(frozen=True, slots=True)
class Survivor:
    """An entry of the file. `occurrence` tells equal lines apart, from 1."""

    was: str
    now: str
    occurrence: int = 1
    reason: Reason = Reason.UNEXPLAINED
    why: str = ""

    @property
    def key(self) -> Key:
        return self.was, self.now, self.occurrence

    @classmethod
    def of(cls, mutant: Mutant) -> Survivor:
        return cls(mutant.was, mutant.now, mutant.occurrence)


def read(path: Path) -> dict[Key, Survivor]:
    """Return the entries of a file; a file that is not there has none."""
    if not path.exists():
        return {}
    entries: dict[Key, Survivor] = {}
    for raw in tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", []):
        entry = Survivor(**{**raw, "reason": Reason(raw["reason"])})
        if entry.key in entries:
            raise ValueError(f"{path}: twice the same: {entry.was} -> {entry.now}")
        if entry.reason and not entry.why:
            raise ValueError(f"{path}: no why for {entry.was} -> {entry.now}")
        entries[entry.key] = entry
    return entries


def write(path: Path, entries: Iterable[Survivor]) -> None:
    """Write entries in the order given."""
    texts = ["\n".join(["[[survivor]]", *_lines(entry)]) + "\n" for entry in entries]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(texts), encoding="utf-8")


def _lines(entry: Survivor) -> list[str]:
    occurrence = [f"occurrence = {entry.occurrence}"] if entry.occurrence != 1 else []
    return [
        f"was = {_quoted(entry.was)}",
        f"now = {_quoted(entry.now)}",
        *occurrence,
        f"reason = {_quoted(entry.reason)}",
        f"why = {_quoted(entry.why)}",
    ]


def _quoted(text: str) -> str:
    """Quote as TOML does; what JSON escapes, TOML escapes alike."""
    return json.dumps(text, ensure_ascii=False)
