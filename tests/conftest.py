"""What holds for all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import Judge, devices, warm
from halfhour.generator.judge.protection import rung_here

LONG = ("test_end_to_end.py", "test_soundness.py", "test_starter_pack.py")
"""They come first, so that no process is left alone with one of them in the end."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)  # or no command would know Ctrl-C
os.environ[warm.MINUTES] = "0"  # no judge outlives the tests, but where one is what is tested


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="also more seeds, more subjects, more rungs"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only repeats, unless asked; skip what needs a GPU where there is none."""
    items.sort(key=lambda item: item.path.name not in LONG)
    if not config.getoption("--thorough"):
        repeating = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=repeating)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]
    wanting = [item for item in items if item.get_closest_marker("cuda")]
    if not wanting:
        return
    try:
        devices.resolve("cuda")
    except EnvironmentFault as lacking:
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason=str(lacking)))


@pytest.fixture(scope="session")
def court() -> Iterator[Judge]:
    """The judge that proofs are made with, for all tests that need no other."""
    with Judge(many=True, rung=rung_here()) as judge:
        yield judge


@pytest.fixture(scope="session")
def screen() -> Iterator[Demonstrator]:
    """The process that mutants are tried in, and their demonstrations."""
    with Demonstrator() as screen:
        yield screen
