"""Run the visible tests in this process, as pytest would where the candidate stands."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_MOST_MESSAGE = 300
_PLACE = re.compile(r'([^\s"]+\.py)(?:", line |:)(\d+)')
"""How a traceback names a line, in either of its two ways."""


@dataclass
class Tally:
    """A plugin of pytest that counts, and keeps the first failure's words."""

    passed: int = 0
    failed: int = 0
    first: str = ""
    _failed_names: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once, whichever of its phases failed."""
        if report.failed and report.nodeid not in self._failed_names:
            self._failed_names.add(report.nodeid)
            self._fail(report.nodeid.split("::")[-1], report.longreprtext, last=False)
        elif report.when == "call" and report.passed:
            self.passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Count a module that does not load as one failure."""
        if report.failed:
            self._fail("the file does not load", report.longreprtext, last=True)

    def _fail(self, name: str, text: str, *, last: bool) -> None:
        self.failed += 1
        if not self.first:
            said = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
            why = (said[-1] if last else said[0]) if said else ""
            where = _where(_PLACE.findall(text))
            self.first = f"{name}{where}: {why}"[:_MOST_MESSAGE] if why else f"{name}{where}"


def _where(places: list[tuple[str, str]]) -> str:
    """Say which line of the folder was run last: a library's tells the candidate little."""
    if not places:
        return ""
    own = [(file, line) for file, line in places if (Path.cwd() / file).parent == Path.cwd()]
    file, line = (own or places)[-1]
    return f" at {Path(file).name}:{line}"


def run_tests(folder: Path, tests: str) -> dict[str, object]:
    """Return how the tests of this file fared: passed, failed, and the first failure's words.

    Configuration and plugins of the folders above have no say. Bytecode is neither read nor
    written: two saves of one length within one second look alike to it.
    """
    sys.dont_write_bytecode = True
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="halfhour-") as empty:
        sys.pycache_prefix = empty
        os.chdir(folder)
        options = ["-q", "--tb=short", "-p", "no:cacheprovider", "--noconftest"]
        options += ["-c", os.devnull, f"--rootdir={folder}"]
        pytest.main([*options, tests], plugins=[tally])
    return {"passed": tally.passed, "failed": tally.failed, "first": tally.first}
