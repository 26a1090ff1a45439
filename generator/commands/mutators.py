"""`halfhour mutators`: the catalogue of bugs, and where one fits."""

from __future__ import annotations

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
from ._common import Verb, json_option, known

if TYPE_CHECKING:
    from halfhour.mutators import Mutator


@click.group(invoke_without_command=True)
@click.pass_context
def mutators(ctx: click.Context) -> int:
    """List the bugs, show one, try one on a file."""
    return 0 if ctx.invoked_subcommand is not None else _list()


@mutators.command("list", cls=Verb)
@json_option
def list_mutators() -> int:
    """List every bug by topic."""
    return _list()


@mutators.command(cls=Verb)
@click.argument("name")
@json_option
def show(name: str) -> int:
    """Show a bug: its lesson, its hints, where it truly happened."""
    entry = _entry(name)
    console = here()
    if console.as_json:
        console.json({"mutator": _as_json(entry)})
        return 0
    console.out(click.style(entry.title, bold=True))
    console.out(f"{entry.name} ({entry.topic}), {entry.where}")
    console.out(f"\n{entry.lesson}\n")
    for number, text in enumerate(entry.hints, start=1):
        console.out(f"hint {number}: {text}")
    console.out("")
    for seen in entry.sightings:
        console.out(f"seen: {seen.note}: {seen.url}")
    return 0


@mutators.command("try", cls=Verb)
@click.argument("name")
@click.option("--subject", metavar="NAME", help="On this subject; on all of them by default.")
@click.option(
    "--file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="On any Python file.",
)
@click.option("--certify", is_flag=True, help="Prove each mutant too; needs a subject's promises.")
@json_option
def try_one(name: str, subject: str | None, file: Path | None, certify: bool) -> int:
    """Show each place where a bug fits, as a diff; exits with 1 where it fits nowhere."""
    if file is not None and (subject is not None or certify):
        raise UsageError("--file goes without --subject and --certify: a file has no promises")
    _entry(name)
    (mutator,) = (m for m in _machine.mutators() if m.name == name)
    sites = _sites_in_file(mutator, file) if file is not None else _sites(mutator, subject)
    if certify:
        _certify(mutator, sites)
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


def _sites(mutator: Mutator, subject: str | None) -> list[_Site]:
    subjects = library.subjects() if subject is None else (library.find_subject(subject),)
    return [
        _Site(s.file_name, _machine.diff(s.source, mutant.source, s.file_name), mutant, s)
        for s in subjects
        for mutant in _machine.plant(s.name, s.source, [mutator])
    ]


def _sites_in_file(mutator: Mutator, file: Path) -> list[_Site]:
    try:
        text = file.read_text(encoding="utf-8")
        mutants = _machine.plant(str(file), text, [mutator])
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as text: {error}") from error
    except UnsoundSubject as error:
        raise UsageError(str(error)) from error
    return [
        _Site(str(file), _machine.diff(text, mutant.source, file.name), mutant)
        for mutant in mutants
    ]


def _certify(mutator: Mutator, sites: list[_Site]) -> None:
    work = [(s.subject, s.mutant, mutator.crash_is_the_bug) for s in sites if s.subject is not None]
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


def _entry(name: str) -> Entry:
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
