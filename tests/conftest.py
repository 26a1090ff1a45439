"""What holds for all tests."""

from __future__ import annotations

import pytest

from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import devices


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
