"""The ladder of protection: which layers a worker gets here, and what that promises.

    L3   bubblewrap, Landlock, seccomp, limits      Linux with bubblewrap
    L2   namespaces, Landlock, seccomp, limits      Linux with user namespaces
    L1   Landlock, seccomp, limits                  Linux since 5.13; containers
    L0   seccomp, limits                            older Linux
    M1   Seatbelt, limits                           macOS
    M0   limits                                     macOS without sandbox-exec
    P    another process, nothing more

A rung is what a child was really refused, not what the machine claims to have. A layer that is
part of a rung and fails ends the try of that rung; the note says why a lower one was taken.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from ..errors import JudgeError
from . import bubblewrap, seatbelt, tryout
from .child import CLEAN_ENVIRONMENT
from .worker.confine import Layer, Limits, Policy, readable_trees
from .worker.confine.attempts import Deed, deeds

PRACTICE = Limits()
THREADS = 64
"""For a worker whose threads are counted apart from what else the user runs."""

_VERDICT = "The submission cannot change the verdict except by returning correct values"
_LINUX = "as far as the Linux kernel enforces it"


class Rung(StrEnum):
    """How a worker is confined. The value is what a verdict records."""

    L3 = "L3"
    L2 = "L2"
    L1 = "L1"
    L0 = "L0"
    M1 = "M1"
    M0 = "M0"
    P = "process"

    @property
    def label(self) -> str:
        return _WORDS[self][0]

    @property
    def sentence(self) -> str:
        """What the rung promises and what it does not."""
        return _WORDS[self][1]


_WORDS = {
    Rung.L3: (
        "strict",
        f"{_VERDICT}, and cannot read or see the tests, your files, other processes or the "
        f"network, {_LINUX}; a flaw of the kernel is not covered.",
    ),
    Rung.L2: (
        "confined",
        f"{_VERDICT}, and cannot read the tests, the network or your files, {_LINUX}; it can see "
        "which files exist, and a flaw of the kernel is not covered.",
    ),
    Rung.L1: (
        "confined",
        f"{_VERDICT}, and cannot read the tests, the network or your files, {_LINUX}; it can see "
        "which files exist, shares the host's namespaces, and a flaw of the kernel is not covered.",
    ),
    Rung.L0: (
        "process separation and no network",
        "The submission cannot reach the network, start processes or write files, "
        f"{_LINUX}; it can read the tests and every file that you can read, and perhaps this "
        "program's memory.",
    ),
    Rung.M1: (
        "confined (macOS, untested)",
        f"{_VERDICT}, and cannot read the tests, the network or your files, as far as macOS's "
        "deprecated sandbox-exec enforces a profile that was written without a Mac at hand; its "
        "memory is not limited.",
    ),
    Rung.M0: (
        "process separation only",
        "A pass means that the hidden tests accepted returned values, and tricks in Python cannot "
        "make one; the submission can do whatever you can do with your files and the network, "
        "within a limit on time.",
    ),
    Rung.P: (
        "process separation only",
        "A pass means that the hidden tests accepted returned values, and tricks in Python cannot "
        "make one; the submission can do whatever you can do with your files, your processes and "
        "the network.",
    ),
}

_LADDERS = {
    "linux": (Rung.L3, Rung.L2, Rung.L1, Rung.L0, Rung.P),
    "darwin": (Rung.M1, Rung.M0, Rung.P),
}
_LAYERS: Mapping[Rung, tuple[Layer, ...]] = {
    Rung.L3: (Layer.LIMITS, Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP),
    Rung.L2: tuple(Layer),
    Rung.L1: (Layer.LIMITS, Layer.PRIVILEGES, Layer.LANDLOCK, Layer.SECCOMP),
    Rung.L0: (Layer.LIMITS, Layer.PRIVILEGES, Layer.SECCOMP),
    Rung.M1: (Layer.LIMITS,),
    Rung.M0: (Layer.LIMITS,),
    Rung.P: (),
}
LAUNCHED: Mapping[Rung, str] = {Rung.L3: "bubblewrap", Rung.M1: "seatbelt"}
"""The rungs that need another program to start the worker, and the program."""

_READS = frozenset({Deed.SEE_FILE, Deed.READ_FILE, Deed.READ_ENVIRONMENT, Deed.READ_MEMORY})
_MAY_BE_DONE: Mapping[Rung, frozenset[Deed]] = {
    Rung.L3: frozenset(),
    Rung.L2: frozenset({Deed.SEE_FILE}),
    Rung.L1: frozenset({Deed.SEE_FILE}),
    Rung.L0: _READS,
    Rung.M1: frozenset({Deed.SEE_FILE, Deed.LOCK_FILE, Deed.SHARE_MEMORY}),
    Rung.M0: frozenset(Deed),
    Rung.P: frozenset(Deed),
}


@dataclass(frozen=True, slots=True)
class Protection:
    """The rung that this machine offers, and what a child was refused and allowed on it."""

    rung: Rung
    layers: tuple[str, ...]
    refused: tuple[str, ...]
    allowed: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Why each stronger rung was not taken, one sentence each."""


def probe(*, ladder: Sequence[Rung] = ()) -> Protection:
    """Try the rungs of this platform in children, the strongest first; return the first that holds.

    Takes some seconds, most of them to import torch in a child: honest work has to succeed on the
    rung as surely as the attempts have to fail. `ladder` replaces the platform's own.
    """
    notes: list[str] = []
    rungs = ladder or _LADDERS.get(sys.platform, (Rung.P,))
    for rung in rungs:
        outcome = _try(rung)
        fault = _shortfall(rung, outcome)
        if not fault:
            return _protection(rung, outcome, notes)
        notes.append(f"{rung}: {fault}.")
    raise JudgeError(f"no worker runs on this machine: {' '.join(notes)}")


def policy_for(rung: Rung, *, limits: Limits = PRACTICE) -> Policy:
    """Return what a worker on `rung` has to apply to itself."""
    apart = rung in (Rung.L3, Rung.L2)
    return Policy(layers=_LAYERS[rung], limits=replace(limits, threads=THREADS if apart else None))


def worker_command(
    rung: Rung,
    worker: Sequence[str],
    *,
    worker_package: Path,
    environment: Mapping[str, str] = CLEAN_ENVIRONMENT,
) -> list[str]:
    """Return the arguments that start `worker` on `rung`; run them with `environment`.

    Raises JudgeError if the rung needs a program that is not installed.
    """
    match rung:
        case Rung.L3:
            bwrap = bubblewrap.find()
            if bwrap is None:
                raise JudgeError("bubblewrap is not installed")
            return bubblewrap.command(
                bwrap,
                worker,
                trees=readable_trees(),
                worker_package=worker_package,
                environment=environment,
            )
        case Rung.M1:
            return seatbelt.command(
                worker,
                trees=readable_trees(),
                worker_package=worker_package,
                environment=environment,
            )
        case _:
            return list(worker)


def _try(rung: Rung) -> tryout.Tryout:
    """Try the rung without torch, which is quick, and if it holds once more with torch."""
    launch = functools.partial(worker_command, rung, worker_package=tryout.PACKAGE)
    outcome = tryout.Tryout()
    for torch in dict.fromkeys(("", tryout.torch_folder())):
        try:
            outcome = tryout.run(
                policy_for(rung), environment=CLEAN_ENVIRONMENT, launch=launch, torch=torch
            )
        except JudgeError as error:
            return tryout.Tryout(fault=str(error))
        if _shortfall(rung, outcome):
            break
    return outcome


def _shortfall(rung: Rung, outcome: tryout.Tryout) -> str:
    """Return what keeps the rung from being used, "" if nothing does."""
    if outcome.fault:
        return outcome.fault
    done = sorted(set(outcome.done) - _MAY_BE_DONE[rung])
    missing = sorted(set(deeds()) - set(outcome.done) - set(outcome.refused))
    if done or missing:
        return f"a submission could {', '.join(done)}" if done else f"not tried: {missing}"
    return ""


def _protection(rung: Rung, outcome: tryout.Tryout, notes: Sequence[str]) -> Protection:
    launcher = (LAUNCHED[rung],) if rung in LAUNCHED else ()
    return Protection(
        rung=rung,
        layers=(*launcher, *outcome.layers),
        refused=tuple(deed for deed in deeds() if deed in outcome.refused),
        allowed=tuple(deed for deed in deeds() if deed in outcome.done),
        notes=tuple(notes),
    )
