"""`halfhour subjects`: the correct files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from .. import files, library
from ..console import here
from ..records import Subject
from . import _machine
from ._common import Verb, json_option, shown, subject_folder
from .authoring import new_subject

if TYPE_CHECKING:
    from ..soundness import Report


@click.group(invoke_without_command=True)
@click.pass_context
def subjects(ctx: click.Context) -> int:
    """List the correct files that bugs are planted in, begin one."""
    return 0 if ctx.invoked_subcommand is not None else _list()


subjects.add_command(new_subject)


@subjects.command("list", cls=Verb)
@json_option
def list_subjects() -> int:
    """List every subject: title, topics, lines, promises."""
    return _list()


@subjects.command(cls=Verb)
@click.argument("names", metavar="[NAME|DIR]...", nargs=-1)
@click.option(
    "--without-mutants", is_flag=True, help="Leave out how many bugs fit, which takes longest."
)
@json_option
def check(names: tuple[str, ...], without_mutants: bool) -> int:
    """Prove correct files: promises that always hold, and no nonsense that keeps them.

    A NAME is one of the list, a DIR the folder of a file of your own; without any, all are proven.
    The file is judged twenty times, under other seeds, with one thread and with two. Then every
    public function in turn answers zeros, NaN, its argument and the like: each such file has to
    break a promise. Last, every bug of the catalogue that fits is planted and certified, and the
    rules of wording are looked at. Exits with 1 where something is found wanting, 4 where a
    correct file breaks a promise at once.
    """
    folders = [subject_folder(name) for name in names] or list(library.folders().values())
    chosen = [library.load_subject(folder) for folder in folders]
    broken = [
        problem
        for subject, folder in zip(chosen, folders, strict=True)
        for problem in _machine.subject_problems(subject, folder)
    ]
    with here().progress() as progress:
        found = [
            _machine.prove(subject, mutants=not without_mutants, progress=progress)
            for subject in chosen
        ]
    if here().as_json:
        here().json({"subjects": [_report_as_json(report) for report in found], "rules": broken})
    else:
        _tell(found)
        for problem in broken:
            here().out(problem)
    return 0 if all(report.sound for report in found) and not broken else 1


@subjects.command(cls=Verb)
@click.argument("names", metavar="[NAME|DIR]...", nargs=-1)
@json_option
def trace(names: tuple[str, ...]) -> int:
    """Write down what local variables hold, beside the file, for mutators that ask.

    The promises are run once on the correct file. What each variable held (`float3` for a tensor
    of three dimensions, `int`, `list`) goes to kinds.toml; `Context.same_kind` reads it.
    """
    written = []
    for name in names or tuple(library.folders()):
        file = subject_folder(name) / library.KINDS
        subject = library.load_subject(file.parent)
        files.replace_file(file, library.kinds_text(_machine.trace(subject)).encode())
        written.append(shown(file))
        if not here().as_json:
            here().out(written[-1])
    if here().as_json:
        here().json({"files": written})
    return 0


def _tell(reports: Sequence[Report]) -> None:
    head: tuple[str, ...] = ("subject", "lines", "promises", "seconds", "unsteady", "degenerate")
    head += ("kept", "mutants", "puzzles", "bugs", "found")
    here().table(head, [_row(report) for report in reports])
    for report in reports:
        for name in report.unsteady:
            here().out(f"{report.subject}: {name} is not kept in every run")
        for file in report.survivors:
            words = _machine.degenerate_words(file.answer)
            here().out(f"{report.subject}: every promise is kept though in {file.function} {words}")
        for name in report.missed:
            here().out(f"{report.subject}: no promise sees {name}; see: halfhour certify --explain")


def _row(report: Report) -> tuple[object, ...]:
    tried = report.lost + len(report.survivors)
    found = "sound" if report.sound else "wanting"
    slow = "" if report.quick else ", slow"
    seconds = f"{report.seconds:.2f}"
    sizes = (report.lines, report.promises, seconds, len(report.unsteady))
    catalogue = (report.mutants, report.puzzles, report.bugs)
    return (report.subject, *sizes, tried, len(report.survivors), *catalogue, found + slow)


def _report_as_json(report: Report) -> dict[str, object]:
    return {
        "name": report.subject,
        "sound": report.sound,
        "lines": report.lines,
        "promises": report.promises,
        "seconds": round(report.seconds, 3),
        "unsteady": list(report.unsteady),
        "lost": report.lost,
        "untouched": report.untouched,
        "mutants": report.mutants,
        "puzzles": report.puzzles,
        "bugs": report.bugs,
        "missed": list(report.missed),
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
