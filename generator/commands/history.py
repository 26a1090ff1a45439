"""`replay`, `report` and `stats`: look back at one hunt, and at all. None needs torch."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from .. import catalogue, files, past, store, timeline, track_record
from ..console import here, paint_diff
from ..errors import UsageError
from ..messages import tr, tr_n
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
        here().out(f"{_clock(moment.seconds):>8}  {moment.name:<9} {moment.words}")
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
        count = len(record)
        here().out(
            tr_n(
                "no hunt is over yet; {count} under way",
                "no hunt is over yet; {count} under way",
                count,
            )
            if record
            else tr("no hunt is over yet")
        )
        here().say(tr("next: {command}", command=f"halfhour {'check' if record else 'new'}"))
    else:
        _print_table(tr("topic"), topics)
        here().out("")
        _print_table(tr("level"), levels)
        here().out("")
        here().out(_share(whole))
        command = "halfhour new"
        here().out(tr("to practise next: {topic}, with: {command}", topic=weakest, command=command))
    return 0


def _last_hunt(folder: Path, puzzle: Puzzle) -> Past:
    log = Session(folder, puzzle)
    tell_about(log)
    found = past.hunts(log.events, minutes=puzzle.minutes, now=time.time())
    if not found:
        raise UsageError(tr("nothing is recorded of {path} yet", path=shown(folder)))
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
    counts = (tr("hunts"), tr("solved"), tr("median"), tr("hints"), tr("right at first"))
    head = (kind, *counts)
    here().table(head, [_cells(row) for row in rows])


def _cells(row: Row) -> tuple[object, ...]:
    right, accused = row.right_at_first, row.accused
    at_first = tr("{count} of {all}", count=right, all=accused) if accused else "-"
    return row.name, row.hunts, row.solved, _median(row), row.hints, at_first


def _median(row: Row) -> str:
    return "-" if row.median_seconds is None else _clock(row.median_seconds)


def _share(row: Row) -> str:
    if not row.hunts:
        return f"halfhour: {tr('no hunt is over yet')}"
    parts = [tr("{solved} of {all} hunts solved", solved=row.solved, all=row.hunts)]
    if row.median_seconds is not None:
        parts.append(tr("half of them within {time}", time=_clock(row.median_seconds)))
    parts.append(tr("{number} hints a hunt", number=f"{row.hints / row.hunts:.1f}"))
    if row.accused:
        right, accused = row.right_at_first, row.accused
        parts.append(tr("first accusation right {count} of {all}", count=right, all=accused))
    return f"halfhour: {', '.join(parts)}"


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
