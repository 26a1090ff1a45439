"""A mutator's examples are its tests."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators._api import Mutator, MutatorError
from halfhour.mutators._sites import find_sites


def check_examples(mutator: Mutator) -> list[str]:
    """Return what is wrong with a mutator's examples, a sentence each; nothing if all hold.

    Each snippet of `mutates` yields exactly its mutants, in order, and the same ones again; each
    of `spares` yields none.
    """
    return list(_problems(mutator))


def _problems(mutator: Mutator) -> Iterator[str]:
    here = f"{mutator.where}: `{mutator.name}`"
    for example in mutator.mutates:
        wanted = [_snippet(mutant) for mutant in example.mutants]
        if not wanted:
            yield f"{here} maps an example to no mutant; put it in `spares`:\n{example.code}"
        yield from _unlike(mutator, _snippet(example.code), wanted)
    for code in mutator.spares:
        yield from _unlike(mutator, _snippet(code), [])


def _unlike(mutator: Mutator, code: str, wanted: list[str]) -> Iterator[str]:
    here = f"{mutator.where}: `{mutator.name}`"
    try:
        found, again = _mutants(mutator, code), _mutants(mutator, code)
    except cst.ParserSyntaxError:
        yield f"{here} has an example that is not Python:\n{code}"
        return
    except MutatorError as error:
        yield f"{error}:\n{code}"
        return
    if found != again:
        yield f"{here} gives other mutants the second time:\n{code}"
    if found != wanted:
        yield (
            f"{here} makes of\n{code}these mutants:\n{_listed(found)}"
            f"and not these:\n{_listed(wanted)}"
        )


def _mutants(mutator: Mutator, code: str) -> list[str]:
    return [site.apply(code) for site in find_sites(code, [mutator], name="its example")]


def _snippet(code: str) -> str:
    return textwrap.dedent(code).strip("\n") + "\n"


def _listed(mutants: list[str]) -> str:
    return "".join(f"{mutant}---\n" for mutant in mutants) or "(none)\n"
