"""`accuse` and `prove`: say where the bug is, and show that it is one. Neither needs torch."""

from __future__ import annotations

from pathlib import Path

import click

from .. import counterexample, diagnosis, store
from ..console import here
from ..counterexample import Counterexample, Tried
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
        end = "" if hit is None else f" ({'hit' if hit else 'missed'})"
        here().out(f"accused line {found.line}{end}: {found.text}")
    if not found.over:
        counted = f"{found.counted} counted" if found.counted else "free"
        here().say(f"accusation {found.number}: {counted}")
    if hit is None:
        here().say(f"whether it hit is said when the hunt is over: {command_for('check', folder)}")
    tell_about(log)
    return 0


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
    verdict = "proven" if found.holds else "not proven"
    here().out(click.style(verdict, fg="green" if found.holds else "red", bold=True))
    buggy, original = found.buggy, found.original
    if found.fails_on_buggy:
        here().out(f"  yes  it fails on the file as handed out: {_names(buggy.failed)}")
    else:
        why = buggy.cut_short or "every test passes or is skipped"
        here().out(f"  no   it does not fail on the file as handed out: {why}")
    if found.passes_on_original:
        here().out("  yes  it passes on the correct file")
    else:
        failed = f"{_names(original.failed)} failed" if original.failed else "no test passed"
        here().out(f"  no   it does not pass on the correct file: {original.cut_short or failed}")


def _names(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return plain(", ".join(names[:3])) + rest


def _as_json(tried: Tried) -> dict[str, object]:
    return {
        "passed": list(tried.passed),
        "failed": list(tried.failed),
        "cut_short": tried.cut_short or None,
    }
