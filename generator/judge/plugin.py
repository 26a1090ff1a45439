"""The pytest plugin of a trial: the fixtures, the manifest, and what is counted."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import torch

from ..records import Outcome
from .ledger import Finding, Ledger
from .remote_errors import CallTimedOut, WorkerFault, came_over_the_wire
from .session import Session
from .subject import Subject
from .tests_text import TestsPlugin, TestsText, explain


class PromisesPlugin(TestsPlugin):
    """Runs one module of promises against one subject, in the order of the file.

    After the run `problem` says what is wrong on our side, if anything is.
    """

    def __init__(
        self,
        text: str,
        promises: Sequence[str],
        session: Session,
        subject: Subject,
        *,
        seed: int,
        hasty: bool,
        begun: Callable[[str], None],
        ended: Callable[[Finding], None],
    ) -> None:
        super().__init__(text)
        self.ledger = Ledger(promises)
        self._promises = set(promises)
        self._session = session
        self._subject = subject
        self._seed = seed
        self._hasty = hasty
        self._begun = begun
        self._ended = ended

    # --- the two fixtures

    @pytest.fixture(name="subject")
    def _subject_fixture(self) -> Subject:
        return self._subject

    @pytest.fixture(name="seed")
    def _seed_fixture(self, request: pytest.FixtureRequest) -> int:
        return drawn_seed(self._seed, request.node.name)

    # --- collection: that of our text, which has to be what the manifest says

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        found = {_promise(item) for item in items}
        if found != self._promises and not self.problem:
            self.problem = _mismatch(self._promises - found, found - self._promises)
        if self.problem:
            items.clear()

    # --- the run

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if self._session.fault is not None:
            return True  # nothing can be asked any more: the promise is not reached
        if self._hasty and self.ledger.has_broken():
            return True
        self._begun(_promise(item))
        return None

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Make what a test draws without a generator of its own repeatable too."""
        seed = drawn_seed(self._seed, item.name)
        random.seed(seed)
        np.random.seed(seed)
        # The CPU's generator alone: `torch.manual_seed` walks the stack for every other device.
        torch.default_generator.manual_seed(seed)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Iterator[None]:
        report: pytest.TestReport = yield  # type: ignore[assignment]
        self._note(item, report, call.excinfo.value if call.excinfo else None)
        return report  # type: ignore[return-value]

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> bool:
        self.problem = self.problem or f"pytest failed: {explain(excinfo.value)}"
        return True

    def _note(
        self, item: pytest.Item, report: pytest.TestReport, error: BaseException | None
    ) -> None:
        promise = _promise(item)
        if report.passed and not hasattr(report, "wasxfail"):
            self.ledger.passed(promise, item.nodeid, report.when)
        elif error is None or not report.failed:
            self.ledger.failed(promise, item.nodeid, Outcome.WRONG)
            self.problem = self.problem or f"{promise} is skipped or marked xfail: it must be run"
        else:
            outcome = Outcome.RAISED if came_over_the_wire(error) else Outcome.WRONG
            self.ledger.failed(promise, item.nodeid, outcome, explain(error))
            if isinstance(error, pytest.FixtureLookupError):
                self.problem = self.problem or f"{promise} wants a fixture that there is not"
        if report.when == "teardown":
            self._note_fault(promise, item)
            self._ended(self.ledger.finding(promise))

    def _note_fault(self, promise: str, item: pytest.Item) -> None:
        """A fault breaks the promise it met, even if the test swallowed it."""
        fault = self._session.fault
        if fault is not None:
            self.ledger.ended(promise, item.nodeid, outcome_of(fault), str(fault))


def outcome_of(fault: WorkerFault) -> Outcome:
    """Return what a fault makes of the promise it met."""
    return Outcome.TIMED_OUT if isinstance(fault, CallTimedOut) else Outcome.DIED


def drawn_seed(seed: int, test: str) -> int:
    """Draw the seed of one test from the seed of the run."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{test}".encode()).digest()[:4], "little")


def _promise(item: pytest.Item) -> str:
    """Return the name of the function; of anything but a plain function, a name no promise has."""
    if isinstance(item, pytest.Function) and isinstance(item.parent, TestsText):
        return item.originalname
    return item.nodeid


def _mismatch(missing: set[str], unexpected: set[str]) -> str:
    parts = []
    if missing:
        parts.append(f"not collected: {', '.join(sorted(missing))}")
    if unexpected:
        parts.append(f"not in the manifest: {', '.join(sorted(unexpected))}")
    return f"the tests and their manifest differ ({'; '.join(parts)})"
