"""On which device a submission works: the CPU, or a GPU that torch can use."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

from ..errors import EnvironmentFault

CPU, CUDA, AUTO = "cpu", "cuda", "auto"

_DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
"""Where a driver for NVIDIA's GPUs shows itself: on Linux, and on Linux inside Windows."""


def resolve(asked: str) -> str:
    """Return `cpu` or `cuda` for what was asked, without importing torch.

    `auto` is the GPU where this torch was built for one and its driver is loaded, else the CPU.
    Raises EnvironmentFault for a device that is not here.
    """
    if asked == CPU:
        return CPU
    if asked not in (AUTO, CUDA):
        raise EnvironmentFault(f"the judge works on the devices cpu and cuda, not on {asked}")
    lacking = _lacking()
    if lacking and asked == CUDA:
        raise EnvironmentFault(f"there is no device cuda: {lacking}")
    return CPU if lacking else CUDA


def _lacking() -> str:
    """Return what keeps torch from a GPU, "" if nothing is seen that does."""
    if not _built_for_cuda():
        return "this torch is built for the CPU alone"
    if not any(driver.exists() for driver in _DRIVERS):
        return "no driver of a GPU is loaded"
    return ""


def _built_for_cuda() -> bool:
    """Ask torch's own file about its build: to import torch takes longer than a verdict."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    told = Path(spec.origin).with_name("version.py")
    try:
        text = told.read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=]*=\s*['\"]", text, re.MULTILINE) is not None
