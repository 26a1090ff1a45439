"""The profile for macOS, as text: no Mac has run it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from halfhour.generator.judge import seatbelt
from halfhour.generator.judge.worker.confine import Tree

TREES = [Tree("/lib/python3", ("site-packages",)), Tree("/lib/python3/site-packages/torch")]
PROFILE = seatbelt.profile("/bin/python3", trees=TREES).splitlines()


def test_all_is_denied_that_is_not_allowed() -> None:
    assert PROFILE[:2] == ["(version 1)", "(deny default)"]


@pytest.mark.parametrize(
    "operation", ["network", "process-fork", "mach-lookup", "file-write-create", "file-write*"]
)
def test_nothing_allows(operation: str) -> None:
    assert [line for line in PROFILE if line.startswith("(allow") and operation in line] == []


def test_only_interpreters_may_be_started() -> None:
    started = [line for line in PROFILE if "process-exec" in line]

    assert '(allow process-exec (literal "/bin/python3"))' in started
    assert all("ython" in line for line in started)


def test_packages_are_allowed_after_their_folder_is_denied() -> None:
    """The last rule that matches holds."""
    reads = "file-read* file-map-executable"

    library = PROFILE.index(f'(allow {reads} (subpath "/lib/python3"))')
    hidden = PROFILE.index(f'(deny {reads} (subpath "/lib/python3/site-packages"))')
    torch = PROFILE.index(f'(allow {reads} (subpath "/lib/python3/site-packages/torch"))')
    assert library < hidden < torch


def test_a_path_cannot_end_its_quotes() -> None:
    (line,) = [
        line
        for line in seatbelt.profile("/bin/python3", trees=[Tree('/a")(allow default)\\')]).split(
            "\n"
        )
        if "allow default" in line
    ]

    assert line.endswith(r'(subpath "/a\")(allow default)\\"))')


def test_the_worker_gets_its_environment_and_no_other() -> None:
    arguments = seatbelt.command(
        [sys.executable, "-I", "boot.py"],
        trees=TREES,
        worker_package=Path("/worker"),
        environment={"B": "2", "A": "1"},
    )

    assert arguments[:6] == ["/usr/bin/env", "-i", "A=1", "B=2", "/usr/bin/sandbox-exec", "-p"]
    assert '(subpath "/worker")' in arguments[6]
    assert arguments[7:] == [os.path.realpath(sys.executable), "-I", "boot.py"]
