"""Why a mutant is no puzzle of its own: no promise sees it, or another puzzle is the same."""

from __future__ import annotations

import types
from collections.abc import Iterable

from .certify import seeds
from .records import Certificate, Mutant, Status, Subject
from .screen import Screen, Unscreenable

_MORE_SEEDS = 4


def explain(screen: Screen, subject: Subject, mutant: Mutant) -> str:
    """Say of a mutant that keeps every promise whether it is the same program.

    Proved same (it compiles to the same code), no difference found (all that the promises call
    answers alike, under other seeds too), or different, though no promise sees it, with the call
    that shows it.
    """
    if _same_code(subject, mutant):
        return "proved same: it compiles to the same code"
    first, second = seeds(subject)
    try:
        shown = screen.difference(
            subject,
            mutant.source,
            seeds=[first, second, *(first + 1 + n for n in range(_MORE_SEEDS))],
        )
        if shown:
            return f"different, but no promise sees it: {shown}"
        run = screen.profile(subject, seed=first).lines
    except Unscreenable as error:
        return f"not examined: {error}"
    if mutant.line not in run:
        return "no difference found: no promise runs the line"
    return f"no difference found in what the promises call, under {2 + _MORE_SEEDS} seeds"


def twins(certificates: Iterable[Certificate]) -> dict[str, Certificate]:
    """Return the certified mutants that repeat another, by id, each with the one it repeats.

    Two bugs on one line that break the same promises make the same puzzle.
    """
    first: dict[tuple[str, int, tuple[str, ...]], Certificate] = {}
    found = {}
    for certificate in certificates:
        if certificate.status is not Status.CERTIFIED:
            continue
        what = (certificate.subject, certificate.line, certificate.broken)
        other = first.setdefault(what, certificate)
        if other.mutant != certificate.mutant:
            found[certificate.mutant] = other
    return found


def _same_code(subject: Subject, mutant: Mutant) -> bool:
    before, after = (
        compile(text, subject.file_name, "exec", dont_inherit=True)
        for text in (subject.source, mutant.source)
    )
    return _stripped(before) == _stripped(after)


def _stripped(code: types.CodeType) -> tuple[object, ...]:
    """Return what a code object does, without where its lines are."""
    constants = [
        _stripped(const) if isinstance(const, types.CodeType) else (type(const), const)
        for const in code.co_consts
    ]
    return (code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars)
