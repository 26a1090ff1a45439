"""Honest files are left alone: on every rung of this machine they may do what honest files do."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from corpus import PATIENT, Item, Judges, items, shown, text_of, trial

from halfhour.generator.judge import Rung
from halfhour.generator.records import PromiseResult, Verdict, VerdictKind

NO_WORK = ("scripted", "counts")
ONLY_ON = {"imports_lazily": (Rung.L2, Rung.L3), "imports_the_compiler": (Rung.L3,)}
"""What takes some seconds is done only where most is hidden."""
NOT_ON = {"prints_into_nothing": (Rung.L0,)}
"""Where no layer tells one file from another, none may be opened for writing."""
WORK = [item for item in items("honest") if item.name not in NO_WORK]
PLACES = {
    "alone": (Rung.P, True),
    "without Landlock": (Rung.L0, True),
    "in a process of its own": (Rung.L1, False),
    "with namespaces": (Rung.L2, True),
    "in bubblewrap": (Rung.L3, False),
}


def _is_asked(work: Item, rung: Rung) -> bool:
    return rung in ONLY_ON.get(work.name, (rung,)) and rung not in NOT_ON.get(work.name, ())


Done = tuple[Verdict, Mapping[str, PromiseResult]]


@pytest.fixture(scope="module", params=PLACES)
def done(request: pytest.FixtureRequest, judges: Judges) -> Done:
    """Let one worker do all of it."""
    rung, many = PLACES[request.param]
    promises = [
        f"def test_{work.name}(subject):\n    assert subject.{work.name}() is True\n"
        for work in WORK
        if _is_asked(work, rung)
    ]

    verdict = judges(rung, many=many)(trial(text_of("honest"), "\n".join(promises)))

    return verdict, {
        result.promise.name.removeprefix("test_"): result for result in verdict.results
    }


@pytest.mark.parametrize("work", WORK, ids=str)
def test_honest_work_is_done(done: Done, work: Item) -> None:
    verdict, results = done
    if not _is_asked(work, Rung(verdict.rung)):
        pytest.skip("it takes long, or is not offered, on this rung")
    assert results, verdict.reason
    assert results[work.name].kept, results[work.name].detail


def test_a_file_that_works_honestly_is_fixed(done: Done) -> None:
    verdict, _ = done

    assert verdict.kind is VerdictKind.FIXED, shown(verdict)
    assert verdict.seconds < PATIENT.start_s + PATIENT.verdict_s
