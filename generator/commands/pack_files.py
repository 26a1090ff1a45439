"""`halfhour pack verify`, `pack open`, `pack site`: what is done with the files of a week."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .._version import VERSION
from ..console import here
from ..errors import UsageError
from . import _machine
from ._common import Verb, json_option, shown

if TYPE_CHECKING:
    from ..pack.site import Published
    from ..pack.verify import Pack, Proof

_PATH = click.Path(path_type=Path)


@click.command("verify", cls=Verb)
@click.argument("file", type=_PATH)
@click.option(
    "--answers",
    metavar="FILE",
    type=_PATH,
    help="The answers zip, where it does not lie beside FILE.",
)
@click.option("--no-proof", is_flag=True, help="Compare digests and texts only; nothing is run.")
@json_option
def verify(file: Path, answers: Path | None, no_proof: bool) -> int:
    """Prove a week again, and that its answers are those it was published with.

    FILE is either zip of a week. The judge of this machine tries every puzzle: the original must
    keep each promise, the file must pass its visible tests and break what was certified. It runs
    the tests that lie in the answers, so verify packs of people whose code you would run, or use
    --no-proof. Exits with 1 where something does not hold, with 4 where a zip is damaged.
    """
    console = here()
    pack = _machine.open_pack(file, answers)
    if pack.version != VERSION:
        console.note(f"made by halfhour {pack.version}; this is {VERSION}")
    problems = _machine.pack_differences(pack)
    proofs: list[Proof] = []
    if not no_proof:
        with console.progress() as report:
            proofs = list(_machine.prove_pack(pack, progress=report))
    sound = not problems and all(proof.sound for proof in proofs)
    if console.as_json:
        console.json(_verified(pack, problems, proofs, sound=sound))
    else:
        _tell(pack, problems, proofs)
    return 0 if sound else 1


@click.command("open", cls=Verb)
@click.argument("file", type=_PATH)
@click.option(
    "--to",
    metavar="DIR",
    type=_PATH,
    default=Path(),
    help="Where to make the pack's folder; here by default.",
)
@json_option
def open_(file: Path, to: Path) -> int:
    """Unpack a zip of a week, and print its folder.

    Whole or not at all: every file must be the one that was packed, and nothing that is there is
    written over.
    """
    console = here()
    folder, written = _machine.unpack(file, to)
    if console.as_json:
        console.json({"folder": str(folder), "written": written})
        return 0
    console.out(shown(folder))
    if written:
        console.say(f"begin with: cd {shlex.quote(shown(folder))} && less README.md")
    else:
        console.say("it is there already, as it was packed")
    return 0


@click.command("site", cls=Verb)
@click.argument("folder", metavar="DIR", type=_PATH)
@click.option(
    "--from",
    "source",
    metavar="DIR",
    type=_PATH,
    help="Copy zip and page of every week in this folder to DIR first, and no answers.",
)
@click.option(
    "--reveal",
    is_flag=True,
    help="With --from: copy the answers too, but for those of the newest week.",
)
@click.option(
    "--base-url",
    metavar="URL",
    default="",
    help="Where DIR will be served: makes the feed's links absolute.",
)
@json_option
def site(folder: Path, source: Path | None, reveal: bool, base_url: str) -> int:
    """Write an index and an Atom feed of the weeks in DIR.

    The folder can then be served as it is; doing it again changes nothing. Answers that lie in DIR
    are linked too: keep them elsewhere until they may be known.
    """
    console = here()
    if reveal and source is None:
        raise UsageError("--reveal copies answers from a folder: name it with --from DIR")
    copied: Sequence[str] = ()
    if source is not None:
        copied = _machine.publish_packs(source, folder, reveal=reveal)
    weeks, changed = _machine.write_site(folder, base_url)
    written = [*copied, *changed]
    if console.as_json:
        found = [_published(each) for each in weeks]
        console.json({"folder": str(folder), "written": written, "weeks": found})
    else:
        console.out(shown(folder / "index.html"))
        counted = f"{len(weeks)} {'week' if len(weeks) == 1 else 'weeks'}"
        console.say(f"{counted}; {_listed(written)}")
    if weeks[0].revealed:
        console.note(f"the answers of {weeks[0].week.name} lie there too: they are published")
    return 0


def _tell(pack: Pack, problems: list[str], proofs: list[Proof]) -> None:
    console = here()
    if proofs:
        console.table(
            ("puzzle", "file", "level", "sound", "why"),
            [
                (p.puzzle.id, p.puzzle.file_name, p.puzzle.level, _yes(p.sound), p.sentence)
                for p in proofs
            ],
        )
    for problem in problems:
        console.say(f"found wanting: {problem}")
    if not problems:
        console.say(f"the answers are those committed to: SHA-256 {pack.committed}")
    if not proofs:
        console.say("nothing was proven: --no-proof")


def _verified(
    pack: Pack, problems: list[str], proofs: list[Proof], *, sound: bool
) -> dict[str, object]:
    manifest = pack.puzzles.puzzles
    return {
        "week": manifest.week,
        "version": pack.version,
        "sound": sound,
        "committed": pack.committed,
        "answers": pack.answers.sha256,
        "problems": problems,
        "puzzles": [
            {
                "puzzle": proof.puzzle.id,
                "subject": proof.puzzle.subject,
                "level": proof.puzzle.level,
                "sound": proof.sound,
                "why": proof.sentence,
            }
            for proof in proofs
        ],
    }


def _published(each: Published) -> dict[str, object]:
    return {
        "week": each.week.name,
        "puzzles": len(each.manifest.puzzles),
        "answers_published": each.revealed,
    }


def _yes(sound: bool) -> str:
    return "yes" if sound else "no"


def _listed(written: Sequence[str]) -> str:
    return f"written: {', '.join(written)}" if written else "nothing has changed"
