"""`halfhour grade`: what is other people's work worth?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .. import store
from ..console import here
from ..records import VerdictKind
from . import _machine
from ._common import Verb, device_option, json_option, read_puzzle

if TYPE_CHECKING:
    from ..grade import Graded

_PATH = click.Path(path_type=Path)


@click.command(cls=Verb)
@click.argument("puzzle", type=_PATH)
@click.argument("submissions", nargs=-1, required=True, type=_PATH)
@device_option(default="cpu")
@click.option(
    "--accept-risk",
    is_flag=True,
    help="Run other people's files though this machine cannot keep them to themselves.",
)
@click.option("--quiet-promises", is_flag=True, help="Do not say which promises are broken.")
@json_option
def grade(
    puzzle: Path,
    submissions: tuple[Path, ...],
    device: str,
    accept_risk: bool,
    quiet_promises: bool,
) -> int:
    """Judge SUBMISSIONS of people you need not trust, for one PUZZLE.

    PUZZLE is its folder. Each file is judged twice, under the strongest protection there is. Exits
    with 4 if a file could not be tried, else with 0: the verdicts are what is printed.
    """
    card, answer = read_puzzle(puzzle), store.read_answer(puzzle)
    found: list[Graded] = []
    with here().progress() as report:
        for graded in _machine.grade(
            answer, card.subject, submissions, device=device, accept_risk=accept_risk
        ):
            found.append(graded)
            report(f"{len(found)} of {len(submissions)}: {graded.file.name} {graded.verdict.kind}")
    if here().as_json:
        rows = [_as_json(each, quiet=quiet_promises) for each in found]
        here().json({"puzzle": card.id, "subject": card.subject, "submissions": rows})
    else:
        _print(found, quiet=quiet_promises)
    missed = any(each.verdict.kind is VerdictKind.ENVIRONMENT for each in found)
    return 4 if missed else 0


def _print(found: Sequence[Graded], *, quiet: bool) -> None:
    here().table(
        ("submission", "verdict", "kept", "why"),
        [(str(g.file), str(g.verdict.kind), _kept(g), _why(g, quiet=quiet)) for g in found],
    )
    counted = Counter(str(graded.verdict.kind) for graded in found)
    here().say(", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())))


def _kept(graded: Graded) -> str:
    results = graded.verdict.results
    return f"{sum(r.kept for r in results)}/{len(results)}" if results else "-"


def _why(graded: Graded, *, quiet: bool) -> str:
    if graded.verdict.kind is VerdictKind.NOT_FIXED and not quiet:
        return ", ".join(graded.verdict.broken)
    return graded.verdict.reason


def _as_json(graded: Graded, *, quiet: bool) -> dict[str, object]:
    verdict = graded.verdict
    return {
        "file": str(graded.file),
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "kept": sum(r.kept for r in verdict.results),
        "of": len(verdict.results),
        "broken": [] if quiet else list(verdict.broken),
        "device": verdict.device,
        "rung": verdict.rung,
        "seconds": round(verdict.seconds, 3),
    }
