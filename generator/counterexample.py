"""Try a test of the candidate's: it must fail beside the file with the bug and pass beside the
original.

The test is the candidate's own code on their own machine, so nothing confines it. Of its run beside
the original nothing is kept but which tests passed: no output, no path, no line of the file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from . import files
from .errors import UsageError
from .records import Answer, Puzzle

LIMIT_S = 120.0
"""For each of the two runs, torch's import included."""

_MOST_BYTES = 256 << 10
_MOST_REPORT = 16 << 20
_FAILED = 1
_NOT_IMPORTED = 2
_NO_TESTS = 5


@dataclass(frozen=True, slots=True)
class Tried:
    """How the tests fared beside one file."""

    passed: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    cut_short: str = ""
    """Why it did not come to its end, in words; empty where it did."""


@dataclass(frozen=True, slots=True)
class Counterexample:
    """What a test says of the two files."""

    buggy: Tried
    original: Tried

    @property
    def fails_on_buggy(self) -> bool:
        return bool(self.buggy.failed)

    @property
    def passes_on_original(self) -> bool:
        found = self.original
        return bool(found.passed) and not found.failed and not found.cut_short

    @property
    def holds(self) -> bool:
        return self.fails_on_buggy and self.passes_on_original


def prove(
    puzzle: Puzzle, answer: Answer, test: Path, *, limit_s: float = LIMIT_S
) -> Counterexample:
    """Run the test file beside the file as handed out, then beside the original.

    Raises UsageError where it is missing, holds no tests or does not import.
    """
    text = _read(test)
    if test.name == puzzle.file_name:
        raise UsageError(f"{test} has the name of the file it is to test; give it another")
    buggy, why = _run(puzzle.file_name, puzzle.source, test.name, text, limit_s)
    if why:
        raise UsageError(f"{test} {why}")
    original, why = _run(puzzle.file_name, answer.original, test.name, text, limit_s)
    # What an import raised there could tell of the original.
    return Counterexample(buggy, Tried(cut_short="it does not import") if why else original)


def _read(test: Path) -> bytes:
    try:
        return files.read_at_most(test, _MOST_BYTES)
    except FileNotFoundError as error:
        raise UsageError(f"there is no test file {test}") from error
    except OSError as error:
        raise UsageError(f"{test} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{test} is {error}") from error


def _run(
    file_name: str, source: str, test_name: str, test: bytes, limit_s: float
) -> tuple[Tried, str]:
    """Return how the tests fared beside that file, and why there are none, if so."""
    with tempfile.TemporaryDirectory(prefix="halfhour-", ignore_cleanup_errors=True) as place:
        desk, report = Path(place, "desk"), Path(place, "report.xml")
        desk.mkdir()
        (desk / file_name).write_text(source, encoding="utf-8", newline="")
        (desk / test_name).write_bytes(test)
        code = _pytest(desk, test_name, report, limit_s)
        cases = _cases(report)
    if code is None:
        return Tried(cut_short=f"it did not finish within {limit_s:.0f} seconds"), ""
    if code == _NO_TESTS:
        return Tried(), "holds no tests: pytest found no function test_*"
    if code == _NOT_IMPORTED:
        return Tried(), f"does not import{_why(cases)}"
    if code not in {0, _FAILED} or not cases:
        return Tried(cut_short="it ended before its tests did"), ""
    passed = tuple(
        _name(case) for case in cases if not _ended_as(case, "failure", "error", "skipped")
    )
    failed = (_name(case) for case in cases if _ended_as(case, "failure", "error"))
    return Tried(passed, tuple(dict.fromkeys(failed))), ""


def _pytest(desk: Path, test_name: str, report: Path, limit_s: float) -> int | None:
    """Return the exit code of pytest in that folder; None where it took too long."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"),
        *("-c", os.devnull, "--rootdir", str(desk), f"--junitxml={report}", f"./{test_name}"),
    ]
    dropped = {"PYTEST_ADDOPTS", "PYTEST_PLUGINS"}
    environment = {name: text for name, text in os.environ.items() if name not in dropped}
    process = subprocess.Popen(
        command,
        cwd=desk,
        # What is installed beside pytest is no part of the proof, and loading it is slow.
        env={
            **environment,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Whatever the test started goes with it, so that the folder can go too.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _cases(report: Path) -> list[ElementTree.Element]:
    try:
        data = files.read_at_most(report, _MOST_REPORT)
        return list(ElementTree.fromstring(data).iter("testcase"))
    except (OSError, ValueError, ElementTree.ParseError):
        return []


def _name(case: ElementTree.Element) -> str:
    return case.get("name", "")


def _ended_as(case: ElementTree.Element, *ends: str) -> bool:
    return any(child.tag in ends for child in case)


def _why(cases: list[ElementTree.Element]) -> str:
    """Return the last words of what was raised, for a sentence; empty where nothing is told."""
    for end in (child for case in cases for child in case):
        raised = [line[1:] for line in (end.text or "").split("\n") if line.startswith("E ")]
        if raised:
            return f": {' '.join(raised[-1].split())}"
    return ""
