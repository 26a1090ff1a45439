"""A catalogue of toys, and a craft that proves nothing: packs in no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import handmade
import pytest
import toy

from halfhour.generator import library
from halfhour.generator.commands import _machine
from halfhour.generator.pack import build, table
from halfhour.generator.pack.layout import Crafted
from halfhour.generator.pack.manifest import Recipe
from halfhour.generator.pack.table import Certified, Table
from halfhour.generator.records import Answer, Packed, PlantedBug, Puzzle, digest

FILES = 7
"""One more than the levels and one more: something to choose from."""


def a_table() -> Table:
    """Return a table of toys, each with bugs of every level, of a topic of its own."""
    puzzles = [
        Certified(f"toy_{n}", f"secret_{n}_{level}", f"topic_{n}", 0, 11, level, "m" * 64)
        for n in range(FILES)
        for level in range(1, 6)
    ]
    return Table("1", "2.13.0", (), tuple(puzzles))


def crafted(level: int, *, subject: str = "", bugs: Sequence[str] = (), seed: int = 7) -> Crafted:
    """Return a puzzle of a level as a pack holds it, made of the handmade one."""
    subject = subject or f"toy_{level}"
    bugs = bugs or (f"secret_{level}",)
    planted = tuple(_bug(name, n) for n, name in enumerate(bugs))
    bare, answer = handmade.puzzle(bugs=planted), handmade.answer(bugs=planted)
    name = digest(subject, *bugs, str(seed))[:8]
    puzzle = replace(bare, id=name, subject=subject, file_name=f"{subject}.py", level=level, seed=0)
    certificate = replace(answer.certificate, level=level, subject=subject)
    return Crafted(
        puzzle,
        replace(answer, puzzle=name, certificate=certificate),
        Recipe(subject, tuple(bugs), tuple(0 for _ in bugs), seed, disguise=True),
    )


def _bug(name: str, number: int) -> PlantedBug:
    return replace(handmade.BUG, mutator=name, line=11 + number)


@dataclass
class FakeCraft:
    """Makes any pair of any level."""

    made: list[tuple[str, str, int]] = field(default_factory=list)
    packed: set[Packed] = field(default_factory=set)
    refuses: set[str] = field(default_factory=set)
    """Mutators of which nothing can be made."""
    before: Callable[[], None] = lambda: None
    """What happens before each."""

    def __call__(
        self,
        shop: object,
        subject: Any,
        mutator: Any,
        *,
        companions: Sequence[Any],
        bugs: int,
        seed: int,
        level: int,
        packed: Packed,
        progress: Callable[[str], None],
    ) -> tuple[Puzzle, Answer] | None:
        assert shop is None
        self.before()
        progress(f"proving {mutator.name}")
        if mutator.name in self.refuses:
            return None
        self.made.append((subject.name, mutator.name, level))
        self.packed.add(packed)
        names = [mutator.name, *(each.name for each in companions)][:bugs]
        each = crafted(level, subject=subject.name, bugs=names, seed=seed)
        return each.puzzle, each.answer


def install(monkeypatch: pytest.MonkeyPatch, folder: Path) -> FakeCraft:
    """Let packs be made of toys, with a table that lies in this folder."""
    names = [each.mutator for each in a_table().puzzles]
    file = folder / "certified.json"
    file.write_bytes(table.table_bytes(a_table()))
    craft = FakeCraft()
    monkeypatch.setattr(table, "TABLE", file)
    monkeypatch.setattr(library, "find_subject", lambda name: toy.subject(name=name))
    monkeypatch.setattr(_machine, "mutators", lambda: [SimpleNamespace(name=n) for n in names])
    monkeypatch.setattr(build, "craft_pair", craft)
    monkeypatch.setattr(build, "workshop", nullcontext)
    return craft
