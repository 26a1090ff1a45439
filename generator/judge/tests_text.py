"""The trusted tests as a pytest module in memory: no file to find, none to leave behind."""

from __future__ import annotations

import linecache
import sys
import traceback
import types
from functools import lru_cache

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
