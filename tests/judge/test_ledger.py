"""A promise is kept only if every item of it passed every phase."""

from __future__ import annotations

from halfhour.generator.judge.ledger import Finding, Ledger
from halfhour.generator.records import Outcome


def pass_item(ledger: Ledger, promise: str, item: str) -> None:
    for phase in ("setup", "call", "teardown"):
        ledger.passed(promise, item, phase)


def test_a_promise_is_kept_when_all_phases_of_all_items_passed() -> None:
    ledger = Ledger(["a", "b"])
    pass_item(ledger, "a", "a[1]")
    pass_item(ledger, "a", "a[2]")
    pass_item(ledger, "b", "b")

    assert ledger.findings() == [Finding("a", Outcome.KEPT), Finding("b", Outcome.KEPT)]


def test_a_promise_without_an_item_is_not_kept() -> None:
    assert Ledger(["a"]).findings() == [Finding("a", Outcome.NOT_REACHED)]


def test_a_phase_that_is_missing_is_not_passed() -> None:
    ledger = Ledger(["a"])
    ledger.passed("a", "a", "setup")
    ledger.passed("a", "a", "teardown")

    assert ledger.finding("a").outcome is Outcome.NOT_REACHED


def test_one_broken_item_breaks_the_promise() -> None:
    ledger = Ledger(["a"])
    pass_item(ledger, "a", "a[1]")
    pass_item(ledger, "a", "a[2]")
    ledger.failed("a", "a[2]", Outcome.WRONG, "two")
    ledger.failed("a", "a[2]", Outcome.RAISED, "and its teardown")
    ledger.failed("a", "a[3]", Outcome.RAISED, "three")

    assert ledger.finding("a") == Finding("a", Outcome.WRONG, "two")


def test_the_end_of_the_worker_outweighs_what_the_test_made_of_it() -> None:
    ledger = Ledger(["a", "b"])
    pass_item(ledger, "a", "a")
    ledger.ended("a", "a", Outcome.DIED, "its process ended")

    assert ledger.findings() == [
        Finding("a", Outcome.DIED, "its process ended"),
        Finding("b", Outcome.NOT_REACHED),
    ]
