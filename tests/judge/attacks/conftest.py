"""Judges on every rung that this machine has, and the canaries that no file may find."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from corpus import ALIVE, PATIENT, RIGHT, Judges, trial

from halfhour.generator.judge import Judge, Limits, Rung
from halfhour.generator.judge.protection import rung_here
from halfhour.generator.records import Trial, Verdict, VerdictKind

CONFINED = (Rung.L1, Rung.L2, Rung.L3)
LACKING = ("the layer", "is not installed", "bwrap:")
"""How a machine says that it does not have a rung."""


@pytest.fixture(scope="session")
def canary() -> Iterator[str]:
    """A secret that is in our environment, and wherever else a test puts it."""
    secret = f"canary-{secrets.token_hex(16)}"
    os.environ["HALFHOUR_CANARY"] = secret
    yield secret
    del os.environ["HALFHOUR_CANARY"]


@pytest.fixture(scope="session")
def judges(canary: str) -> Iterator[Judges]:
    """Return what judges on a rung, the same every time; skip where there is no such rung."""
    assert canary in os.environ.values()  # before any process of a judge starts
    known: dict[tuple[object, ...], Judge] = {}
    with ExitStack() as stack:

        def get(
            rung: Rung, *, many: bool = True, limits: Limits = PATIENT
        ) -> Callable[[Trial], Verdict]:
            key = (rung, many, limits)
            if key not in known:
                known[key] = stack.enter_context(Judge(limits=limits, many=many, rung=rung))
                if many:  # so that all its processes are there before the first attack
                    known[key].verdict(trial(RIGHT, ALIVE))

            def verdict(attack: Trial) -> Verdict:
                ruled = known[key].verdict(attack)
                lacking = [word for word in LACKING if word in ruled.reason]
                if ruled.kind is VerdictKind.ENVIRONMENT and lacking:
                    pytest.skip(f"rung {rung} is not there: {ruled.reason}")
                return ruled

            return verdict

        yield get


@pytest.fixture(scope="session")
def strongest() -> Rung:
    """The rung that a worker takes by itself; skip where the kernel confines nothing."""
    rung = rung_here()
    if rung not in CONFINED:
        pytest.skip("this machine's kernel cannot confine a worker")
    return rung
