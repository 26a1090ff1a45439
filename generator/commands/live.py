"""`hunt`, `pause` and `resume`: the half hour as it is lived."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import click

from .. import store
from ..console import here, is_lively, paint_diff
from ..errors import HalfhourError, UsageError
from ..messages import tr
from ..records import Puzzle
from ..session import Hunt, Session
from . import _machine
from ._common import (
    Verb,
    clock,
    command_for,
    extra_option,
    folder_argument,
    json_option,
    meant,
    minutes_option,
    read_puzzle,
    say_rows,
    shown,
    tell_about,
)
from .check import check
from .hunt import hint, reset


@click.command(cls=Verb)
@folder_argument
@minutes_option
@extra_option
@click.option("--plain", is_flag=True, help="Lines of text; so it is where output is no terminal.")
@click.option("--poll", is_flag=True, help="Look for saves twice a second, and ask no system.")
@click.option(
    "--record/--no-record",
    default=None,
    help="Whether your saves and runs are noted, on this machine only; so it is by default.",
)
@click.pass_context
def hunt(
    ctx: click.Context,
    *,
    folder: Path | None,
    minutes: int | None,
    extra: int,
    plain: bool,
    poll: bool,
    record: bool | None,
) -> int:
    """Start or resume the clock; test on every save; keys for the rest."""
    folder = meant(folder, open_only=True)
    puzzle = read_puzzle(folder)
    log = Session(folder, puzzle)
    if _is_over(folder, log.hunt):
        return 0
    _start(log, minutes, extra)
    recording = _agree(log, record)
    here().say(f"{puzzle.title}: {clock(log.hunt)}")
    brief, file = folder / store.BRIEF, folder / puzzle.file_name
    say_rows(
        {
            tr("brief"): here().link(brief, shown(brief)),
            tr("file"): here().link(file, shown(file)),
        }
    )
    tell_about(log)
    here().plain = plain = plain or not is_lively(sys.stdout)
    try:
        _machine.hunt(
            folder,
            puzzle,
            log,
            _actions(ctx, folder, puzzle, plain=plain),
            clock=clock,
            record=recording,
            poll=poll,
            plain=plain,
        )
    except BrokenPipeError:  # whoever read the lines has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        _part(folder, log)
    return 0


@click.command(cls=Verb)
@folder_argument
@json_option
def pause(folder: Path | None) -> int:
    """Let the clock rest; only in practice."""
    folder, log = _practice(folder)
    if not log.hunt.is_open:
        raise UsageError(tr("there is no clock to pause: {clock}", clock=clock(log.hunt)))
    if log.hunt.paused is None:
        log.pause()
    _tell_clock(log)
    command = command_for("resume", folder)
    here().say(tr("it runs on with the next thing you do, or with: {command}", command=command))
    tell_about(log)
    return 0


@click.command(cls=Verb)
@folder_argument
@json_option
def resume(folder: Path | None) -> int:
    """Let a paused clock run on."""
    folder, log = _practice(folder)
    if log.hunt.paused is not None:
        log.resume()
    _tell_clock(log)
    tell_about(log)
    return 0


def _tell_clock(log: Session) -> None:
    found = log.hunt
    if here().as_json:
        remaining = round(found.remaining)
        here().json({"paused": found.paused is not None, "remaining_seconds": remaining})
    else:
        here().out(clock(found))


def _practice(folder: Path | None) -> tuple[Path, Session]:
    """Return the folder and its log. Raises UsageError where the answer is with somebody else."""
    folder = meant(folder)
    puzzle = read_puzzle(folder)
    if store.read(folder)[1] is None:
        raise UsageError(
            tr("only practice can be paused; this puzzle's answer is with its publisher")
        )
    return folder, Session(folder, puzzle)


def _is_over(folder: Path, found: Hunt) -> bool:
    """Say that a hunt has ended, if it has."""
    if found.started is None or found.is_open:
        return False
    here().out(clock(found))
    following = "halfhour new" if found.revealed is not None else command_for("reveal", folder)
    here().say(tr("this hunt is over; next: {command}", command=following))
    return True


def _start(log: Session, minutes: int | None, extra: int) -> None:
    found = log.hunt
    if found.started is not None and (minutes is not None or extra):
        raise UsageError(
            tr(
                "the clock of this hunt runs with {all} minutes already;"
                " --minutes and --extra are for its start",
                all=found.minutes,
            )
        )
    log.ensure_started(minutes=minutes, extra=extra)
    if found.paused is not None:
        log.resume()


def _agree(log: Session, wanted: bool | None) -> bool:
    """Return whether to note saves and runs; say so once, and whenever it changes."""
    told = log.hunt.recording
    on = wanted if wanted is not None else told is not False
    if on != told:
        log.record_saves(on)
        if on:
            path = log.path
            here().say(
                tr("your saves and runs are recorded in {path}; to stop: --no-record", path=path)
            )
        else:
            here().say(tr("your saves and runs are not recorded"))
    return on


def _part(folder: Path, log: Session) -> None:
    """Say how the hunt stands and how to go on."""
    log.refresh()
    found = log.hunt
    if found.is_open:
        command = command_for("hunt", folder)
        if found.paused is not None:
            text = tr(
                "{clock}; the clock rests; go on with: {command}",
                clock=clock(found),
                command=command,
            )
        else:
            text = tr(
                "{clock}; the clock runs on; go on with: {command}",
                clock=clock(found),
                command=command,
            )
        here().say(text)
    else:
        here().say(clock(found))


def _actions(
    ctx: click.Context, folder: Path, puzzle: Puzzle, *, plain: bool
) -> dict[str, Callable[[str, bool], None]]:
    """Return what the keys do: each what its command does."""

    def typed(command: click.Command, *arguments: str) -> None:
        with command.make_context(command.name, list(arguments), parent=ctx) as inner:
            command.invoke(inner)

    def judged(_: str, __: bool) -> None:
        if plain:
            here().say(tr("judging"))
        typed(check, "--", str(folder))

    def accused(rest: str, can_ask: bool) -> None:
        from .diagnosis import accuse

        line, _, because = rest.partition(" ")
        if not line and can_ask:
            line = _asked(tr("Which line is wrong?"))
            because = _asked(tr("Why?")) if line else ""
        if line:
            typed(accuse, "--because", because.strip(), "--", line, str(folder))
        elif not can_ask:
            here().say(tr("say which line: a LINE [WHY]"))

    def opened(_: str, __: bool) -> None:
        file = folder / puzzle.file_name
        if not (os.environ.get("VISUAL") or os.environ.get("EDITOR")):
            path = shown(file)
            here().say(tr("set VISUAL or EDITOR to your editor; the file is {path}", path=path))
        else:
            click.edit(filename=str(file))

    def compared(_: str, __: bool) -> None:
        now = _machine.read_submission(folder / puzzle.file_name)
        diff = _machine.diff(puzzle.source, now, puzzle.file_name)
        here().out(paint_diff(diff) if diff else tr("the file is as handed out"))

    def hinted(_: str, __: bool) -> None:
        typed(hint, "--", str(folder))

    def put_back(_: str, __: bool) -> None:
        typed(reset, "--", str(folder))

    keys = {"c": judged, "h": hinted, "d": compared, "a": accused, "o": opened, "r": put_back}
    return {key: _guarded(does) for key, does in keys.items()}


def _asked(question: str) -> str:
    answer: str = click.prompt(
        question, default="", show_default=False, prompt_suffix=" ", err=True
    )
    return answer


def _guarded(does: Callable[[str, bool], None]) -> Callable[[str, bool], None]:
    """Return the action that ends in a sentence where it fails: the hunt goes on."""

    def action(rest: str, can_ask: bool) -> None:
        try:
            does(rest, can_ask)
        except HalfhourError as error:
            here().say(f"halfhour: {error}")
        except click.ClickException as error:
            here().say(f"halfhour: {error.format_message()}")
        except click.Abort:
            here().say("")

    return action
