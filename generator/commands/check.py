"""`halfhour check`: which promises does the candidate's file keep?"""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from .. import store
from ..console import here
from ..errors import EnvironmentFault, InvalidSubmission
from ..records import (
    Answer,
    Outcome,
    PromiseResult,
    Puzzle,
    Trial,
    Verdict,
    VerdictKind,
)
from ..session import Hunt, Session
from . import _machine
from ._common import (
    Verb,
    clock,
    command_for,
    device_option,
    folder_argument,
    json_option,
    meant,
    read_puzzle,
    tell_about,
)

_EXIT_CODES = {
    VerdictKind.FIXED: 0,
    VerdictKind.NOT_FIXED: 1,
    VerdictKind.INVALID: 3,
    VerdictKind.ENVIRONMENT: 4,
}


@click.command(cls=Verb)
@folder_argument
@device_option(default="auto")
@click.option("--quiet-promises", is_flag=True, help="Do not say which promises are broken.")
@json_option
def check(folder: Path | None, device: str, quiet_promises: bool) -> int:
    """Judge your file with the hidden tests.

    Exits with 0 fixed, 1 not fixed, 3 cannot be judged, 4 the machine's fault.
    """
    folder = meant(folder, open_only=True)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    log = Session(folder, puzzle)
    log.ensure_started()
    verdict = _judged(folder, puzzle, answer, device)
    if verdict.kind is not VerdictKind.ENVIRONMENT:
        log.checked(verdict)
    worse = _regressed(verdict, puzzle, answer, device)
    if here().as_json:
        here().json(_as_json(verdict, puzzle, answer, log.hunt, worse, quiet=quiet_promises))
    else:
        _print(verdict, worse, quiet=quiet_promises)
    _say_what_next(verdict, folder, log.hunt)
    tell_about(log)
    return _EXIT_CODES[verdict.kind]


def _regressed(verdict: Verdict, puzzle: Puzzle, answer: Answer, device: str) -> set[str]:
    """Return the promises that are broken now and that the file as handed out keeps.

    What no certificate says, because it depends on what is drawn, is tried under the same seed.
    """
    proof = answer.certificate
    planted = {*proof.broken, *proof.unsteady}.union(*(bug.broken for bug in answer.bugs))
    suspects = {r.promise.name for r in _broken(verdict)} - planted
    if not suspects:
        return suspects
    before = _machine.judge(_trial(puzzle, answer, puzzle.source, verdict.seed), device=device)
    return suspects & {result.promise.name for result in before.results if result.kept}


def _trial(puzzle: Puzzle, answer: Answer, source: str, seed: int) -> Trial:
    return Trial(
        name=puzzle.subject,
        source=source,
        tests=answer.hidden_tests,
        promises=answer.promises,
        public_names=answer.public_names,
        seed=seed,
    )


def _judged(folder: Path, puzzle: Puzzle, answer: Answer, device: str) -> Verdict:
    try:
        source = _machine.read_submission(folder / puzzle.file_name)
        trial = _trial(puzzle, answer, source, secrets.randbits(48))
        return _machine.judge(trial, device=device)
    except (InvalidSubmission, EnvironmentFault) as error:
        if here().debug:
            here().trace()
        invalid = isinstance(error, InvalidSubmission)
        kind = VerdictKind.INVALID if invalid else VerdictKind.ENVIRONMENT
        return Verdict(kind, str(error), device=device)


def _broken(verdict: Verdict) -> list[PromiseResult]:
    """Return what was tried and failed; a promise that was not reached says nothing."""
    return [r for r in verdict.results if not r.kept and r.outcome is not Outcome.NOT_REACHED]


def _kept(verdict: Verdict) -> int:
    return sum(result.kept for result in verdict.results)


def _print(verdict: Verdict, worse: set[str], *, quiet: bool) -> None:
    console = here()
    match verdict.kind:
        case VerdictKind.FIXED:
            sentence = f"all {len(verdict.results)} promises are kept"
            console.out(f"{click.style('fixed', fg='green', bold=True)}: {sentence}")
        case VerdictKind.NOT_FIXED:
            sentence = f"{_kept(verdict)} of {len(verdict.results)} promises are kept"
            console.out(f"{click.style('not fixed', fg='red', bold=True)}: {sentence}")
            if not quiet:
                _print_broken(verdict, worse)
        case VerdictKind.INVALID:
            console.out(f"{click.style('invalid', fg='yellow', bold=True)}: {verdict.reason}")
        case VerdictKind.ENVIRONMENT:
            name = click.style("environment", fg="yellow", bold=True)
            console.out(f"{name}: {verdict.reason} (this says nothing about your file)")


def _print_broken(verdict: Verdict, worse: set[str]) -> None:
    for result in _broken(verdict):
        mark = "  (kept when you started)" if result.promise.name in worse else ""
        here().out(f"  {result.promise.name}{mark}")
        here().out(f"      {result.promise.text}")
    unreached = sum(result.outcome is Outcome.NOT_REACHED for result in verdict.results)
    if unreached:
        here().out(f"  {unreached} more were not reached: {verdict.reason}")


def _as_json(
    verdict: Verdict, puzzle: Puzzle, answer: Answer, hunt: Hunt, worse: set[str], *, quiet: bool
) -> dict[str, object]:
    promises = [
        {"name": r.promise.name, "text": r.promise.text, "kept": r.kept} for r in verdict.results
    ]
    return {
        "puzzle": puzzle.id,
        "subject": puzzle.subject,
        "verdict": verdict.kind,
        "reason": verdict.reason,
        "regressed": bool(worse),
        "kept": _kept(verdict),
        "of": len(answer.promises),
        "promises": [] if quiet else promises,
        "device": verdict.device,
        "rung": verdict.rung,
        "seconds": round(verdict.seconds, 3),
        "late": hunt.late,
    }


def _say_what_next(verdict: Verdict, folder: Path, hunt: Hunt) -> None:
    console = here()
    if verdict.results:
        where = f"on {verdict.device}, protection {verdict.rung}"
        console.say(f"judged in {verdict.seconds:.1f} s {where}")
    match verdict.kind:
        case VerdictKind.FIXED:
            console.say(f"{clock(hunt)}; what it was: {command_for('reveal', folder)}")
        case VerdictKind.NOT_FIXED:
            console.say(f"{clock(hunt)}; a hint: {command_for('hint', folder)}")
        case VerdictKind.INVALID:
            console.say(f"{clock(hunt)}; start over: {command_for('reset', folder)}")
        case VerdictKind.ENVIRONMENT:
            console.say("what to do: halfhour doctor")
