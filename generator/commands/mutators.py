"""`halfhour mutators`: the catalogue of bugs, whether one keeps the rules, and where it fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import catalogue, library
from ..catalogue import Entry
from ..console import here, paint_diff
from ..errors import UnsoundSubject, UsageError
from ..records import Certificate, Mutant, Subject
from . import _machine
from ._common import Verb, json_option, known, shown, subject_named
from .authoring import new_mutator, page

if TYPE_CHECKING:
    from halfhour.mutators import Mutator


@click.group(invoke_without_command=True)
@click.pass_context
def mutators(ctx: click.Context) -> int:
    """List the bugs, show one, try one on a file, begin one."""
    return 0 if ctx.invoked_subcommand is not None else _list()


mutators.add_command(new_mutator)
mutators.add_command(page)


@mutators.command("list", cls=Verb)
@json_option
def list_mutators() -> int:
    """List every bug by topic."""
    return _list()


@mutators.command(cls=Verb)
@click.argument("name", metavar="NAME|FILE")
@json_option
def show(name: str) -> int:
    """Show a bug: its lesson, its hints, where it truly happened."""
    entry = _entry(name)
    console = here()
    if console.as_json:
        console.json({"mutator": _as_json(entry)})
        return 0
    place, _, line = entry.where.rpartition(":")
    console.out(click.style(entry.title, bold=True))
    console.out(f"{entry.name}: {entry.topic}, family {entry.family}")
    console.out(click.style(f"{shown(Path(place))}:{line}", dim=True))
    console.out(f"\n{entry.lesson}")
    console.out(click.style("\nHints, from far to near", bold=True))
    for number, text in enumerate(entry.hints, start=1):
        console.out(f"  {number}. {text}")
    console.out(click.style("\nWhere it truly happened", bold=True))
    for seen in entry.sightings:
        console.out(f"  {seen.note}\n    {seen.url}")
    console.say(f"\nwhere it fits: halfhour mutators try {name}")
    return 0


@mutators.command(cls=Verb)
@click.argument("names", metavar="[NAME|FILE]...", nargs=-1)
@json_option
def check(names: tuple[str, ...]) -> int:
    """Hold bugs against the rules that all keep: examples, wording, nothing left to fill in.

    A NAME is one of the list, a FILE one of your own; without any, all are held against them.
    Exits with 1 where something is found wanting, 4 where a file does not load.
    """
    chosen = [m for name in names for m in _named(name)] if names else list(_machine.mutators())
    found = {mutator.name: _machine.mutator_problems(mutator) for mutator in chosen}
    if here().as_json:
        here().json({"mutators": [{"name": n, "problems": p} for n, p in found.items()]})
    else:
        for problem in (problem for problems in found.values() for problem in problems):
            here().out(problem)
        sound = sum(not problems for problems in found.values())
        here().say(f"{sound} of {len(found)} keep every rule")
    return 1 if any(found.values()) else 0


@mutators.command("try", cls=Verb)
@click.argument("name", metavar="NAME|FILE")
@click.option(
    "--subject", metavar="NAME|DIR", help="On this subject; on all of the list by default."
)
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="On any Python file.",
)
@click.option("--certify", is_flag=True, help="Prove each mutant too; needs a subject's promises.")
@json_option
def try_one(name: str, subject: str | None, file: Path | None, certify: bool) -> int:
    """Show each place where a bug fits, as a diff; exits with 1 where it fits nowhere.

    The bug is one of the list by its NAME, or what a FILE of your own defines.
    """
    if file is not None and (subject is not None or certify):
        raise UsageError("--file goes without --subject and --certify: a file has no promises")
    chosen = _named(name)
    sites = _sites_in_file(chosen, file) if file is not None else _sites(chosen, subject)
    if certify:
        _certify(chosen, sites)
    if here().as_json:
        here().json({"mutator": name, "sites": [site.as_json() for site in sites]})
    else:
        for site in sites:
            site.print()
        here().say(f"{name} fits in {len(sites)} place{'' if len(sites) == 1 else 's'}")
    return 0 if sites else 1


@dataclass(slots=True)
class _Site:
    """A place where a mutator fits, and its certificate once it has one."""

    file_name: str
    diff: str
    mutant: Mutant
    subject: Subject | None = None
    certificate: Certificate | None = None

    def print(self) -> None:
        here().out(
            click.style(f"site {self.mutant.site}: {self.file_name}:{self.mutant.line}", bold=True)
        )
        here().out(paint_diff(self.diff))
        if self.certificate is not None:
            level = f" (level {self.certificate.level})" if self.certificate.level else ""
            here().out(f"{self.certificate.status}{level}: {self.certificate.sentence}")
        here().out("")

    def as_json(self) -> dict[str, object]:
        proof = self.certificate
        return {
            "file": self.file_name,
            "subject": None if self.subject is None else self.subject.name,
            "site": self.mutant.site,
            "line": self.mutant.line,
            "diff": self.diff,
            "status": None if proof is None else proof.status,
            "broken": None if proof is None else list(proof.broken),
            "level": None if proof is None else proof.level,
        }


def _sites(mutators: Sequence[Mutator], subject: str | None) -> list[_Site]:
    subjects = library.subjects() if subject is None else (subject_named(subject),)
    return [
        _Site(s.file_name, _machine.diff(s.source, mutant.source, s.file_name), mutant, s)
        for s in subjects
        for mutant in _machine.plant(s.name, s.source, mutators, kinds=s.kinds)
    ]


def _sites_in_file(mutators: Sequence[Mutator], file: Path) -> list[_Site]:
    try:
        text = file.read_text(encoding="utf-8")
        mutants = _machine.plant(str(file), text, mutators)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as text: {error}") from error
    except UnsoundSubject as error:
        raise UsageError(str(error)) from error
    return [
        _Site(str(file), _machine.diff(text, mutant.source, file.name), mutant)
        for mutant in mutants
    ]


def _certify(mutators: Sequence[Mutator], sites: list[_Site]) -> None:
    may_crash = {mutator.name: mutator.crash_is_the_bug for mutator in mutators}
    work = [(s.subject, s.mutant, may_crash[s.mutant.mutator]) for s in sites if s.subject]
    with here().progress() as report:
        for site, proof in zip(sites, _machine.certify(work, jobs=1, device="cpu"), strict=True):
            site.certificate = proof
            report(f"line {proof.line}: {proof.status}")


def _list() -> int:
    entries = catalogue.entries()
    if here().as_json:
        here().json({"mutators": [_as_json(entry) for entry in entries]})
    else:
        rows = [(entry.topic, entry.name, entry.title) for entry in entries]
        here().table(("topic", "mutator", "bug"), rows)
    return 0


def _named(name: str) -> tuple[Mutator, ...]:
    """Return the bug of that name, or those of that file."""
    if _is_file(name):
        return _machine.mutators_in_file(Path(name))
    _entry(name)
    return tuple(mutator for mutator in _machine.mutators() if mutator.name == name)


def _is_file(name: str) -> bool:
    """Tell a file from a name. Raises UsageError where it is not there."""
    if not name.endswith(".py"):
        return False
    if not Path(name).is_file():
        raise UsageError(f"there is no file {name}")
    return True


def _entry(name: str) -> Entry:
    if _is_file(name):
        return catalogue.read_entry(Path(name))
    by_name = {entry.name: entry for entry in catalogue.entries()}
    known("mutator", name, by_name)
    return by_name[name]


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "topic": entry.topic,
        "family": entry.family,
        "title": entry.title,
        "lesson": entry.lesson,
        "hints": list(entry.hints),
        "sightings": [{"url": seen.url, "note": seen.note} for seen in entry.sightings],
        "where": entry.where,
    }
