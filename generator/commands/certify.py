"""`halfhour certify`: which mutants are puzzles, and why the others are not."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from .. import catalogue, files, library
from ..console import here
from ..errors import UsageError
from ..records import Certificate, Status
from . import _machine
from ._common import Verb, device_option, json_option, known

_WIDTH = 24


@click.command(cls=Verb)
@click.option("--subject", metavar="NAME", help="Only this file.")
@click.option("--mutator", metavar="NAME", help="Only this bug.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Judges at work; 1 by default.")
@device_option(default="cpu")
@click.option(
    "--explain",
    is_flag=True,
    help="Say why a puzzle is of its level, and whether an equivalent mutant is the same program.",
)
@click.option(
    "--table",
    metavar="FILE",
    type=click.Path(path_type=Path),
    hidden=True,  # for `make certify`
    help="Write what packs are drawn from; over a table that is there.",
)
@json_option
def certify(
    *,
    subject: str | None,
    mutator: str | None,
    jobs: int,
    device: str,
    explain: bool,
    table: Path | None,
) -> int:
    """Prove every mutant; exits with 1 where none of them is a puzzle.

    What was proven before is not proven again, so that an interrupted run goes on.
    """
    known("mutator", mutator, (entry.name for entry in catalogue.entries()))
    if table is not None and (subject or mutator):
        raise UsageError("a table is of everything: leave out --subject and --mutator")
    subjects = library.subjects() if subject is None else (library.find_subject(subject),)
    chosen = {m.name: m for m in _machine.mutators() if mutator is None or m.name == mutator}
    begun = time.monotonic()
    work = [
        (s, mutant, chosen[mutant.mutator].crash_is_the_bug)
        for s in subjects
        for mutant in _machine.plant(s.name, s.source, list(chosen.values()), kinds=s.kinds)
    ]
    found: list[Certificate] = []
    upheld: Counter[bool] = Counter()
    with here().progress() as report:
        for certificate in _machine.certify(work, jobs=jobs, device=device, upheld=upheld):
            found.append(certificate)
            report(f"{_bar(len(found), len(work))} {_short_counts(found)}")
        reasons = _explained(work, found, report) if explain else {}
    seconds = time.monotonic() - begun
    if table is not None:
        files.replace_file(table, _machine.certified_table(work, found))
    repeats = _machine.twins(found)
    if here().as_json:
        here().json(
            {
                "mutants": [
                    {
                        **_as_json(certificate),
                        "terms": {t.name: [round(t.value, 3), t.words] for t in certificate.terms},
                        "repeats": _name(repeats.get(certificate.mutant)),
                        "reason": reasons.get(certificate.mutant, ""),
                    }
                    for certificate in found
                ],
                "counts": _counts(found),
                "screen": {"upheld": upheld[True], "overturned": upheld[False]},
                "seconds": round(seconds, 3),
            }
        )
    else:
        _print(found, reasons, repeats, explain=explain)
        here().say(
            f"the judge upheld {upheld[True]} of {upheld.total()} that the screen let through"
        )
    return 0 if any(c.status is Status.CERTIFIED for c in found) else 1


def _explained(
    work: _machine.Work, found: Sequence[Certificate], report: Callable[[str], None]
) -> dict[str, str]:
    """Return why the equivalent mutants are, by id."""
    survivors = [
        (subject, mutant)
        for (subject, mutant, _), certificate in zip(work, found, strict=True)
        if certificate.status is Status.EQUIVALENT
    ]
    reasons = {}
    for mutant_id, reason in _machine.explain_survivors(survivors):
        reasons[mutant_id] = reason
        report(f"{len(reasons)} of {len(survivors)} survivors explained")
    return reasons


def _print(
    found: Sequence[Certificate],
    reasons: Mapping[str, str],
    repeats: Mapping[str, Certificate],
    *,
    explain: bool,
) -> None:
    for status in Status:
        rows = [c for c in found if c.status is status]
        if rows:
            here().out(click.style(f"{status}: {len(rows)}", bold=True))
            for c in rows:
                level = f"level {c.level}: " if c.level else ""
                here().out(f"  {_name(c)}  {level}{c.sentence}")
                for line in _why(c, reasons, repeats) if explain else ():
                    here().out(f"      {line}")
    counted = _counts(found)
    levels = Counter(c.level for c in found if c.level)
    here().say(f"{counted[Status.CERTIFIED]} of {len(found)} mutants are puzzles")
    if levels:
        of_level = ", ".join(f"{level}: {levels[level]}" for level in sorted(levels))
        here().say(f"by level: {of_level}; {len(repeats)} repeat another on the same line")


def _why(
    certificate: Certificate, reasons: Mapping[str, str], repeats: Mapping[str, Certificate]
) -> Iterator[str]:
    for term in certificate.terms:
        yield f"{term.name:<8} {term.value:4.2f}  {term.words}"
    if certificate.mutant in repeats:
        yield f"the same puzzle as {_name(repeats[certificate.mutant])}"
    if certificate.mutant in reasons:
        yield reasons[certificate.mutant]


def _name(certificate: Certificate | None) -> str:
    if certificate is None:
        return ""
    c = certificate
    return f"{c.subject}:{c.line}  {c.mutator} [{c.site}]"


def _bar(done: int, of: int) -> str:
    full = _WIDTH * done // max(1, of)
    return f"[{'#' * full}{'.' * (_WIDTH - full)}] {done} of {of}"


def _short_counts(found: Sequence[Certificate]) -> str:
    counted = Counter(certificate.status for certificate in found)
    return ", ".join(f"{counted[status]} {status}" for status in Status if counted[status])


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
