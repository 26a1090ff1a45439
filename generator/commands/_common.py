"""What the commands share: their common options, and which puzzle is meant."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from .. import library, session, store
from .._version import VERSION
from ..console import Console, debug_flag, here
from ..errors import UsageError
from ..messages import tr
from ..records import Puzzle, Subject
from ..session import Hunt, Session

Command = TypeVar("Command", bound=Callable[..., Any])

SHELF = Path("puzzles")
"""Where new puzzles lie, below the working folder."""


class Verb(click.Command):
    """A command that knows `--debug`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(debug_flag())


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Console).as_json = True


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_json,
    help="Print one JSON object on stdout.",
)
folder_argument = click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path)
)


minutes_option = click.option(
    "--minutes",
    metavar="N",
    type=click.IntRange(1, session.MOST_MINUTES // 2),
    help="How long the clock runs; as long as the puzzle says by default.",
)
extra_option = click.option(
    "--extra",
    type=click.Choice(["25", "50", "100"]),
    callback=lambda _, __, value: int(value or 0),
    help="So many percent more time.",
)


def device_option(*, default: str) -> Callable[[Command], Command]:
    """Return the option that says where submissions work."""
    return click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default=default,
        show_default=True,
        help="Where the file works; auto is the GPU where there is one.",
    )


def meant(folder: Path | None, *, open_only: bool = False) -> Path:
    """Return the puzzle folder that is meant: the one given, this one, or the hunt under way.

    Raises UsageError where there is none.
    """
    if folder is not None:
        return folder
    if store.is_puzzle(Path.cwd()):
        return Path.cwd()
    found = session.current() or (None if open_only else session.latest())
    if found is None:
        raise UsageError(tr("no puzzle here and no hunt under way; start one with: halfhour new"))
    return found


def read_puzzle(folder: Path) -> Puzzle:
    """Return the puzzle, with a note where another halfhour made it."""
    puzzle = store.read_puzzle(folder)
    if puzzle.version != VERSION:
        here().note(
            tr("made by halfhour {theirs}; this is {ours}", theirs=puzzle.version, ours=VERSION)
        )
    return puzzle


def tell_about(log: Session) -> None:
    """Say it once if the log cannot be kept."""
    if log.note is not None:
        here().note(log.note)


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    absolute = path.resolve()
    try:
        return str(absolute.relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(absolute)


def say_rows(rows: Mapping[str, str]) -> None:
    """Say one thing a line, each below the other."""
    width = max(map(len, rows)) + 2
    for name, text in rows.items():
        here().say(f"  {name:<{width}} {text}")


def command_for(verb: str, folder: Path) -> str:
    """Return the command to type next for this folder, from here."""
    name = shown(folder)
    return f"halfhour {verb}" if name == "." else f"halfhour {verb} {shlex.quote(name)}"


def clock(hunt: Hunt) -> str:
    """Say how the half hour stands."""
    if hunt.started is None:
        text = tr("{all} minutes; the clock starts with the first check or hint", all=hunt.minutes)
    elif hunt.solved is not None and hunt.late:
        text = tr("solved in {time} minutes after the bell", time=_minutes(hunt.elapsed))
    elif hunt.solved is not None:
        spent = _minutes(hunt.elapsed)
        text = tr("solved in {time} minutes of {all}", time=spent, all=hunt.minutes)
    elif hunt.revealed is not None:
        text = tr("revealed after {time} minutes", time=_minutes(hunt.elapsed))
    elif hunt.paused is not None:
        spent = _minutes(hunt.elapsed)
        text = tr("paused at {time} of {all} minutes", time=spent, all=hunt.minutes)
    elif hunt.late:
        over = _minutes(hunt.elapsed - hunt.minutes * 60)
        text = tr("the bell rang {time} minutes ago; a fix still counts, marked late", time=over)
    else:
        left = _minutes(hunt.remaining)
        text = tr("{time} of {all} minutes left", time=left, all=hunt.minutes)
    return text


def known(kind: str, name: str | None, names: Iterable[str]) -> None:
    """Raise UsageError with the nearest names if there is a name and it is none of these."""
    names = list(names)
    if name is not None and name not in names:
        raise UsageError(library.unknown(kind, name, names))


def subject_named(name: str) -> Subject:
    """Return the subject of that name, or the one in that folder. Raises UsageError if neither."""
    return library.load_subject(subject_folder(name))


def subject_folder(name: str) -> Path:
    """Return the folder of that name if a subject is in it, else that of the subject of that name.

    Raises UsageError if neither is.
    """
    own = Path(name).resolve()
    return own if (own / "subject.toml").is_file() else library.find_folder(name)


def _minutes(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
