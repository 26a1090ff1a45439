"""Plant mutators in a file: mutants, each one small edit of the text. Same input, same mutants."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from libcst import ParserSyntaxError

from halfhour.mutators import Mutator, MutatorError, Site, find_sites

from .errors import AuthorError, UnsoundSubject
from .records import Edit, Mutant, Subject, digest


def plant(subject: Subject, mutators: Iterable[Mutator]) -> tuple[Mutant, ...]:
    """Return all that the mutators make of a subject, mutator by mutator, in reading order.

    Raises AuthorError if a mutator misbehaves, and UnsoundSubject if the file is not Python.
    """
    return plant_text(subject.name, subject.source, mutators, kinds=subject.kinds)


def plant_text(
    name: str,
    text: str,
    mutators: Iterable[Mutator],
    *,
    kinds: Iterable[tuple[str, str]] = (),
) -> tuple[Mutant, ...]:
    """Return all that the mutators make of any text; `name` is the mutants' `subject`.

    Sites count from 0 for each mutator; two equal mutants of one mutator are one site. Where two
    mutators make the same text, the first of them has it; alone, each makes it.
    Raises as `plant` does.
    """
    try:
        sites = find_sites(text, mutators, name=name, kinds=kinds)
    except MutatorError as error:
        raise AuthorError(str(error)) from error
    except ParserSyntaxError as error:
        raise UnsoundSubject(f"{name} does not parse at line {error.raw_line}") from error
    planted = [
        _mutant(name, text, number, site)
        for _, of_one_mutator in groupby(sites, key=lambda site: site.mutator.name)
        for number, site in enumerate(of_one_mutator)
    ]
    first: dict[str, Mutant] = {}
    return tuple(mutant for mutant in planted if first.setdefault(mutant.source, mutant) is mutant)


def _mutant(name: str, text: str, number: int, site: Site) -> Mutant:
    span = f"{site.start}:{site.end}"
    return Mutant(
        id=digest(text, site.mutator.name, span, site.replacement),
        subject=name,
        mutator=site.mutator.name,
        site=number,
        edit=Edit(site.start, site.end, site.replacement),
        line=site.line,
        source=site.apply(text),
    )
