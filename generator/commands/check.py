"""`halfhour check`: which promises does the candidate's file keep?"""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from .. import messages, store
from ..console import here
from ..errors import EnvironmentFault, InvalidSubmission
from ..messages import tr, tr_n
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
    with here().waiting(lambda: tr("judging; {clock}", clock=clock(log.hunt))):
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
    reason, everything = verdict.reason, len(verdict.results)
    match verdict.kind:
        case VerdictKind.FIXED:
            colour, text = "green", tr("all {all} promises are kept", all=everything)
        case VerdictKind.NOT_FIXED:
            kept = _kept(verdict)
            colour, text = "red", tr("{kept} of {all} promises are kept", kept=kept, all=everything)
        case VerdictKind.INVALID:
            colour, text = "yellow", reason
        case VerdictKind.ENVIRONMENT:
            text = tr("{reason} (this says nothing about your file)", reason=reason)
            colour = "yellow"
    name = click.style(messages.verdict(verdict.kind), fg=colour, bold=True)
    here().out(f"{name}: {text}")
    if verdict.kind is VerdictKind.NOT_FIXED and not quiet:
        _print_broken(verdict, worse)


def _print_broken(verdict: Verdict, worse: set[str]) -> None:
    for result in _broken(verdict):
        mark = tr("(kept when you started)") if result.promise.name in worse else ""
        here().out(f"  {result.promise.name}  {mark}".rstrip())
        here().prose(result.promise.text, indent=6)
    unreached = sum(result.outcome is Outcome.NOT_REACHED for result in verdict.results)
    if unreached:
        text = tr_n(
            "{count} more was not reached: {reason}",
            "{count} more were not reached: {reason}",
            unreached,
            reason=verdict.reason,
        )
        here().out(f"  {text}")


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
        console.say(
            tr(
                "judged in {seconds} s on {device}, protection {rung}",
                seconds=f"{verdict.seconds:.1f}",
                device=verdict.device,
                rung=verdict.rung,
            )
        )
    now = clock(hunt)
    match verdict.kind:
        case VerdictKind.FIXED:
            command = command_for("reveal", folder)
            console.say(tr("{clock}; what it was: {command}", clock=now, command=command))
        case VerdictKind.NOT_FIXED:
            command = command_for("hint", folder)
            console.say(tr("{clock}; a hint: {command}", clock=now, command=command))
        case VerdictKind.INVALID:
            command = command_for("reset", folder)
            console.say(tr("{clock}; start over: {command}", clock=now, command=command))
        case VerdictKind.ENVIRONMENT:
            console.say(tr("what to do: {command}", command="halfhour doctor"))
