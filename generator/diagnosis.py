"""Take an accusation: which line of the file as handed out is meant, and is the bug there?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from . import files, past, store
from .errors import UsageError
from .records import Answer, Puzzle
from .session import Session

_MOST_BYTES = 256 << 10
_MOST_REASON = 2000


@dataclass(frozen=True, slots=True)
class Accused:
    """What an accusation came to."""

    line: int
    """Of the file as handed out."""
    text: str
    number: int
    """How many different lines were accused in this hunt, this one included."""
    hit: bool
    over: bool
    """Whether the hunt is over, so that a hit may be told."""

    @property
    def counted(self) -> int:
        """How many of the accusations are counted: all but the first."""
        return self.number - 1


def accuse_line(
    folder: Path, line: int, because: str = "", *, told: bool = False, log: Session | None = None
) -> Accused:
    """Log that the candidate thinks the bug is on this line of the file as it is now.

    `told` says that the answer is given while the hunt is open. Raises UsageError for a line that
    is not there or is the candidate's own.
    """
    puzzle, answer = store.read_puzzle(folder), store.read_answer(folder)
    log = log if log is not None else Session(folder, puzzle)
    meant = handed_out_line(puzzle.source, _now(folder / puzzle.file_name, puzzle), line)
    if meant is None:
        raise UsageError(
            f"line {line} of {puzzle.file_name} was written by you; accuse one that was handed out"
        )
    log.ensure_started()
    hit = meant in planted_lines(puzzle, answer)
    over = not log.hunt.is_open
    facts = {"told": True} if told and not over else {}
    log.record("accused", line=meant, because=because[:_MOST_REASON], hit=hit, **facts)
    named = {each.line for each in _accusations(log, puzzle)} | {meant}
    text = puzzle.source.split("\n")[meant - 1].strip()
    return Accused(line=meant, text=text, number=len(named), hit=hit, over=over)


def planted_lines(puzzle: Puzzle, answer: Answer) -> frozenset[int]:
    """Return the lines, from 1, of the file as handed out that a bug changed.

    Where a bug took lines away, the lines around the gap stand for it.
    """
    before, after = answer.original.split("\n"), puzzle.source.split("\n")
    found: set[int] = set()
    changes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    for tag, _, _, start, end in changes:
        if tag == "delete":
            found.update({start, start + 1})
        elif tag != "equal":
            found.update(range(start + 1, end + 1))
    return frozenset(line for line in found if 1 <= line <= len(after))


def handed_out_line(handed_out: str, now: str, line: int) -> int | None:
    """Return which line of the file as handed out this line of the edited file was.

    None for a line that was added. Raises UsageError for one that is not there.
    """
    before, after = handed_out.split("\n"), now.split("\n")
    last = len(after) - (after[-1] == "")
    if not 1 <= line <= last:
        raise UsageError(f"there is no line {line}: the file has {last}")
    # An empty line is like any other empty line: alone it says nothing of where we are.
    matcher = SequenceMatcher(lambda text: not text.strip(), before, after, autojunk=False)
    for tag, start, end, start_now, end_now in matcher.get_opcodes():
        if start_now < line <= end_now:
            within = min(line - 1 - start_now, end - start - 1)
            return None if tag == "insert" else start + within + 1
    raise AssertionError("the opcodes cover every line")


def _now(file: Path, puzzle: Puzzle) -> str:
    """Return the file as it is now, or as handed out where it is gone."""
    try:
        data = files.read_at_most(file, _MOST_BYTES)
    except FileNotFoundError:
        return puzzle.source
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{file} is {error}") from error
    return data.decode("utf-8", errors="replace").replace("\r\n", "\n")


def _accusations(log: Session, puzzle: Puzzle) -> tuple[past.Accusation, ...]:
    found = past.hunts(log.events, minutes=puzzle.minutes, now=time.time())
    return found[-1].accusations if found else ()
