"""Build the starter pack from its recipe; as a script, rewrite puzzles/starter."""

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

from halfhour.generator import store
from halfhour.generator.craft import craft_site
from halfhour.generator.library import find_subject
from halfhour.mutators import find_mutator

PUZZLES = Path(__file__).resolve().parents[2] / "puzzles"
RECIPE = PUZZLES / "starter.toml"
PACK = PUZZLES / "starter"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the recipe."""

    subject: str
    mutator: str
    site: int
    seed: int


def recipe() -> list[Entry]:
    card = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    return [Entry(**entry) for entry in card["puzzle"]]


def build(entry: Entry, shelf: Path) -> Path:
    """Craft one puzzle and write it to a folder named by its id."""
    puzzle, answer = craft_site(
        find_subject(entry.subject), find_mutator(entry.mutator), entry.site, seed=entry.seed
    )
    store.write_puzzle(shelf / puzzle.id, puzzle, answer)
    return shelf / puzzle.id


def main() -> None:
    with tempfile.TemporaryDirectory(dir=PUZZLES) as beside:
        for entry in recipe():
            print(build(entry, Path(beside)).name, entry, file=sys.stderr)
        shutil.rmtree(PACK, ignore_errors=True)
        shutil.copytree(beside, PACK)


if __name__ == "__main__":
    main()
