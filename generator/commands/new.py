"""`halfhour new`: one certified puzzle in a folder of its own."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import catalogue, library, session, store, track_record
from ..console import here
from ..errors import UsageError
from ..messages import tr
from ..records import Answer, Puzzle, Subject
from ..session import Session
from ..track_record import Hunted
from . import _machine
from ._common import (
    SHELF,
    Verb,
    command_for,
    extra_option,
    json_option,
    known,
    minutes_option,
    read_puzzle,
    say_rows,
    shown,
    tell_about,
)

if TYPE_CHECKING:
    from halfhour.mutators import Mutator

    Choice = tuple[Sequence[Mutator], Collection[tuple[str, str]]]
    """The mutators to draw from, and which of them were met in which subject."""

_MOST_SEED = 1_000_000


@click.command(cls=Verb)
@click.option("--topic", metavar="TOPIC", help="A bug of this chapter; see: halfhour mutators list")
@click.option("--subject", metavar="NAME", help="This file; see: halfhour subjects list")
@click.option("--mutator", metavar="NAME", help="This bug; you will know what to look for.")
@click.option("--bugs", type=click.IntRange(1, 4), default=1, help="How many bugs; 1 by default.")
@click.option("--level", type=click.IntRange(1, 5), help="From 1, easy, to 5, hard.")
@click.option("--seed", type=click.IntRange(min=0), help="The same seed gives the same puzzle.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to put the puzzle; puzzles/<id> by default.",
)
@click.option(
    "--disguise/--no-disguise",
    default=False,
    help="Whether names, order and idioms of the file differ from the published solution.",
)
@click.option("--blind", is_flag=True, help="No ticket: notice for yourself what is wrong.")
@minutes_option
@extra_option
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
    out: Path | None,
    disguise: bool,
    blind: bool,
    minutes: int | None,
    extra: int,
    resume: bool,
) -> int:
    """Make a new puzzle, and print its folder.

    The first one takes a while: each bug is proven to be one before you see it. Without a choice
    of yours your record chooses: weak topics first, no bug twice in the same file.
    """
    if resume and (under_way := session.current(under=out.parent if out else SHELF)) is not None:
        puzzle = read_puzzle(under_way)
        minutes = Session(under_way, puzzle).hunt.minutes
        _hand_over(under_way, puzzle, minutes=minutes, resumed=True)
        return 0
    if out is not None:
        store.refuse_taken(out)
    entries = catalogue.entries()
    known("topic", topic, {entry.topic for entry in entries})
    known("mutator", mutator, (entry.name for entry in entries))
    subjects = library.subjects() if subject is None else (library.find_subject(subject),)
    # A seed names a puzzle for everyone, so it has no regard to anyone's record.
    chosen = any(each is not None for each in (topic, subject, mutator, level, seed)) or bugs > 1
    record = () if chosen else track_record.read()
    seed = secrets.randbelow(_MOST_SEED) if seed is None else seed
    if record:
        text = tr("seed {seed} and your record: looking for a bug that no one would see", seed=seed)
    else:
        text = tr("seed {seed}: looking for a bug that no one would see", seed=seed)
    here().say(text)
    with here().progress() as report:
        tried = 0

        def count(_: str) -> None:
            # What the craft says would name the bug.
            nonlocal tried
            tried += 1
            report(tr("proving, step {step}", step=tried))

        def craft(
            mutators: Sequence[Mutator], met: Collection[tuple[str, str]]
        ) -> tuple[Puzzle, Answer]:
            return _machine.craft(
                subjects,
                mutators,
                seed=seed,
                bugs=bugs,
                level=level,
                disguise=disguise,
                blind=blind,
                met=met,
                progress=count,
            )

        mutators = [m for m in _machine.mutators() if _wanted(m, topic, mutator)]
        puzzle, answer = _first(craft, _choices(subjects, mutators, record, seed))
    folder = out if out is not None else SHELF / puzzle.id
    written = store.write_puzzle(folder, puzzle, answer)
    log = Session(folder, puzzle)
    if written:
        log.start(minutes=minutes, extra=extra)
        log.record("about", **track_record.about(puzzle, answer))
    else:
        log.ensure_started(minutes=minutes, extra=extra)
    _hand_over(folder, puzzle, minutes=log.hunt.minutes, resumed=not written)
    tell_about(log)
    return 0


def _choices(
    subjects: Sequence[Subject], mutators: Sequence[Mutator], record: Sequence[Hunted], seed: int
) -> Iterator[Choice]:
    """Yield what to draw from, the best choice first; the last leaves nothing out."""
    if record:
        bugs = track_record.met(record)
        met = {
            (subject.name, mutator.name)
            for subject in subjects
            for mutator in mutators
            if track_record.bug_digest(subject.name, mutator.name) in bugs
        }
        topics = sorted({mutator.topic for mutator in mutators})
        if any(hunted.over for hunted in record):
            for topic in track_record.to_practise(record, topics, seed):
                yield [m for m in mutators if m.topic == topic], met
        else:
            yield mutators, met
    yield mutators, ()


def _first(
    craft: Callable[[Sequence[Mutator], Collection[tuple[str, str]]], tuple[Puzzle, Answer]],
    choices: Iterator[Choice],
) -> tuple[Puzzle, Answer]:
    """Return the puzzle of the first choice that has one. Raises the UsageError of the last."""
    nothing: UsageError | None = None
    for mutators, met in choices:
        try:
            return craft(mutators, met)
        except UsageError as error:
            nothing = error
    assert nothing is not None
    raise nothing


def _wanted(mutator: Mutator, topic: str | None, name: str | None) -> bool:
    return (topic is None or mutator.topic == topic) and (name is None or mutator.name == name)


def _hand_over(folder: Path, puzzle: Puzzle, *, minutes: int, resumed: bool) -> None:
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
                "minutes": minutes,
                "bugs": puzzle.bugs,
                "seed": puzzle.seed,
                "resumed": resumed,
            }
        )
    else:
        console.out(shown(folder))
    if resumed:
        console.say(tr("this hunt is under way"))
    brief, file = folder / store.BRIEF, folder / puzzle.file_name
    say_rows(
        {
            tr("brief"): console.link(brief, shown(brief)),
            tr("file"): console.link(file, shown(file)),
            **{verb: command_for(verb, folder) for verb in ("hunt", "check", "hint")},
        }
    )
