"""The conftest.py of a project that a general tool mutates: the fixtures without any judge."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import os
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import pytest
import torch

torch.set_num_threads(1)  # as the screen has it


class Plain:
    """The fixture `subject`: the module itself, and what of the proxy costs nothing.

    It looks at no argument, so it tells of none that was changed.
    """

    mutated = ()
    accelerator = nullcontext

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def fields(self, value: Any) -> dict[str, Any]:
        if not dataclasses.is_dataclass(value):
            return dict(value._asdict())
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}

    def seed(self, number: int) -> None:
        torch.manual_seed(number)

    def rng_state(self) -> str:
        return ""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "symptom(text): what a user would report")


@pytest.fixture
def subject() -> Plain:
    return Plain(importlib.import_module(os.environ["SUBJECT"]))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Draw as the judge does, see `generator/judge/plugin.py`."""
    text = f"{os.environ['SEED']}:{request.node.name}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
