"""`accuse` and `prove`: say where the bug is, and show that it is one. Neither needs torch."""

from __future__ import annotations

from pathlib import Path

import click

from .. import counterexample, diagnosis, store
from ..console import here
from ..counterexample import Counterexample, Tried
from ..messages import tr, tr_n
from ..past import plain
from ..session import Session
from ._common import (
    Verb,
    command_for,
    folder_argument,
    json_option,
    meant,
    read_puzzle,
    tell_about,
)


@click.command(cls=Verb)
@click.argument("line", type=click.IntRange(min=1))
@folder_argument
@click.option("--because", metavar="TEXT", default="", help="Why; kept in the log.")
@click.option("--tell", is_flag=True, help="Say at once whether it hit.")
@json_option
def accuse(line: int, folder: Path | None, because: str, tell: bool) -> int:
    """Name the line that you hold to be the bug.

    The first accusation is free, more are counted. Whether it hit is said when the hunt is over.
    """
    folder = meant(folder)
    puzzle = read_puzzle(folder)
    log = Session(folder, puzzle)
    found = diagnosis.accuse_line(folder, line, because, told=tell, log=log)
    hit = found.hit if tell or found.over else None
    if here().as_json:
        here().json(
            {
                "puzzle": puzzle.id,
                "line": found.line,
                "text": found.text,
                "accusations": found.number,
                "counted": found.counted,
                "hit": hit,
            }
        )
    else:
        here().out(_accused(found, hit))
    if not found.over and found.counted:
        number, counted = found.number, found.counted
        here().say(tr("accusation {number}: {counted} counted", number=number, counted=counted))
    elif not found.over:
        here().say(tr("accusation {number}: free", number=found.number))
    if hit is None:
        command = command_for("check", folder)
        here().say(tr("whether it hit is said when the hunt is over: {command}", command=command))
    tell_about(log)
    return 0


def _accused(found: diagnosis.Accused, hit: bool | None) -> str:
    line, text = found.line, found.text
    if hit is None:
        return tr("accused line {line}: {text}", line=line, text=text)
    if hit:
        return tr("accused line {line} (hit): {text}", line=line, text=text)
    return tr("accused line {line} (missed): {text}", line=line, text=text)


@click.command(cls=Verb)
@click.argument("test", metavar="TESTFILE", type=click.Path(path_type=Path))
@folder_argument
@json_option
def prove(test: Path, folder: Path | None) -> int:
    """Try a test of yours: it must fail on the bug and pass without it.

    The file is run by pytest, without plugins, beside the file as handed out and then beside the
    correct one. Exits with 0 where both hold, else 1.
    """
    folder = meant(folder)
    puzzle, answer = read_puzzle(folder), store.read_answer(folder)
    log = Session(folder, puzzle)
    found = counterexample.prove(puzzle, answer, test)
    log.ensure_started()
    log.record("proved", test=plain(test.name), holds=found.holds)
    if here().as_json:
        here().json(
            {
                "puzzle": puzzle.id,
                "holds": found.holds,
                "fails_on_buggy": found.fails_on_buggy,
                "passes_on_original": found.passes_on_original,
                "buggy": _as_json(found.buggy),
                "original": _as_json(found.original),
            }
        )
    else:
        _print(found)
    tell_about(log)
    return 0 if found.holds else 1


def _print(found: Counterexample) -> None:
    verdict = tr("proven") if found.holds else tr("not proven")
    here().out(click.style(verdict, fg="green" if found.holds else "red", bold=True))
    buggy, original = found.buggy, found.original
    if found.fails_on_buggy:
        names = _names(buggy.failed)
        _answered(True, tr("it fails on the file as handed out: {tests}", tests=names))
    else:
        why = buggy.cut_short or tr("every test passes or is skipped")
        _answered(False, tr("it does not fail on the file as handed out: {why}", why=why))
    if found.passes_on_original:
        _answered(True, tr("it passes on the correct file"))
    else:
        names = _names(original.failed)
        failed = tr("{tests} failed", tests=names) if names else tr("no test passed")
        why = original.cut_short or failed
        _answered(False, tr("it does not pass on the correct file: {why}", why=why))


def _answered(yes: bool, text: str) -> None:
    width = max(len(tr("yes")), len(tr("no"))) + 1
    here().out(f"  {tr('yes') if yes else tr('no'):<{width}} {text}")


def _names(names: tuple[str, ...]) -> str:
    few = plain(", ".join(names[:3]))
    if len(names) <= 3:
        return few
    return tr_n("{few} and {count} more", "{few} and {count} more", len(names) - 3, few=few)


def _as_json(tried: Tried) -> dict[str, object]:
    return {
        "passed": list(tried.passed),
        "failed": list(tried.failed),
        "cut_short": tried.cut_short or None,
    }
