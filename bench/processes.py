"""What /proc tells of this machine's processes: who started whom, and what they have spent."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
"""Of the processor, in a second."""


class Stat(NamedTuple):
    """Of one process."""

    parent: int
    started: str
    """With the process' number it names the process for ever: numbers come again."""
    own: int
    """Ticks that it has spent itself."""
    ended: int
    """Ticks of children that ended and were waited for, and of theirs."""


def stats() -> dict[int, Stat]:
    """Return every process by its number."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError, ValueError):  # it has just ended
                fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                utime, stime, children_utime, children_stime = map(int, fields[11:15])
                found[int(folder.name)] = Stat(
                    parent=int(fields[1]),
                    started=fields[19],
                    own=utime + stime,
                    ended=children_utime + children_stime,
                )
    return found


def tree(root: int, known: dict[int, Stat]) -> set[int]:
    """Return a process and all below it, as far as they are known."""
    found = {root} & known.keys()
    while more := {pid for pid, stat in known.items() if stat.parent in found} - found:
        found |= more
    return found


def cpu_s(root: int) -> float:
    """Return what a process and all below it have spent so far, those that ended included."""
    known = stats()
    return sum(known[pid].own + known[pid].ended for pid in tree(root, known)) / TICKS
