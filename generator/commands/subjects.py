"""`halfhour subjects`: the correct files."""

from __future__ import annotations

import click

from .. import library
from ..console import here
from ..records import Subject
from ._common import Verb, json_option


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
