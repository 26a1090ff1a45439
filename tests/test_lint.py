"""A bug that a linter points at is no puzzle."""

from __future__ import annotations

import sys

import pytest

from halfhour.generator import lint
from halfhour.generator.errors import EnvironmentFault

CLEAN = "def total(a: int, b: int) -> int:\n    shift = 2\n    return a + b + shift\n"


def test_a_clean_edit_makes_no_new_finding() -> None:
    assert lint.new_findings(CLEAN, CLEAN.replace("a + b", "a - b")) == []


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("+ shift", "", "F841"),
        ("a + b", "a + c", "F821"),
        ("b + shift", "shift", "ARG001"),
    ],
)
def test_a_name_left_unused_or_undefined_is_found(old: str, new: str, rule: str) -> None:
    found = lint.new_findings(CLEAN, CLEAN.replace(old, new))

    assert any(finding.startswith(rule) for finding in found), found


def test_what_ruff_says_of_the_original_already_is_no_sign() -> None:
    noisy = "import os\n" + CLEAN

    assert lint.new_findings(noisy, noisy.replace("a + b", "a - b")) == []


def test_a_second_finding_of_the_same_kind_is_new() -> None:
    once = CLEAN.replace("b: int)", "b: int, c: int)")
    twice = CLEAN.replace("b: int)", "b: int, c: int, c2: int)")

    assert lint.new_findings(once, twice) == ["ARG001 Unused function argument: `c2`"]


def test_a_missing_ruff_is_said_with_its_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    lint.findings.cache_clear()

    with pytest.raises(EnvironmentFault, match="pip install ruff"):
        lint.findings("x = 1\n")
