"""How hard a puzzle is, from what its certificate shows."""

from __future__ import annotations

_HARDEST_FIRST = ((0.08, 5), (0.16, 4), (0.30, 3), (0.50, 2))
"""(share of the promises that break, level): the fewer see the bug, the harder the hunt."""


def level(broken: int, promised: int) -> int:
    """Return 1 (easy) to 5 (hard) from the share of the promises that the bug breaks."""
    share = broken / promised
    for most, hardness in _HARDEST_FIRST:
        if share <= most:
            return hardness
    return 1
