"""`halfhour grade`: what is other people's work worth?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import files
from ..console import here
from ..errors import UsageError
from ..records import VerdictKind
from . import _machine
from ._common import Verb, device_option, json_option

if TYPE_CHECKING:
    from ..grading.report import Row
    from ..grading.run import Progress
    from ..pack.answers import Answers

_PATH = click.Path(path_type=Path)


@click.command(cls=Verb)
@click.argument("answers", type=_PATH)
@click.argument("submissions", metavar="SUBMISSION...", nargs=-1, required=True, type=_PATH)
@click.option("--names", metavar="CSV", type=_PATH, help="Who handed in what: columns file,name.")
@click.option(
    "--max-lines", metavar="N", type=click.IntRange(min=0), help="Flag who changes more lines."
)
@click.option("--csv", metavar="FILE", type=_PATH, help="Write a table for a spreadsheet.")
@click.option("--html", metavar="FILE", type=_PATH, help="Write a page with every diff.")
@json_option
@click.option("--quiet-promises", is_flag=True, help="Do not say which promises are broken.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="Judges at work; 1 by default.")
@device_option(default="cpu")
@click.option("--scheduler", metavar="ADDRESS", help="Let the workers of a Dask cluster judge.")
@click.option(
    "--accept-risk",
    is_flag=True,
    help="Run other people's files though this machine cannot keep them to themselves.",
)
@click.option("--journal", metavar="FILE", type=_PATH, help="Where verdicts are kept meanwhile.")
@click.option("--fresh", is_flag=True, help="Judge again what was judged before.")
def grade(
    *,
    answers: Path,
    submissions: tuple[Path, ...],
    names: Path | None,
    max_lines: int | None,
    csv: Path | None,
    html: Path | None,
    quiet_promises: bool,
    jobs: int,
    device: str,
    scheduler: str | None,
    accept_risk: bool,
    journal: Path | None,
    fresh: bool,
) -> int:
    """Judge each SUBMISSION of people you need not trust by the ANSWERS.

    ANSWERS is the answers zip of a week or one puzzle's folder. A SUBMISSION is a .py file, a
    candidate's folder or zip, or a folder or zip that holds those of many. Each text is judged
    twice, under the strongest protection there is. A run that was stopped goes on where it was
    when it is started again.

    Exits with 4 if a file could not be tried, else with 0: the verdicts are what is printed.
    """
    for file in (csv, html):
        _refuse_place(file)
    key = _machine.answers(answers)
    listed = _machine.names(names) if names is not None else None
    own = [path for path in (names, journal, csv, html) if path is not None]
    handed_in = _machine.submissions(submissions, key, names=listed, leave_out=own)
    for unused in listed.unused if listed is not None else ():
        here().note(f"{unused} is on the list of names, and was not handed in")
    judged = 0
    with here().progress() as report:

        def tell(progress: Progress) -> None:
            nonlocal judged
            judged += 1
            who, kind = progress.submission.candidate, progress.verdict.kind
            report(f"{progress.done} of {progress.of}: {who} {kind}")

        try:
            graded = _machine.grade(
                key,
                handed_in,
                jobs=jobs,
                scheduler=scheduler,
                device=device,
                accept_risk=accept_risk,
                journal=journal,
                fresh=fresh,
                report=tell,
            )
        except KeyboardInterrupt:
            here().note("what is judged is kept; the same command goes on from there")
            raise
    texts = {(each.puzzle, each.digest) for each in handed_in if each.source is not None}
    before = len(texts) - judged
    if before > 0:
        here().note(f"{before} of {len(texts)} were judged before; --fresh judges them again")
    rows = _machine.graded_rows(graded, key, max_lines=max_lines)
    if csv is not None:
        text = _machine.grades_csv(rows, quiet=quiet_promises)
        files.replace_file(csv, text.encode("utf-8-sig"))  # or Excel reads no UTF-8
    if html is not None:
        text = _machine.grades_html(rows, key, quiet=quiet_promises)
        files.replace_file(html, text.encode())
    if here().as_json:
        here().json(
            {
                "answers": key.name,
                "week": key.week,
                "puzzles": [{"id": p.id, "subject": p.subject} for p, _ in key.puzzles],
                "submissions": _machine.grades_json(rows, quiet=quiet_promises),
            }
        )
    else:
        _print(rows, key, quiet=quiet_promises)
    missed = any(row.verdict.kind is VerdictKind.ENVIRONMENT for row in rows)
    return 4 if missed else 0


def _refuse_place(file: Path | None) -> None:
    """Raise UsageError for a report that could not be written when all is judged."""
    if file is not None and file.is_dir():
        raise UsageError(f"{file} is a folder; say which file to write")
    if file is not None and not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent} to write {file.name} to")


def _print(rows: Sequence[Row], answers: Answers, *, quiet: bool) -> None:
    several = len(answers.puzzles) > 1
    head = ("candidate", "file", *(["puzzle"] if several else []))
    here().table(
        (*head, "verdict", "kept", "lines", "flags", "why"),
        [
            (
                row.submission.candidate,
                row.submission.where,
                *([row.puzzle.subject if row.puzzle else "-"] if several else []),
                row.verdict.kind,
                f"{row.kept}/{len(row.verdict.results)}" if row.verdict.results else "-",
                "-" if row.changes is None else row.changes.lines,
                ", ".join(dict.fromkeys(str(flag.kind) for flag in row.flags)) or "-",
                _machine.graded_why(row, quiet=quiet),
            )
            for row in rows
        ],
    )
    counted = Counter(str(row.verdict.kind) for row in rows)
    here().say(", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())))
