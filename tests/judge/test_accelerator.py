"""The stand-in for an accelerator: the CPU's values under the rules of two devices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from halfhour.generator.judge.worker.accelerator import accelerator, refuse_default

TWO_DEVICES = "two devices"
Work = Callable[[torch.Tensor], object]


def on_host() -> torch.Tensor:
    """Return what a worker may make with a device that it names."""
    return torch.ones(3, device="cpu")


@pytest.fixture
def x() -> torch.Tensor:
    """An input: made before, it lies on the accelerator."""
    return torch.tensor([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda x: x + torch.arange(3), id="a range without a device"),
        pytest.param(lambda x: x + torch.tensor([1, 2, 3]), id="a tensor without a device"),
        pytest.param(lambda x: x + torch.zeros(3, device="cpu"), id="a named host"),
        pytest.param(lambda x: torch.cat([x, torch.zeros(1)]), id="in a list"),
        pytest.param(lambda x: x.masked_fill(torch.ones(3) > 0, 0.0), id="a mask"),
        pytest.param(lambda x: torch.where(torch.ones(3) > 0, x, 0.0), id="a condition"),
        pytest.param(lambda x: torch.zeros(9)[x.long()], id="a host's table"),
        pytest.param(lambda x: x.cpu() + x, id="its own copy on the host"),
        pytest.param(lambda x: torch.zeros(3) * x.sum(), id="an accelerator's scalar"),
        pytest.param(lambda x: x.index_put_((x.long() - 1,), on_host()), id="written by index"),
    ],
)
def test_tensors_of_two_devices_do_not_meet(x: torch.Tensor, work: Work) -> None:
    with accelerator(), pytest.raises(RuntimeError, match=TWO_DEVICES):
        work(x)
    work(x)  # outside there is one device


@pytest.mark.parametrize(
    "work",
    [
        pytest.param(lambda x: x + torch.arange(3, device=x.device), id="made beside the input"),
        pytest.param(lambda x: x + torch.ones_like(x), id="like the input"),
        pytest.param(lambda x: x + x.new_ones(3), id="from the input"),
        pytest.param(lambda x: x + torch.arange(3).to(x.device), id="moved there"),
        pytest.param(lambda x: x + torch.arange(3).to(x), id="moved to where another lies"),
        pytest.param(lambda x: x * torch.tensor(2.0), id="a scalar of the host"),
        pytest.param(lambda x: x[torch.tensor([0, 2])], id="indices of the host"),
        pytest.param(lambda x: x.copy_(torch.zeros(3)), id="copied across"),
        pytest.param(lambda x: x.__setitem__(slice(0, 3), torch.zeros(3)), id="written to a slice"),
        pytest.param(
            lambda x: x.sum().item() + torch.arange(3) + torch.ones(3), id="all on the host"
        ),
        pytest.param(lambda x: [*x.tolist(), x.sum().item()], id="read by Python"),
        pytest.param(lambda x: x.cpu().numpy(), id="numpy of a copy on the host"),
        pytest.param(lambda x: torch.softmax(x.to(torch.float64), dim=-1), id="another dtype"),
        pytest.param(lambda x: torch.nn.functional.linear(x, torch.eye(3).to(x.device)), id="nn"),
    ],
)
def test_honest_work_has_the_values_of_the_cpu(x: torch.Tensor, work: Work) -> None:
    expected = work(x.clone())
    with accelerator():
        found = work(x)

    torch.testing.assert_close(found, expected)


def test_numpy_does_not_read_from_the_accelerator(x: torch.Tensor) -> None:
    with accelerator(), pytest.raises(TypeError, match="numpy"):
        x.numpy()


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.clone().exponential_(generator=torch.Generator()),
        lambda x: torch.multinomial(x, 1, generator=torch.Generator()),
        lambda x: torch.rand(3, generator=torch.Generator(device="cpu"), device=x.device),
        lambda x: torch.rand(3, generator=torch.Generator(device=x.device)),
    ],
)
def test_a_generator_draws_on_its_own_device_alone(x: torch.Tensor, draw: Work) -> None:
    with accelerator(), pytest.raises(RuntimeError, match="device type for generator"):
        draw(x)


def test_a_generator_of_the_inputs_device_draws_what_it_always_draws(x: torch.Tensor) -> None:
    with accelerator():
        generator = torch.Generator(device=x.device).manual_seed(5)
        assert isinstance(generator, torch.Generator)
        assert generator.device == x.device
        drawn = torch.multinomial(x, 2, generator=generator)
        on_the_host = torch.rand(2, generator=torch.Generator().manual_seed(5))

    again = torch.Generator().manual_seed(5)
    assert drawn.tolist() == torch.multinomial(x, 2, generator=again).tolist()
    again.manual_seed(5)
    assert on_the_host.tolist() == torch.rand(2, generator=again).tolist()
    assert torch.Generator is type(again)


def test_a_device_is_told_apart_by_comparing(x: torch.Tensor) -> None:
    with accelerator():
        assert x.device == (x + 1).device
        assert x.device != torch.arange(3).device
        assert x.cpu().device == torch.device("cpu")
        assert x.cpu().to(x.device).device == x.device
    assert x.device == torch.device("cpu")


def test_a_result_that_nobody_placed_is_refused(x: torch.Tensor) -> None:
    with accelerator():
        forgotten = torch.zeros(3)
        forgotten[:] = x
        placed = (torch.zeros_like(x), {"ids": [torch.zeros(3, device="cpu"), x.cpu()]})

    with pytest.raises(RuntimeError, match="default device"):
        refuse_default([1, {"out": (forgotten,)}])
    refuse_default(placed)
