"""What earlier packs held, read from the answers that lie in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..errors import UnsoundPuzzle, UsageError
from . import names
from .draw import YEAR
from .opened import open_zip
from .table import Pair
from .week import Week

_ANSWERS = re.compile(r"halfhour-(2[0-9]{3}-W[0-9]{2})\.answers\.zip")


def pairs_by_week(folder: Path) -> dict[Week, frozenset[Pair]]:
    """Return the pairs of every pack whose answers lie in a folder; none where there is no folder.

    Raises UnsoundPuzzle for answers that are damaged or another week's.
    """
    if not folder.is_dir():
        return {}
    found: dict[Week, frozenset[Pair]] = {}
    for path in sorted(folder.iterdir()):
        if named := _ANSWERS.fullmatch(path.name):
            week = _week(path, named[1])
            found[week] = _pairs(path, week)
    return found


def met(weeks: Mapping[Week, frozenset[Pair]], week: Week) -> frozenset[Pair]:
    """Return the pairs of the packs of the year before a week."""
    first = week.minus(YEAR)
    return frozenset().union(*(pairs for each, pairs in weeks.items() if first <= each < week))


def _week(path: Path, name: str) -> Week:
    try:
        return Week.named(name)
    except UsageError as error:
        raise UnsoundPuzzle(f"{path} is misnamed: {error}") from error


def _pairs(path: Path, week: Week) -> frozenset[Pair]:
    manifest = open_zip(path).answers
    if manifest.week != week.name:
        raise UnsoundPuzzle(
            f"{path} holds the answers of {manifest.week}: name it"
            f" {names.answers_zip(manifest.week)}"
        )
    return frozenset(
        (recipe.subject, mutator) for recipe in manifest.recipes for mutator in recipe.mutators
    )
