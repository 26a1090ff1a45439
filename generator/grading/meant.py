"""Which file of a folder is meant for which puzzle: by the card beside it, or by its name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .. import store
from ..errors import InvalidSubmission
from ..judge.plain import plain
from ..pack.manifest import MANIFEST
from ..records import Puzzle
from .tree import Branch, Leaf

_OF_A_WEEK = re.compile(r"halfhour-\d{4}-W\d\d")
_PLACE = re.compile(r"^\d+-")
_MOST_NAMED = 3
_MOST_ID = 64


@dataclass(slots=True)
class Meant:
    """What one candidate handed in."""

    by_puzzle: dict[str, list[Leaf]] = field(default_factory=dict)
    strays: list[Leaf] = field(default_factory=list)
    """Python files of which nothing says what they are for."""
    refused: list[Branch] = field(default_factory=list)
    """Folders with a problem."""


class Recognition:
    """Knows the puzzles that are graded."""

    def __init__(self, puzzles: Sequence[Puzzle]) -> None:
        self.puzzles = {puzzle.id: puzzle for puzzle in puzzles}
        files = [puzzle.file_name for puzzle in puzzles]
        self._by_name = {p.file_name: p.id for p in puzzles if files.count(p.file_name) == 1}
        self.files = listed(sorted(set(files)))
        """Those that are asked for, in words."""
        self.only = puzzles[0].id if len(puzzles) == 1 else ""
        """The puzzle, where there is but one."""

    def knows(self, name: str) -> bool:
        """Tell whether a file has the name of a puzzle's."""
        return any(puzzle.file_name == name for puzzle in self.puzzles.values())

    def gave_out(self, folder: str) -> bool:
        """Tell whether a folder has a name that a puzzle's or a week's has."""
        return _PLACE.sub("", folder) in self.puzzles or bool(_OF_A_WEEK.match(folder))

    def is_one_candidates(self, root: Branch) -> bool:
        """Tell the folder of one candidate from a folder that holds those of many."""
        carded = has_card(root)
        ours = [leaf for leaf in root.leaves if carded or self.knows(leaf.name)]
        ours = [leaf for leaf in ours if is_python(leaf)]
        folders = [branch for branch in root.branches if self.gave_out(branch.name)]
        others = [leaf for leaf in root.leaves if is_zip(leaf) or is_python(leaf)]
        return bool(ours or folders) and not (
            any(leaf not in ours for leaf in others)
            or any(holds_python(b) for b in root.branches if b not in folders)
        )

    def sort(self, branch: Branch) -> Meant:
        """Return what the files of one candidate are for."""
        meant = Meant()
        self._sort(branch, meant)
        if self.only and not meant.by_puzzle and meant.strays:
            meant.by_puzzle[self.only], meant.strays = meant.strays, []
        return meant

    def _sort(self, branch: Branch, meant: Meant) -> None:
        if branch.problem:
            meant.refused.append(branch)
        python = [leaf for leaf in branch.leaves if is_python(leaf)]
        card = _card_id(branch)
        if card in self.puzzles and python:
            name = self.puzzles[card].file_name
            files = [leaf for leaf in python if leaf.name == name] or python
            meant.by_puzzle.setdefault(card, []).extend(files)
        elif card in self.puzzles:
            sentence = f"{branch.where} does not hold {self.puzzles[card].file_name}"
            meant.refused.append(replace(branch, problem=sentence))
        elif card and python:
            sentence = f"{branch.where} is of another puzzle: {plain(card, limit=_MOST_ID)}"
            meant.refused.append(replace(branch, problem=sentence))
        else:
            for leaf in python:
                if leaf.name in self._by_name:
                    meant.by_puzzle.setdefault(self._by_name[leaf.name], []).append(leaf)
                else:
                    meant.strays.append(leaf)
        for below in branch.branches:
            self._sort(below, meant)


def is_python(leaf: Leaf) -> bool:
    """Tell whether a file may be a submission; a test is none."""
    name = leaf.name.lower()
    return name.endswith(".py") and name != "conftest.py" and not name.startswith("test_")


def is_zip(leaf: Leaf) -> bool:
    """Tell whether a file says that it is a zip."""
    return leaf.name.lower().endswith(".zip")


def holds_python(child: Leaf | Branch) -> bool:
    """Tell whether there may be a submission in it."""
    leaves = [child] if isinstance(child, Leaf) else child.everything()
    return any(is_python(leaf) for leaf in leaves)


def has_card(branch: Branch) -> bool:
    """Tell whether a folder is one that we gave out."""
    return any(leaf.name in (store.CARD, MANIFEST) for leaf in branch.leaves)


def listed(names: Sequence[str]) -> str:
    """Return some names as words."""
    more = ["..."] if len(names) > _MOST_NAMED else []
    return ", ".join([*names[:_MOST_NAMED], *more])


def _card_id(branch: Branch) -> str:
    """Return the id that the card in a folder gives; empty where there is none to be had."""
    for leaf in branch.leaves:
        if leaf.name == store.CARD:
            try:
                found = tomllib.loads(leaf.read().decode()).get("id")
            except (InvalidSubmission, ValueError, RecursionError):
                return ""
            return found if isinstance(found, str) else ""
    return ""
