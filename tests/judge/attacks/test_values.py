"""Wrong values that a careless comparison takes for right ones break their promises.

All are answered by one worker: to return a value, however odd, is nothing that ends it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from corpus import Item, Judges, items, shown, text_of, trial

from halfhour.generator.judge import Rung
from halfhour.generator.records import Outcome, PromiseResult, VerdictKind

LIES = [item for item in items("values") if item.expected]

CHECKS = """
import pytest
import torch

HALVES = torch.full((2, 3), 0.5)
CHECKS = {
    "tensor": lambda value: torch.testing.assert_close(value, HALVES),
    "number": lambda value: equal(value, pytest.approx(1.5)),
    "flag": lambda value: equal(value is True, True),
    "flags": lambda value: torch.testing.assert_close(value, torch.tensor([True, False, True])),
    "six": lambda value: equal(int(value.view(torch.uint8).sum()), 6),
    "listed": lambda value: equal(value, [1, 2, 3]),
    "text": lambda value: equal(value, "stop"),
    "mapping": lambda value: equal(value, {"a": 1, "b": 2}),
    "items": lambda value: equal(list(value), [1, 2, 3]),
}
RIGHT = {
    "tensor": HALVES, "number": 1.5, "flag": True, "flags": torch.tensor([True, False, True]),
    "six": torch.full((3,), 2, dtype=torch.uint8), "listed": [1, 2, 3],
    "text": "stop", "mapping": {"a": 1, "b": 2}, "items": (1, 2, 3),
}

def equal(found, expected):
    assert found == expected
"""
HONEST = """

def test_right_values_are_kept(subject):
    for kind, check in CHECKS.items():
        check(subject.echo(RIGHT[kind]))
"""
ECHO = "\n\ndef echo(value: Any) -> Any:\n    return value\n"


@pytest.fixture(scope="module")
def results(judges: Judges, strongest: Rung) -> Mapping[str, PromiseResult]:
    promises = [
        f"def test_{lie.name}(subject):\n    CHECKS[{lie.expected!r}](subject.{lie.name}())\n"
        for lie in LIES
    ]
    tests = "\n".join([CHECKS, *promises, HONEST])

    verdict = judges(strongest)(trial(text_of("values") + ECHO, tests))

    assert verdict.kind is VerdictKind.NOT_FIXED, shown(verdict)
    return {result.promise.name.removeprefix("test_"): result for result in verdict.results}


@pytest.mark.parametrize("lie", LIES, ids=str)
def test_a_wrong_value_breaks_its_promise(results: Mapping[str, PromiseResult], lie: Item) -> None:
    assert results[lie.name].outcome in (Outcome.WRONG, Outcome.RAISED)


def test_right_values_keep_their_promises(results: Mapping[str, PromiseResult]) -> None:
    """After all the wrong ones, by the same worker."""
    assert results["right_values_are_kept"].kept, results["right_values_are_kept"].detail
