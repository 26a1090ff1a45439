"""From what came back to submissions: who handed in which file for which puzzle.

    a .py file                         one submission
    a folder or zip of one candidate   a puzzle's folder, a week's, or any folder with the files
    a folder or zip of many            each file, folder and (in a folder) zip is one candidate's

Whatever cannot be judged becomes a submission too, with a sentence that says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .. import store
from ..errors import InvalidSubmission
from ..judge.intake import submission_text
from ..judge.plain import plain
from ..records import Puzzle
from .meant import Recognition, holds_python, is_python, is_zip, listed
from .names import Names
from .records import Submission
from .tree import Branch, Leaf, leaf_of, tree_of_folder, tree_of_zip

_MOST_NAME = 100
_MOST_WHERE = 300
_MOST_PROBLEM = 600


def submissions(
    paths: Sequence[Path],
    puzzles: Sequence[Puzzle],
    *,
    names: Names | None = None,
    leave_out: Collection[Path] = (),
) -> tuple[Submission, ...]:
    """Return everything that was handed in, in the order of the paths and of names below them.

    `leave_out` are files of the publisher's own that may lie among them.
    """
    intake = _Intake(Recognition(puzzles), names or Names(), {_real(path) for path in leave_out})
    return tuple(found for path in dict.fromkeys(paths) for found in intake.of_path(path))


class _Intake:
    def __init__(self, recognition: Recognition, names: Names, leave_out: set[str]) -> None:
        self._recognition = recognition
        self._names = names
        self._leave_out = leave_out

    def of_path(self, path: Path) -> Iterator[Submission]:
        """Yield what was handed in under one path."""
        if os.path.isdir(path):
            root = tree_of_folder(path)
            if root.problem or self._recognition.is_one_candidates(root):
                yield from self._of(root, Path(_real(path)).name)
            else:
                yield from self._of_many(root, self._of_entry)
        elif is_zip(leaf_of(path)):
            root = tree_of_zip(path)
            many = sum(holds_python(child) for child in root.children) > 1
            if not many or self._recognition.is_one_candidates(root):
                yield from self._of(root, path.stem)
            else:
                yield from self._of_many(root, self._of_inner)
        else:
            card = path.with_name(store.CARD)
            beside = (leaf_of(card),) if os.path.isfile(card) else ()
            yield from self._of_leaf(leaf_of(path), self._owner(path), beside)

    def _owner(self, file: Path) -> str:
        """Return who handed in a file: the folder, if the file's name only says what it is for."""
        if not self._recognition.knows(file.name):
            return file.stem
        for folder in Path(os.path.abspath(file)).parents:
            ours = self._recognition.gave_out(folder.name) or os.path.isfile(folder / store.CARD)
            if folder.name and not ours:
                return folder.name
        return file.stem

    def _of_many(
        self, root: Branch, of_child: Callable[[Leaf | Branch], Iterator[Submission]]
    ) -> Iterator[Submission]:
        children = [child for child in root.children if not self._is_left_out(child)]
        for child in children:
            yield from of_child(child)
        if not children:
            yield self._refused(root, root.name, root.path, f"{root.where} holds nothing to judge")

    def _is_left_out(self, child: Leaf | Branch) -> bool:
        if isinstance(child, Branch):
            return False
        return child.name == store.VISIBLE_TESTS or _real(Path(*child.path)) in self._leave_out

    def _of_entry(self, child: Leaf | Branch) -> Iterator[Submission]:
        """Yield what one entry of a folder on the disk is; a zip there is of one candidate."""
        path = Path(*child.path)
        if os.path.islink(path):
            sentence = f"{child.where} is a link, which is not followed"
            yield self._refused(child, path.stem, child.path, sentence)
        elif isinstance(child, Leaf) and is_zip(child):
            yield from self._of(tree_of_zip(path), path.stem)
        elif (zipped := _only_zip(child)) is not None:
            yield from self._of(replace(tree_of_zip(zipped), path=child.path), child.name)
        else:
            yield from self._of_inner(child)

    def _of_inner(self, child: Leaf | Branch) -> Iterator[Submission]:
        if isinstance(child, Branch):
            yield from self._of(child, child.name)
        else:
            yield from self._of_leaf(child, Path(child.name).stem)

    def _of_leaf(
        self, leaf: Leaf, owner: str, beside: tuple[Leaf, ...] = ()
    ) -> Iterator[Submission]:
        if is_python(leaf):
            alone = Branch(leaf.name, leaf.path, leaf.where, (leaf, *beside))
            yield from self._of(alone, owner)
        else:
            sentence = f"{leaf.where} is no Python file (.py), folder or zip"
            yield self._refused(leaf, owner, leaf.path, sentence)

    def _of(self, branch: Branch, owner: str) -> Iterator[Submission]:
        """Yield what one candidate handed in."""
        meant = self._recognition.sort(branch)
        asked, unit = self._recognition.files, branch.path
        for puzzle, leaves in meant.by_puzzle.items():
            yield self._of_puzzle(puzzle, leaves, branch, owner)
        for leaf in meant.strays:
            sentence = f"{leaf.where} is no file that was asked for: {asked}"
            yield self._refused(leaf, owner, unit, sentence)
        for refused in meant.refused:
            yield self._refused(refused, owner, unit, refused.problem)
        if not (meant.by_puzzle or meant.strays or meant.refused):
            sentence = f"{branch.where} holds no file that was asked for: {asked}"
            yield self._refused(branch, owner, unit, sentence)

    def _of_puzzle(
        self, puzzle: str, leaves: Sequence[Leaf], branch: Branch, owner: str
    ) -> Submission:
        found = [self._read(leaf, puzzle, owner, branch.path) for leaf in leaves]
        if len({(each.source, not each.problem) for each in found}) > 1:
            names = listed([leaf.where.removeprefix(branch.where).lstrip("/: ") for leaf in leaves])
            sentence = f"{branch.where} holds several files for one puzzle: {names}"
            return self._refused(branch, owner, branch.path, sentence, puzzle)
        return found[0]

    def _read(self, leaf: Leaf, puzzle: str, owner: str, unit: Sequence[str]) -> Submission:
        try:
            source = submission_text(leaf.read(), leaf.where)
        except InvalidSubmission as error:
            return self._refused(leaf, owner, unit, str(error), puzzle)
        return Submission(self._candidate(leaf, unit, owner), _where(leaf), puzzle, source, "")

    def _refused(
        self, place: Leaf | Branch, owner: str, unit: Sequence[str], sentence: str, puzzle: str = ""
    ) -> Submission:
        return Submission(
            candidate=self._candidate(place, unit, owner),
            where=_where(place),
            puzzle=puzzle or self._recognition.only,
            source=None,
            problem=plain(sentence, limit=_MOST_PROBLEM),
        )

    def _candidate(self, place: Leaf | Branch, unit: Sequence[str], owner: str) -> str:
        return plain(self._names.of(place.path, unit) or owner, limit=_MOST_NAME)


def _only_zip(child: Leaf | Branch) -> Path | None:
    """Return the zip in a folder, where that is all that may be a submission."""
    if isinstance(child, Leaf) or holds_python(child):
        return None
    zips = [Path(*leaf.path) for leaf in child.everything() if is_zip(leaf)]
    return zips[0] if len(zips) == 1 and not os.path.islink(zips[0]) else None


def _real(path: Path) -> str:
    """Return where a path leads; a loop of links, which leads nowhere, is no error."""
    return os.path.realpath(path)


def _where(place: Leaf | Branch) -> str:
    return plain(place.where, limit=_MOST_WHERE)
