"""The process in which demonstrations are found: the screen's, with one request more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import torch

from ..screen import process as screen_process
from ..screen.items import Item, Suite
from ..screen.process import PATIENCE_S, Json, Prepared, in_a_child
from ..screen.subject import load
from .program import Program, with_tables
from .recording import Log, Recording
from .running import Beside, How, Shown, system_draws
from .shrinking import shrink
from .text import script

_CANDIDATES = 2
"""Promises whose tests are cut down, those that show the bug with the fewest calls first."""
_BEGUN = 8
"""Promises that are looked through for such."""
_STEPS = 240
"""Programs tried while one is cut down."""
_LOOKED_AT = 24
"""Tests that are looked through for a first difference."""
_MOST_MOVED = 12
"""Calls of a test of which each is made where new tensors go to another device."""
_MOST_HUNG = 3
"""Tests that hang before the search ends: each costs a second."""
MOST_LINES = 24
_MOST_CHARACTERS = 1600
_SHORT_LINES = 8
"""A script of so few lines ends the search."""


def main() -> None:
    """Serve requests until the caller is gone."""
    screen_process.main({"demonstrate": _demonstrate})


def _demonstrate(prepared: Prepared, request: Json) -> Json:
    """Look for a script that prints different things beside the correct file and the text."""
    broken, seeds = request["broken"], request["seeds"]
    return in_a_child(
        lambda text: _found(prepared, text, broken, seeds),
        [request["text"]],
        patience=PATIENCE_S,
    )[0]


def _found(prepared: Prepared, text: str, broken: Sequence[str], seeds: Sequence[int]) -> Json:
    name = prepared.name
    # The same on a CPU, and it does not note for every GPU to come who called it.
    torch.manual_seed = torch.default_generator.manual_seed
    programs = _recorded(prepared, broken, seeds[0]).programs()[:_LOOKED_AT]
    beside = Beside(name, prepared.source, text)
    best = _best(beside, _begun(beside, programs)) or _best(beside, _elsewhere(beside, programs))
    if best is None:
        return {"script": "", "tried": beside.steps}
    shown, promise = best
    return {
        "script": shown.text,
        "correct": shown.correct,
        "buggy": shown.buggy,
        "promise": promise,
        "tried": beside.steps,
    }


def _begun(beside: Beside, programs: Sequence[tuple[Item, Program]]) -> list[tuple[str, Program]]:
    """Return the beginnings up to a first difference, each with its promise, the shortest first."""
    begun: list[tuple[str, Program]] = []
    for item, program in programs:
        plainer = with_tables(program)
        for each in [program] if plainer == program else [plainer, program]:
            if beside.hung >= _MOST_HUNG:
                break
            beginning = beside.walk(each)
            if beginning is not None:
                begun.append((item.promise, beginning))
    return sorted(begun, key=lambda each: len(each[1].calls))


def _elsewhere(
    beside: Beside, programs: Sequence[tuple[Item, Program]]
) -> list[tuple[str, Program]]:
    """Return those beginnings that differ where new tensors go to another device."""
    if beside.hung >= _MOST_HUNG:
        return []
    begun: list[tuple[str, Program]] = []
    for item, program in programs:
        for length in range(1, min(len(program.calls), _MOST_MOVED) + 1):
            moved = replace(program, calls=program.calls[:length], elsewhere=True)
            if beside.show(script(beside.name, moved)) is not None:
                begun.append((item.promise, moved))
                break
    return begun


def _best(beside: Beside, begun: Sequence[tuple[str, Program]]) -> tuple[Shown, str] | None:
    """Return the script that asks least of its reader, with its promise."""
    best: tuple[Shown, str] | None = None
    shrunk = (
        (promise, shrink(beside, beginning, steps=_STEPS)) for promise, beginning in begun[:_BEGUN]
    )
    for promise, found in islice((each for each in shrunk if each[1]), _CANDIDATES):
        if found is None or not _short(found[1]) or not beside.holds(found[1]):
            continue
        if best is None or found[1].size < best[0].size:
            best = (found[1], promise)
        if best[0].how is How.VALUE and best[0].lines <= _SHORT_LINES:
            break
    return best


def _short(shown: Shown) -> bool:
    return shown.lines <= MOST_LINES and len(shown.text) <= _MOST_CHARACTERS


def _recorded(prepared: Prepared, broken: Sequence[str], seed: int) -> Log:
    """Run the tests of these promises on the correct file, however long they take."""
    log = Log(prepared.name)
    hidden = Suite(prepared.name, prepared.hidden.code, prepared.hidden.items, {})
    module = load(prepared.name, prepared.compiled(prepared.source))
    subject = Recording(module, prepared.source, log)
    others = {item.name for item in hidden.items if item.promise not in broken}
    with system_draws(0):
        hidden.run(subject, seed=seed, around=log.begin_item, spared=others)
    return log
