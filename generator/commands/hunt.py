"""The candidate's quick commands: `hint`, `status`, `reset`, `reveal`. None needs torch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from .. import session, store
from ..console import here, paint_diff
from ..messages import tr, verdict
from ..records import Answer, PlantedBug, Puzzle
from ..session import Hunt, Session
from ._common import (
    Verb,
    clock,
    command_for,
    folder_argument,
    json_option,
    meant,
    read_puzzle,
    shown,
    tell_about,
)


@click.command(cls=Verb)
@folder_argument
@click.option("--yes", is_flag=True, help="Do not ask, whatever it costs.")
@click.option("--again", is_flag=True, help="Tell no new one, but those that were told.")
@json_option
def hint(folder: Path | None, yes: bool, again: bool) -> int:
    """Tell the next hint, from far to near; each costs twice the one before.

    On a terminal the cost is said first. Costs are noted in your record and take nothing away.
    """
    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    log = Session(folder, puzzle)
    ladder, costs = session.ladder(answer), session.costs(answer)
    if again:
        _tell_again(puzzle, log.hunt.hints, ladder, costs)
        return 0
    step = log.hunt.hints + 1
    text = ladder[step - 1] if step <= len(ladder) else None
    ask = text is not None and not yes and not here().as_json and sys.stdin.isatty()
    if ask and not _agreed(step, costs):
        here().say(tr("no hint is told"))
        return 0
    log.ensure_started()
    if text is not None:
        log.record("hinted", step=step, cost=costs[step - 1])
    step = min(step, len(ladder))
    if here().as_json:
        here().json(_hint_as_json(puzzle, step, text, ladder, costs))
    elif text is not None:
        here().prose(tr("hint {step} of {all}: {text}", step=step, all=len(ladder), text=text))
    if step == len(ladder):
        command = command_for("reveal", folder)
        if text is not None:
            here().say(tr("that was the last hint; the answer: {command}", command=command))
        else:
            here().say(tr("there is no further hint; the answer: {command}", command=command))
    tell_about(log)
    return 0


def _tell_again(puzzle: Puzzle, told: int, ladder: Sequence[str], costs: Sequence[int]) -> None:
    if here().as_json:
        here().json(_hint_as_json(puzzle, told, None, ladder, costs))
    elif not told:
        here().say(tr("no hint was told yet"))
    else:
        for step, text in enumerate(ladder[:told], start=1):
            here().prose(tr("hint {step} of {all}: {text}", step=step, all=len(ladder), text=text))


def _hint_as_json(
    puzzle: Puzzle, step: int, text: str | None, ladder: Sequence[str], costs: Sequence[int]
) -> dict[str, object]:
    return {
        "puzzle": puzzle.id,
        "step": step,
        "of": len(ladder),
        "hint": text,
        "hints": list(ladder[:step]),
        "cost": sum(costs[:step]),
        "cost_of": sum(costs),
    }


def _agreed(step: int, costs: Sequence[int]) -> bool:
    """Say what a hint costs; return whether to tell it."""
    question = tr(
        "hint {step} of {all} costs {cost} of {costs} points, go on?",
        step=step,
        all=len(costs),
        cost=costs[step - 1],
        costs=sum(costs),
    )
    return click.confirm(question, err=True)


@click.command(cls=Verb)
@folder_argument
@json_option
def status(folder: Path | None) -> int:
    """Show the clock, the hints used, the last verdict and what to do next."""
    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read(folder)[1]
    log = Session(folder, puzzle)
    if here().as_json:
        here().json(_status_as_json(folder, puzzle, answer, log.hunt))
    else:
        _print_status(folder, puzzle, answer, log.hunt)
    tell_about(log)
    return 0


@click.command(cls=Verb)
@folder_argument
def reset(folder: Path | None) -> int:
    """Put the file back as handed out; yours is kept beside it."""
    folder = meant(folder)
    puzzle = read_puzzle(folder)
    kept = store.restore(folder)
    log = Session(folder, puzzle)
    log.reset()
    here().out(shown(folder / puzzle.file_name))
    if kept is not None:
        path = shown(kept)
        here().say(tr("as handed out; your edit is kept in {path}; the clock runs on", path=path))
    else:
        here().say(tr("as handed out"))
    tell_about(log)
    return 0


@click.command(cls=Verb)
@folder_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def reveal(folder: Path | None, yes: bool) -> int:
    """End the hunt: show the diff, the lesson and where it truly happened."""
    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    log = Session(folder, puzzle)
    ask = not yes and not here().as_json and sys.stdin.isatty() and log.hunt.solved is None
    if ask and not click.confirm(tr("This ends the hunt. Show the answer?"), err=True):
        here().say(tr("nothing is revealed"))
        return 0
    log.revealed()
    if here().as_json:
        here().json(
            {
                "puzzle": puzzle.id,
                "subject": puzzle.subject,
                "solved": log.hunt.solved is not None,
                "bugs": [_bug_as_json(bug) for bug in answer.bugs],
            }
        )
    else:
        from .. import render

        here().out(render.reveal(puzzle, answer, paint=paint_diff).rstrip("\n"))
        here().say(clock(log.hunt))
    tell_about(log)
    return 0


def where_you_are() -> int:
    """Show the hunt under way, or how to begin one."""
    here_is_one = store.is_puzzle(Path.cwd())
    folder = Path.cwd() if here_is_one else session.current()
    if folder is None:
        here().out(tr("no hunt under way"))
        here().out(tr("next: {command}", command="halfhour new"))
        here().say(tr("everything else: {command}", command="halfhour --help"))
        return 0
    puzzle, answer = read_puzzle(folder), store.read(folder)[1]
    _print_status(folder, puzzle, answer, Session(folder, puzzle).hunt)
    return 0


def _print_status(folder: Path, puzzle: Puzzle, answer: Answer | None, hunt: Hunt) -> None:
    last = hunt.checks[-1] if hunt.checks else None
    found = verdict(last.verdict) if last else tr("none yet")
    if last and last.promises:
        kept, every = last.kept, last.promises
        found = tr("{verdict}, {kept} of {all} promises kept", verdict=found, kept=kept, all=every)
    rows = {
        tr("puzzle"): f"{puzzle.title} ({shown(folder)})",
        tr("clock"): clock(hunt),
        tr("hints"): _hints(hunt, answer),
        tr("verdict"): found,
        tr("next"): _next(folder, hunt, answer),
    }
    width = max(map(len, rows)) + 1
    for name, text in rows.items():
        here().out(f"{name:<{width}} {text}")


def _hints(hunt: Hunt, answer: Answer | None) -> str:
    if answer is None:
        return tr("none: the answer is with its publisher")
    return tr("{count} of {all}", count=hunt.hints, all=len(session.ladder(answer)))


def _status_as_json(
    folder: Path, puzzle: Puzzle, answer: Answer | None, hunt: Hunt
) -> dict[str, object]:
    last = hunt.checks[-1] if hunt.checks else None
    return {
        "puzzle": puzzle.id,
        "folder": shown(folder),
        "subject": puzzle.subject,
        "title": puzzle.title,
        "state": _state(hunt),
        "minutes": hunt.minutes,
        "elapsed_seconds": round(hunt.elapsed),
        "remaining_seconds": round(hunt.remaining),
        "late": hunt.late,
        "hints": hunt.hints,
        "hints_of": len(session.ladder(answer)) if answer else 0,
        "checks": len(hunt.checks),
        "last": last and {"verdict": last.verdict, "kept": last.kept, "of": last.promises},
        "next": _next(folder, hunt, answer),
    }


def _state(hunt: Hunt) -> str:
    if hunt.solved is not None:
        return "solved"
    if hunt.revealed is not None:
        return "revealed"
    if hunt.started is None:
        return "not_started"
    return "paused" if hunt.paused is not None else "open"


def _next(folder: Path, hunt: Hunt, answer: Answer | None) -> str:
    if answer is None:
        return command_for("hunt", folder)
    if hunt.solved is not None and hunt.revealed is None:
        return command_for("reveal", folder)
    if hunt.revealed is not None:
        return "halfhour new"
    return command_for("resume" if hunt.paused is not None else "check", folder)


def _bug_as_json(bug: PlantedBug) -> dict[str, object]:
    return {
        "mutator": bug.mutator,
        "topic": bug.topic,
        "line": bug.line,
        "title": bug.title,
        "lesson": bug.lesson,
        "diff": bug.diff,
        "broken": list(bug.broken),
        "demonstration": asdict(bug.demonstration) if bug.demonstration else None,
        "missed": bug.missed,
        "route": list(bug.route),
        "sightings": [{"url": seen.url, "note": seen.note} for seen in bug.sightings],
    }
