"""The trusted tests as a pytest module in memory: no file to find, none to leave behind."""

from __future__ import annotations

import linecache
import sys
import traceback
import types
from functools import lru_cache
from pathlib import Path

import pytest

from .plain import plain
from .remote_errors import remote_trace

MODULE_NAME = "halfhour_promises"
FILE_NAME = "<promises>"
_MAX_DETAIL = 4000


class TestsText(pytest.Module):
    """A module that pytest collects from a text."""

    __test__ = False
    text: str

    def _getobj(self) -> types.ModuleType:
        module = types.ModuleType(MODULE_NAME)
        sys.modules[MODULE_NAME] = module  # where dataclasses in a test look for their module
        linecache.cache[FILE_NAME] = (len(self.text), None, self.text.splitlines(True), FILE_NAME)
        exec(_compiled(self.text), module.__dict__)
        return module


class TestsPlugin:
    """A plugin that puts a text in the place of whatever file pytest was pointed at.

    After the run `problem` says what is wrong on our side, if anything is.
    """

    __test__ = False

    def __init__(self, text: str) -> None:
        self.problem = ""
        self._text = text

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "symptom(text): what a user would report")
        config.option.tbstyle = "native"  # cheap, and it never asks an argument for its repr

    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> pytest.Collector:
        return pytest.Dir.from_parent(parent, path=path)  # a package would be imported

    def pytest_pycollect_makemodule(
        self, module_path: Path, parent: pytest.Collector
    ) -> pytest.Module:
        module: TestsText = TestsText.from_parent(parent, path=module_path)
        module.text = self._text
        return module

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            last = report.longreprtext.strip().rpartition("\n")[2]
            self.problem = self.problem or f"the tests cannot be collected: {last}"


def forget() -> None:
    """Take the module back out of `sys.modules`."""
    sys.modules.pop(MODULE_NAME, None)


@lru_cache(maxsize=4)
def _compiled(text: str) -> types.CodeType:
    return compile(text, FILE_NAME, "exec", dont_inherit=True)


def explain(error: BaseException) -> str:
    """Say what happened in the test and, below, in the submission. For authors: it may spoil."""
    summary = traceback.TracebackException.from_exception(error)
    summary.stack = traceback.StackSummary.from_list(
        [frame for frame in summary.stack if frame.filename == FILE_NAME]
    )
    text = "".join(summary.format(chain=False))
    there = remote_trace(error)
    if there:
        text += f"In the submission:\n{there}"
    return plain(text, limit=_MAX_DETAIL, lines=True)
