"""`replay`, `report` and `stats`: look back at one hunt, and at all. None needs torch."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from .. import catalogue, files, past, store, timeline, track_record
from ..console import here, paint_diff
from ..errors import UsageError
from ..past import Past
from ..records import Puzzle
from ..session import Session
from ..timeline import Moment
from ..track_record import Row
from ._common import Verb, folder_argument, json_option, meant, read_puzzle, shown, tell_about

REPORT = "report.html"
_LONGEST_WAIT_S = 2.0


@click.command(cls=Verb)
@folder_argument
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    help="How many times as fast as it was; 0, or a pipe, prints all at once.",
)
@json_option
def replay(folder: Path | None, speed: float) -> int:
    """Step through your hunt: what happened when, and every edit."""
    folder = meant(folder)
    puzzle = read_puzzle(folder)
    happened = timeline.moments(puzzle, _last_hunt(folder, puzzle))
    if here().as_json:
        here().json({"puzzle": puzzle.id, "moments": [_moment_as_json(m) for m in happened]})
        return 0
    before = 0.0
    for moment in happened:
        if speed > 0 and sys.stdout.isatty():
            time.sleep(min(_LONGEST_WAIT_S, max(0.0, moment.seconds - before) / speed))
        before = moment.seconds
        here().out(f"{_clock(moment.seconds):>8}  {moment.kind:<9} {moment.words}")
        if moment.diff:
            here().out(_indented(paint_diff(moment.diff)))
    return 0


@click.command(cls=Verb)
@folder_argument
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help=f"Where to put it; {REPORT} in the puzzle's folder by default.",
)
@json_option
def report(folder: Path | None, out: Path | None) -> int:
    """Write your hunt as one page to read, print or send.

    It needs no network and no script. While the hunt is open it holds nothing that spoils it.
    """
    from .. import report as pages

    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    page = pages.page(puzzle, answer, _last_hunt(folder, puzzle)).encode("utf-8")
    file = out if out is not None else folder / REPORT
    if _is_report(file, pages.MARK):
        files.replace_file(file, page)
    else:
        files.write_file(file, page)
    if here().as_json:
        here().json({"puzzle": puzzle.id, "report": shown(file)})
    else:
        here().out(shown(file))
    return 0


@click.command(cls=Verb)
@click.option("--share", is_flag=True, help="Print one line that spoils nothing.")
@json_option
def stats(share: bool) -> int:
    """Show how your hunts went by topic and level, and what to practise.

    All of it is read from your own logs, and goes nowhere.
    """
    record = track_record.read()
    whole = track_record.altogether(record)
    topics, levels = track_record.by_topic(record), track_record.by_level(record)
    weakest = _next_topic(record) if whole.hunts else None
    if here().as_json:
        here().json(
            {
                "hunts": whole.hunts,
                "open": len(record) - whole.hunts,
                "all": _row_as_json(whole),
                "topics": [_row_as_json(row) for row in topics],
                "levels": [_row_as_json(row) for row in levels],
                "next_topic": weakest,
                "share": _share(whole),
            }
        )
    elif share:
        here().out(_share(whole))
    elif not whole.hunts:
        under_way = f"; {len(record)} under way" if record else ""
        here().out(f"no hunt is over yet{under_way}")
        here().say("next: halfhour check" if record else "next: halfhour new")
    else:
        _print_table("topic", topics)
        here().out("")
        _print_table("level", levels)
        here().out("")
        here().out(_share(whole))
        here().out(f"to practise next: {weakest}, with: halfhour new")
    return 0


def _last_hunt(folder: Path, puzzle: Puzzle) -> Past:
    log = Session(folder, puzzle)
    tell_about(log)
    found = past.hunts(log.events, minutes=puzzle.minutes, now=time.time())
    if not found:
        raise UsageError(f"nothing is recorded of {shown(folder)} yet")
    return found[-1]


def _is_report(file: Path, mark: bytes) -> bool:
    """Return whether a report of ours is there, which a new one may replace."""
    if not file.is_file():
        return False
    try:
        with file.open("rb") as old:
            return old.read(len(mark)) == mark
    except OSError:
        return False


def _next_topic(record: tuple[track_record.Hunted, ...]) -> str:
    return track_record.to_practise(record, [entry.topic for entry in catalogue.entries()])[0]


def _print_table(kind: str, rows: tuple[Row, ...]) -> None:
    head = (kind, "hunts", "solved", "median", "hints", "right at first")
    here().table(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[object, ...]:
    at_first = f"{row.right_at_first} of {row.accused}" if row.accused else "-"
    return row.name, row.hunts, row.solved, _median(row), row.hints, at_first


def _median(row: Row) -> str:
    return "-" if row.median_seconds is None else _clock(row.median_seconds)


def _share(row: Row) -> str:
    if not row.hunts:
        return "halfhour: no hunt is over yet"
    parts = [f"halfhour: {row.solved} of {row.hunts} hunts solved"]
    if row.median_seconds is not None:
        parts.append(f"half of them within {_clock(row.median_seconds)}")
    parts.append(f"{row.hints / row.hunts:.1f} hints a hunt")
    if row.accused:
        parts.append(f"first accusation right {row.right_at_first} of {row.accused}")
    return ", ".join(parts)


def _row_as_json(row: Row) -> dict[str, object]:
    return {
        "name": row.name,
        "hunts": row.hunts,
        "solved": row.solved,
        "median_seconds": None if row.median_seconds is None else round(row.median_seconds),
        "hints": row.hints,
        "accused": row.accused,
        "right_at_first": row.right_at_first,
        "strength": round(row.strength, 3),
    }


def _moment_as_json(moment: Moment) -> dict[str, object]:
    return {
        "seconds": round(moment.seconds, 3),
        "event": moment.kind,
        "words": moment.words,
        "diff": moment.diff or None,
    }


def _indented(text: str) -> str:
    return "\n".join(f"          {line}" for line in text.rstrip("\n").split("\n"))


def _clock(seconds: float) -> str:
    return timeline.clock_words(seconds)
