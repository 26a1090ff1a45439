"""The candidate's quick commands: `hint`, `status`, `reset`, `reveal`. None needs torch."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from .. import session, store
from ..console import here, paint_diff
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
@json_option
def hint(folder: Path | None, yes: bool) -> int:
    """Tell the next hint, from far to near; each costs twice the one before.

    On a terminal the cost is said first. Costs are noted in your record and take nothing away.
    """
    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    log = Session(folder, puzzle)
    ladder, costs = session.ladder(answer), session.costs(answer)
    step = log.hunt.hints + 1
    text = ladder[step - 1] if step <= len(ladder) else None
    price = f"{costs[step - 1]} of {sum(costs)} points" if text is not None else ""
    ask = text is not None and not yes and not here().as_json and sys.stdin.isatty()
    if ask and not click.confirm(f"hint {step} of {len(ladder)} costs {price}, go on?", err=True):
        here().say("no hint is told")
        return 0
    log.ensure_started()
    if text is not None:
        log.record("hinted", step=step, cost=costs[step - 1])
    step = min(step, len(ladder))
    if here().as_json:
        here().json(
            {
                "puzzle": puzzle.id,
                "step": step,
                "of": len(ladder),
                "hint": text,
                "hints": list(ladder[:step]),
                "cost": sum(costs[:step]),
                "cost_of": sum(costs),
            }
        )
    elif text is not None:
        here().out(f"hint {step} of {len(ladder)}: {text}")
    if step == len(ladder):
        last = "that was the last hint" if text is not None else "there is no further hint"
        here().say(f"{last}; the answer: {command_for('reveal', folder)}")
    tell_about(log)
    return 0


@click.command(cls=Verb)
@folder_argument
@json_option
def status(folder: Path | None) -> int:
    """Show the clock, the hints used, the last verdict and what to do next."""
    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
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
        here().say(f"as handed out; your edit is kept in {shown(kept)}; the clock runs on")
    else:
        here().say("as handed out")
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
    if ask and not click.confirm("This ends the hunt. Show the answer?", err=True):
        here().say("nothing is revealed")
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
        here().out("no hunt under way")
        here().out("next: halfhour new")
        here().say("everything else: halfhour --help")
        return 0
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    _print_status(folder, puzzle, answer, Session(folder, puzzle).hunt)
    return 0


def _print_status(folder: Path, puzzle: Puzzle, answer: Answer, hunt: Hunt) -> None:
    last = hunt.checks[-1] if hunt.checks else None
    found = f"{last.kept} of {last.promises} promises kept" if last and last.promises else ""
    verdict = str(last.verdict).replace("_", " ") if last else "none yet"
    rows = {
        "puzzle": f"{puzzle.title} ({shown(folder)})",
        "clock": clock(hunt),
        "hints": f"{hunt.hints} of {len(session.ladder(answer))}",
        "verdict": f"{verdict}, {found}" if found else verdict,
        "next": _next(folder, hunt),
    }
    for name, text in rows.items():
        here().out(f"{name:<8} {text}")


def _status_as_json(folder: Path, puzzle: Puzzle, answer: Answer, hunt: Hunt) -> dict[str, object]:
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
        "hints_of": len(session.ladder(answer)),
        "checks": len(hunt.checks),
        "last": last and {"verdict": last.verdict, "kept": last.kept, "of": last.promises},
        "next": _next(folder, hunt),
    }


def _state(hunt: Hunt) -> str:
    if hunt.solved is not None:
        return "solved"
    if hunt.revealed is not None:
        return "revealed"
    return "not_started" if hunt.started is None else "open"


def _next(folder: Path, hunt: Hunt) -> str:
    if hunt.solved is not None and hunt.revealed is None:
        return command_for("reveal", folder)
    if hunt.revealed is not None:
        return "halfhour new"
    return command_for("check", folder)


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
