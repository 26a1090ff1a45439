"""What holds for all tests."""

from __future__ import annotations

import os

import pytest

from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import devices, warm

os.environ[warm.MINUTES] = "0"  # no judge outlives the tests, but where one is what is tested


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, with the reason."""
    wanting = [item for item in items if item.get_closest_marker("cuda")]
    if not wanting:
        return
    try:
        devices.resolve("cuda")
    except EnvironmentFault as lacking:
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason=str(lacking)))
