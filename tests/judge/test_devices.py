"""Which device a submission works on, and how its values are compared from there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from halfhour.generator import library
from halfhour.generator.certify import hidden_trial
from halfhour.generator.errors import EnvironmentFault
from halfhour.generator.judge import Judge, comparison, devices
from halfhour.generator.judge.worker.wire import Decoder, Encoder
from halfhour.generator.records import VerdictKind

Build = Callable[[str, bool], None]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Build:
    """Set what torch's own file says of CUDA, and whether a driver is loaded."""

    def build(cuda: str, driver: bool) -> None:
        (tmp_path / "version.py").write_text(f"debug = False\ncuda: Optional[str] = {cuda}\n")
        spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
        monkeypatch.setattr(devices, "find_spec", lambda _: spec)
        monkeypatch.setattr(devices, "_DRIVERS", (tmp_path if driver else tmp_path / "none",))

    return build


@pytest.mark.parametrize(
    ("cuda", "driver", "device"),
    [("'12.8'", True, "cuda"), ("'12.8'", False, "cpu"), ("None", True, "cpu")],
)
def test_auto_is_the_gpu_where_torch_and_the_machine_have_one(
    build: Build, cuda: str, driver: bool, device: str
) -> None:
    build(cuda, driver)

    assert devices.resolve("auto") == device
    assert devices.resolve("cpu") == "cpu"


def test_a_device_that_is_not_here_is_refused_with_the_reason(build: Build) -> None:
    build("None", True)
    with pytest.raises(EnvironmentFault, match="no device cuda: this torch is built for the CPU"):
        devices.resolve("cuda")
    build("'12.8'", False)
    with pytest.raises(EnvironmentFault, match="no device cuda: no driver"):
        devices.resolve("cuda")
    with pytest.raises(EnvironmentFault, match="not on mps"):
        devices.resolve("mps")


def test_what_torch_says_of_its_build_is_understood() -> None:
    """Against torch itself: the file is its own affair."""
    assert find_spec("torch") is not None
    assert devices._built_for_cuda() is (torch.version.cuda is not None)


def test_tensors_are_rebuilt_on_the_device_of_the_side_that_decodes() -> None:
    encoder = Encoder(lambda *_: None, message_bytes=1000)
    data = encoder.encode((torch.ones(2, requires_grad=True), 3))
    decoder = Decoder([bytearray(buffer) for buffer in encoder.buffers], {}, device="meta")

    tensor, number = decoder.decode(data)

    assert (tensor.device.type, tensor.shape, tensor.requires_grad) == ("meta", (2,), True)
    assert number == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_has_more_room_than_a_cpu_and_not_much_more(dtype: torch.dtype) -> None:
    one = torch.ones(1, dtype=dtype)
    unit = torch.finfo(dtype).eps

    def close(units: float, rtol: float | None = None) -> None:
        atol = None if rtol is None else 0.0
        torch.testing.assert_close(one * (1 + units * unit), one, rtol=rtol, atol=atol)

    with pytest.raises(AssertionError):
        close(6, rtol=4 * unit)
    with comparison.for_device("cuda"):
        close(6, rtol=4 * unit)
        close(2)
        for tolerance in (4 * unit, None):
            with pytest.raises(AssertionError):
                close(3000, rtol=tolerance)
    with pytest.raises(AssertionError):
        close(6, rtol=4 * unit)


def test_what_must_be_equal_must_be_equal_on_a_gpu_too() -> None:
    with comparison.for_device("cuda"):
        for found in (torch.tensor([2]), torch.tensor([1.0]), torch.tensor([[1]])):
            with pytest.raises(AssertionError):
                torch.testing.assert_close(found, torch.tensor([1]))
        with pytest.raises(AssertionError):
            torch.testing.assert_close(torch.tensor([1.0 + 1e-6]), torch.ones(1), rtol=0, atol=0)


@pytest.mark.cuda
@pytest.mark.parametrize("name", [subject.name for subject in library.subjects()])
def test_every_correct_file_is_fixed_on_a_gpu(name: str) -> None:
    subject = library.find_subject(name)
    with Judge(device="cuda") as judge:
        verdict = judge.verdict(hidden_trial(subject, subject.source, 1))

    assert (verdict.kind, verdict.reason) == (VerdictKind.FIXED, "every promise is kept")
    assert verdict.device == "cuda"
