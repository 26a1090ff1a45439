"""How hard a puzzle is, from what its certificate and one traced run show; each term explained."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from math import log, sqrt

from .records import Mutant, Subject, Term
from .screen.profile import Profile

WEIGHTS = {"few": 0.30, "special": 0.25, "unlit": 0.20, "deep": 0.10, "small": 0.15}
"""What each term counts; together 1."""
LEVELS = (0.36, 0.48, 0.61, 0.73)
"""From these scores on a puzzle is of level 2, 3, 4 and 5: about a fifth of the catalogue each."""
_HALF = 0.5
_DEEPEST = 3
_LOST = 30
"""Suspects before the line: nobody reads that many one by one."""
_LARGE_EDIT = 40
"""Characters: a change that size meets the eye."""


def terms(
    subject: Subject, mutant: Mutant, broken: Sequence[str], profile: Profile
) -> tuple[Term, ...]:
    """Return what makes a certified mutant hard, each from 0 (easy) to 1 (hard)."""
    line = _nearest(mutant.line, profile.lines)
    promised = [promise.name for promise in subject.promises]
    through = [name for name in promised if line in profile.depths.get(name, {})]
    kept_though = len(set(through) - set(broken))
    rank, of = suspicion(line, broken, promised, profile)
    depth = min((profile.depths[n][line] for n in broken if n in through), default=_DEEPEST)
    size = edit_size(subject.source, mutant.source)
    share = len(broken) / len(promised)
    special = kept_though / len(through) if through else 1.0
    return (
        Term(
            "few",
            1.0 - min(1.0, share / _HALF),
            f"{len(broken)} of {len(promised)} promises see it",
        ),
        Term(
            "special",
            special,
            f"{kept_though} of the {len(through)} promises that run the line do not mind",
        ),
        Term(
            "unlit",
            min(1.0, log(rank) / log(_LOST)),
            f"by what fails, the line is number {rank:.0f} of {of} suspects",
        ),
        Term(
            "deep",
            min(1.0, (depth - 1) / (_DEEPEST - 1)),
            f"{depth - 1} calls below what a test calls",
        ),
        Term("small", 1.0 - min(1.0, size / _LARGE_EDIT), f"{size} characters changed"),
    )


def score(found: Iterable[Term]) -> float:
    """Return the weighted sum of the terms, from 0 to 1."""
    return sum(WEIGHTS[term.name] * term.value for term in found)


def level(found: Iterable[Term]) -> int:
    """Return 1 (easy) to 5 (hard)."""
    reached = score(found)
    return 1 + sum(reached >= edge for edge in LEVELS)


def suspicion(
    line: int, broken: Sequence[str], promised: Sequence[str], profile: Profile
) -> tuple[float, int]:
    """Return the line's rank among all that were run, by Ochiai's formula, and their number.

    Lines that are equally suspect share the middle of their ranks. Abreu, Zoeteweij and van
    Gemund, "An Evaluation of Similarity Coefficients for Software Fault Localization" (2006).
    """
    failing = [name for name in promised if name in set(broken)]
    passing = [name for name in promised if name not in set(broken)]

    def ochiai(number: int) -> float:
        failed = sum(number in profile.depths.get(name, {}) for name in failing)
        passed = sum(number in profile.depths.get(name, {}) for name in passing)
        if not failed:
            return 0.0
        return failed / sqrt(len(failing) * (failed + passed))

    scores = {number: ochiai(number) for number in profile.lines}
    own = scores.get(line, 0.0)
    above = sum(other > own for other in scores.values())
    level_with = sum(other == own for other in scores.values())
    return above + (level_with + 1) / 2, max(1, len(scores))


def edit_size(before: str, after: str) -> int:
    """Return how many characters go and come, where the lines differ."""
    old, new = _differing(before, after)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    same = sum(block.size for block in matcher.get_matching_blocks())
    return len(old) + len(new) - 2 * same


def _differing(before: str, after: str) -> tuple[str, str]:
    """Return the two texts without the lines that they share above and below."""
    old, new = before.splitlines(), after.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return "\n".join(old), "\n".join(new)


def _nearest(line: int, lines: Iterable[int]) -> int:
    """Return the run line that is nearest: a statement's first line may be none that is run."""
    return min(lines, key=lambda other: (abs(other - line), other), default=line)
