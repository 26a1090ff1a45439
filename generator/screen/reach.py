"""Which promises a change can reach: those that call a changed function on the correct file.

Under the same seed a promise that never calls what is changed does the same on the mutant.
"""

from __future__ import annotations

import marshal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

_NO_REFERENCES = 0
"""The version of `marshal` whose bytes tell of values alone, not of who shares them."""


Bodies = dict[str, list[bytes]]


def changed_functions(one: Bodies, two: Bodies) -> frozenset[str]:
    """Return the qualified names of the functions, or the bodies of classes and the module, that
    differ; where they stand in the file does not count."""
    return frozenset(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))


@dataclass(frozen=True, slots=True)
class Reach:
    """What the items of a suite run of the correct file, under one seed."""

    when_loaded: frozenset[str]
    calls: Mapping[str, frozenset[str] | None]
    """By item; None where a change anywhere may count."""

    def spared(self, changed: frozenset[str]) -> frozenset[str]:
        """Return the items that changes of these functions do not reach."""
        if changed & self.when_loaded:
            return frozenset()
        return frozenset(
            name
            for name, called in self.calls.items()
            if called is not None and not called & changed
        )


@contextmanager
def calls(file_name: str) -> Iterator[set[str]]:
    """Collect the qualified names of what runs in one file meanwhile."""
    called: set[str] = set()

    def note(frame: types.FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename == file_name:
            called.add(frame.f_code.co_qualname)

    _profile(note)
    try:
        yield called
    finally:
        _profile(None)


def _profile(note: Callable[[types.FrameType, str, object], None] | None) -> None:
    threading.setprofile(note)
    sys.setprofile(note)


def bodies(code: types.CodeType) -> Bodies:
    """Return what each name's code does; several may share a name, as a getter and its setter."""
    found: Bodies = {}
    waiting = [code]
    while waiting:
        here = waiting.pop()
        found.setdefault(here.co_qualname, []).append(_meaning(here))
        waiting += [const for const in here.co_consts if isinstance(const, types.CodeType)]
    return found


def _meaning(code: types.CodeType) -> bytes:
    """Return all of a code but its lines and the bodies within."""
    constants: list[Any] = [
        ("code", const.co_qualname) if isinstance(const, types.CodeType) else const
        for const in code.co_consts
    ]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    parts = (code.co_code, code.co_exceptiontable, constants, names, counts)
    return marshal.dumps(parts, _NO_REFERENCES)
