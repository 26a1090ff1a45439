"""What holds for all tests."""

from __future__ import annotations

import os

import pytest

from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import devices, warm

os.environ[warm.MINUTES] = "0"  # no judge outlives the tests, but where one is what is tested


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough", action="store_true", help="also more seeds, more subjects, more rungs"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only repeats, unless asked; skip what needs a GPU where there is none."""
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
