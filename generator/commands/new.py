"""`halfhour new`: one certified puzzle in a folder of its own."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import catalogue, library, session, store
from ..console import here
from ..records import Puzzle
from ..session import Session
from . import _machine
from ._common import SHELF, Verb, command_for, json_option, known, read_puzzle, shown, tell_about

if TYPE_CHECKING:
    from halfhour.mutators import Mutator

_MOST_SEED = 1_000_000


@click.command(cls=Verb)
@click.option("--topic", metavar="TOPIC", help="A bug of this chapter; see: halfhour mutators list")
@click.option("--subject", metavar="NAME", help="This file; see: halfhour subjects list")
@click.option("--mutator", metavar="NAME", help="This bug; you will know what to look for.")
@click.option("--bugs", type=click.IntRange(1, 4), default=1, help="How many bugs; 1 by default.")
@click.option("--level", type=click.IntRange(1, 5), help="From 1, easy, to 5, hard.")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same puzzle.")
@click.option(
    "--disguise/--no-disguise",
    default=False,
    help="Whether names, order and idioms of the file differ from the published solution.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to put the puzzle; puzzles/<id> by default.",
)
@click.option("--resume", is_flag=True, help="Go on with the open hunt below puzzles/, if any.")
@json_option
def new(
    *,
    topic: str | None,
    subject: str | None,
    mutator: str | None,
    bugs: int,
    level: int | None,
    seed: int | None,
    disguise: bool,
    out: Path | None,
    resume: bool,
) -> int:
    """Make a new puzzle, and print its folder.

    The first one takes a while: each bug is proven to be one before you see it.
    """
    if resume and (under_way := session.current(under=out.parent if out else SHELF)) is not None:
        _hand_over(under_way, read_puzzle(under_way), resumed=True)
        return 0
    if out is not None:
        store.refuse_taken(out)
    entries = catalogue.entries()
    known("topic", topic, {entry.topic for entry in entries})
    known("mutator", mutator, (entry.name for entry in entries))
    subjects = library.subjects() if subject is None else (library.find_subject(subject),)
    seed = secrets.randbelow(_MOST_SEED) if seed is None else seed
    here().say(f"seed {seed}: looking for a bug that no one would see")
    with here().progress() as report:
        tried = 0

        def count(_: str) -> None:
            # What the craft says would name the bug.
            nonlocal tried
            tried += 1
            report(f"proving, step {tried}")

        puzzle, answer = _machine.craft(
            subjects,
            [m for m in _machine.mutators() if _wanted(m, topic, mutator)],
            seed=seed,
            bugs=bugs,
            level=level,
            disguise=disguise,
            progress=count,
        )
    folder = out if out is not None else SHELF / puzzle.id
    written = store.write_puzzle(folder, puzzle, answer)
    log = Session(folder, puzzle)
    if written:
        log.start()
    else:
        log.ensure_started()
    _hand_over(folder, puzzle, resumed=not written)
    tell_about(log)
    return 0


def _wanted(mutator: Mutator, topic: str | None, name: str | None) -> bool:
    return (topic is None or mutator.topic == topic) and (name is None or mutator.name == name)


def _hand_over(folder: Path, puzzle: Puzzle, *, resumed: bool) -> None:
    console = here()
    if console.as_json:
        console.json(
            {
                "puzzle": puzzle.id,
                "folder": shown(folder),
                "brief": shown(folder / store.BRIEF),
                "file": shown(folder / puzzle.file_name),
                "subject": puzzle.subject,
                "title": puzzle.title,
                "topics": list(puzzle.topics),
                "level": puzzle.level,
                "minutes": puzzle.minutes,
                "bugs": puzzle.bugs,
                "seed": puzzle.seed,
                "resumed": resumed,
            }
        )
    else:
        console.out(shown(folder))
    if resumed:
        console.say("this hunt is under way")
    console.say(f"  brief   {shown(folder / store.BRIEF)}")
    console.say(f"  file    {shown(folder / puzzle.file_name)}")
    console.say(f"  check   {command_for('check', folder)}")
    console.say(f"  hint    {command_for('hint', folder)}")
