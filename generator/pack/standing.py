"""What lies in the folder already: a week is written once, and never over anything else."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from .. import files
from ..errors import UnsoundPuzzle, UsageError
from . import names
from .draw import MANY_BUGS_FROM
from .manifest import Manifest
from .order import Order
from .verify import Pack, differences, open_pack


def standing(folder: Path, order: Order) -> Manifest | None:
    """Return the manifest of the week if all its files are there, sound and as ordered.

    None where one is missing. Raises UsageError where they are there and something else.
    """
    week = order.week.name
    paths = [folder / name for name in _names(week)]
    if not all(map(os.path.lexists, paths)):
        return None
    try:
        pack = open_pack(folder / names.puzzles_zip(week))
        problem = next(_problems(pack, folder / names.page(week), order), None)
    except (UnsoundPuzzle, UsageError) as error:
        problem = str(error)
    if problem is not None:
        raise UsageError(
            f"{week} is there already, and not as it would be made: {problem}; move its files"
            " away, or choose another --out"
        )
    return pack.puzzles.puzzles


def write(folder: Path, content: Mapping[str, bytes]) -> None:
    """Write the files of a week, whole or not at all; those that are there already must be equal.

    Raises UsageError where one is not, EnvironmentFault where the machine has no space.
    """
    missing = {}
    for name, data in content.items():
        if not os.path.lexists(folder / name):
            missing[name] = data
        elif not files.holds(folder / name, data):
            raise UsageError(
                f"{folder / name} is there already and differs; move it away, or choose another"
                " --out"
            )
    files.write_files(folder, missing)


def _names(week: str) -> tuple[str, ...]:
    return names.puzzles_zip(week), names.answers_zip(week), names.page(week)


def _problems(pack: Pack, page: Path, order: Order) -> Iterator[str]:
    yield from differences(pack)
    if pack.committed.encode() not in page.read_bytes():
        yield f"{page.name} is not the page of these puzzles"
    puzzles, answers = pack.puzzles.puzzles, pack.answers.answers
    if puzzles.week != order.week.name:
        yield f"its files are those of {puzzles.week}"
    if len(puzzles.puzzles) != order.count:
        yield f"it holds {len(puzzles.puzzles)} puzzles, and {order.count} are asked for"
    if answers.seed != order.seed:
        yield "it was made with another --seed"
    if puzzles.judged != order.judged:
        yield f"it was made with{'' if puzzles.judged else 'out'} --with-judge"
    if any(
        puzzle.bugs != order.bugs for puzzle in puzzles.puzzles if puzzle.level >= MANY_BUGS_FROM
    ):
        yield "it was made with other --bugs"
