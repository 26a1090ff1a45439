"""`halfhour certify`: which mutants are puzzles, and why the others are not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import click

from .. import catalogue, library
from ..console import here
from ..records import Certificate, Status
from . import _machine
from ._common import Verb, device_option, json_option, known


@click.command(cls=Verb)
@click.option("--subject", metavar="NAME", help="Only this file.")
@click.option("--mutator", metavar="NAME", help="Only this bug.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Judges at work; 1 by default.")
@device_option(default="cpu")
@json_option
def certify(subject: str | None, mutator: str | None, jobs: int, device: str) -> int:
    """Prove every mutant; exits with 1 where none of them is a puzzle.

    What was proven before is not proven again, so that an interrupted run goes on.
    """
    known("mutator", mutator, (entry.name for entry in catalogue.entries()))
    subjects = library.subjects() if subject is None else (library.find_subject(subject),)
    chosen = {m.name: m for m in _machine.mutators() if mutator is None or m.name == mutator}
    begun = time.monotonic()
    work = [
        (s, mutant, chosen[mutant.mutator].crash_is_the_bug)
        for s in subjects
        for mutant in _machine.plant(s.name, s.source, list(chosen.values()))
    ]
    found: list[Certificate] = []
    with here().progress() as report:
        for certificate in _machine.certify(work, jobs=jobs, device=device):
            found.append(certificate)
            report(f"{len(found)} of {len(work)}: {certificate.mutator} {certificate.status}")
    seconds = time.monotonic() - begun
    if here().as_json:
        here().json(
            {
                "mutants": [_as_json(certificate) for certificate in found],
                "counts": _counts(found),
                "seconds": round(seconds, 3),
            }
        )
    else:
        _print(found)
    return 0 if any(c.status is Status.CERTIFIED for c in found) else 1


def _print(found: Sequence[Certificate]) -> None:
    for status in Status:
        rows = [c for c in found if c.status is status]
        if rows:
            here().out(click.style(f"{status}: {len(rows)}", bold=True))
            for c in rows:
                level = f"level {c.level}: " if c.level else ""
                here().out(f"  {c.subject}:{c.line}  {c.mutator} [{c.site}]  {level}{c.sentence}")
    of = len(found)
    here().say(f"{_counts(found)[Status.CERTIFIED]} of {of} mutants are puzzles")


def _counts(found: Sequence[Certificate]) -> dict[str, int]:
    counted = Counter(certificate.status for certificate in found)
    return {str(status): counted[status] for status in Status}


def _as_json(certificate: Certificate) -> dict[str, object]:
    return {
        "subject": certificate.subject,
        "mutator": certificate.mutator,
        "site": certificate.site,
        "line": certificate.line,
        "status": certificate.status,
        "sentence": certificate.sentence,
        "broken": list(certificate.broken),
        "unsteady": list(certificate.unsteady),
        "level": certificate.level,
    }
