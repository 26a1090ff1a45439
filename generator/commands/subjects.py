"""`halfhour subjects`: the correct files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import library
from ..console import here
from ..records import Subject
from . import _machine
from ._common import Verb, json_option

if TYPE_CHECKING:
    from ..soundness import Report


@click.group(invoke_without_command=True)
@click.pass_context
def subjects(ctx: click.Context) -> int:
    """List the correct files that bugs are planted in."""
    return 0 if ctx.invoked_subcommand is not None else _list()


@subjects.command("list", cls=Verb)
@json_option
def list_subjects() -> int:
    """List every subject: title, topics, lines, promises."""
    return _list()


@subjects.command(cls=Verb)
@click.argument("names", metavar="[NAME|DIR]...", nargs=-1)
@json_option
def check(names: tuple[str, ...]) -> int:
    """Prove correct files: kept promises, and no nonsense that keeps them.

    A NAME is one of the list, a DIR the folder of a file of your own; without any, all are proven.
    Every public function in turn answers zeros, NaN, its argument and the like: each such file has
    to break a promise. Exits with 1 where one does not, 4 where a correct file breaks a promise.
    """
    chosen = [_subject(name) for name in names] or list(library.subjects())
    found: list[Report] = []
    with here().progress() as progress:
        for subject in chosen:
            found.append(_machine.prove(subject, progress=progress))
            if not here().as_json:
                _tell(found[-1])
    if here().as_json:
        here().json({"subjects": [_report_as_json(report) for report in found]})
    return 1 if any(report.survivors for report in found) else 0


def _subject(name: str) -> Subject:
    folder = Path(name)
    if (folder / "subject.toml").is_file():
        return library.load_subject(folder)
    return library.find_subject(name)


def _tell(report: Report) -> None:
    mark = click.style("weak", fg="red") if report.survivors else click.style("ok  ", fg="green")
    here().out(
        f"{mark} {report.subject:<24} {report.promises} promises in {report.seconds:.2f} s;"
        f" {report.lost} degenerate files break one, {report.untouched} change nothing"
    )
    for file in report.survivors:
        here().out(f"       kept by {file.function}: {_machine.degenerate_words(file.answer)}")


def _report_as_json(report: Report) -> dict[str, object]:
    return {
        "name": report.subject,
        "promises": report.promises,
        "seconds": round(report.seconds, 3),
        "lost": report.lost,
        "untouched": report.untouched,
        "survivors": [{"function": s.function, "answer": s.answer} for s in report.survivors],
    }


def _list() -> int:
    found = library.subjects()
    if here().as_json:
        here().json({"subjects": [_as_json(subject) for subject in found]})
    else:
        here().table(
            ("subject", "lines", "promises", "title", "topics"),
            [(s.name, _lines(s), len(s.promises), s.title, ", ".join(s.topics)) for s in found],
        )
    return 0


def _lines(subject: Subject) -> int:
    return len(subject.source.splitlines())


def _as_json(subject: Subject) -> dict[str, object]:
    return {
        "name": subject.name,
        "title": subject.title,
        "topics": list(subject.topics),
        "description": subject.description,
        "reference": subject.reference,
        "lines": _lines(subject),
        "promises": len(subject.promises),
    }
