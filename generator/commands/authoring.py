"""What writes files for an author: `mutators new`, `mutators page`, `subjects new`."""

from __future__ import annotations

import keyword
import shlex
import sys
from pathlib import Path

import click

from .. import catalogue, files, library
from ..console import here
from ..errors import UsageError
from . import _machine
from ._common import Verb, json_option, known, shown

_PACKAGES = {"halfhour", "numpy", "pytest", "torch"}
to_option = click.option(
    "--to",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Into this folder; by default the catalogue of a checkout, elsewhere the folder here.",
)


@click.command("new", cls=Verb)
@click.argument("name")
@click.option(
    "--topic", metavar="TOPIC", help="Its chapter of the catalogue; the first by default."
)
@to_option
@json_option
def new_mutator(name: str, topic: str | None, to: Path | None) -> int:
    """Write a bug that already runs; its author fills in the marked places.

    NAME is the bug as a sentence in snake_case: top_p_drops_the_token_that_crosses.
    """
    known("topic", topic, catalogue.topics())
    topic = topic or catalogue.topics()[0]
    _machine.refuse_a_poor_name(name)
    for entry in catalogue.entries():
        if entry.name == name:
            raise UsageError(f"{name} is taken: {entry.where}; take another name")
    shelf = catalogue.checkout()
    at_home = to is None and shelf is not None
    folder = to or (shelf / topic if shelf is not None else Path())
    file = folder / f"{name}.py"
    files.write_file(file, _machine.mutator_file(name, topic).encode())
    # Outside of the catalogue only the path finds it.
    meant = name if at_home else shlex.quote(shown(file))
    _tell(file, f"halfhour mutators check {meant}", f"halfhour mutators try {meant}")
    return 0


@click.command("new", cls=Verb)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
def new_subject(folder: Path) -> int:
    """Write a correct file with its promises, ready to be proven and to grow.

    The last part of DIR is its name, and that of the file in it.
    """
    name = folder.resolve().name
    if not name.isidentifier() or keyword.iskeyword(name) or not name.islower():
        raise UsageError(f"{name!r} cannot be imported: name the folder in snake_case")
    if name in sys.stdlib_module_names | _PACKAGES:
        raise UsageError(f"{name} is the name of a package that is there already; take another")
    if name in (taken := library.folders()):
        raise UsageError(f"{name} is taken: {taken[name]}; take another name")
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{shown(folder)} is not empty; nothing was written")
    texts = _machine.subject_files(name)
    files.write_folder(folder, {file: text.encode() for file, text in texts.items()})
    meant = shlex.quote(shown(folder))
    _tell(
        folder,
        f"halfhour subjects check {meant}",
        f"cd {meant} && python -m pytest -q test_visible.py",
    )
    return 0


@click.command(cls=Verb)
@to_option
@json_option
def page(to: Path | None) -> int:
    """Write the catalogue as a page to read: CATALOGUE.md and catalogue.html.

    It spoils: it tells which bugs are planted, though no puzzle. With --to, the bugs of plugins are
    on it too.
    """
    shelf = catalogue.checkout()
    entries = catalogue.built_in() if to is None and shelf is not None else catalogue.entries()
    folder = to or shelf or Path()
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in _machine.catalogue_pages(entries).items():
        files.replace_file(folder / name, text.encode())
        written.append(shown(folder / name))
    if here().as_json:
        here().json({"files": written, "mutators": len(entries)})
    for file in [] if here().as_json else written:
        here().out(file)
    return 0


def _tell(path: Path, *commands: str) -> None:
    """Print where the author's work is, and what to run next."""
    if here().as_json:
        here().json({"path": shown(path), "next": list(commands)})
        return
    here().out(shown(path))
    here().say("it runs as it is; fill in what is marked FILL IN, then")
    for command in commands:
        here().say(f"  {command}")
