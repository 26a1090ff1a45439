"""What the kit promises; the same in this process and through the judge's proxy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.symptom("everything is off by a factor")
def test_scaled_doubles(subject: Any, seed: int) -> None:
    """The input comes back doubled."""
    x = _randn(seed, 2, 3)
    torch.testing.assert_close(subject.scaled(x), 2 * x)


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_scaled_takes_a_scale(subject: Any, seed: int, scale: float) -> None:
    """The scale is the caller's."""
    x = _randn(seed, 4)
    torch.testing.assert_close(subject.scaled(x, scale=scale), x * scale)


def test_values_survive_the_trip(subject: Any) -> None:
    """What is passed in by value comes back as it was."""
    for value in (
        None,
        True,
        -(2**70),
        -0.0,
        math.inf,
        1 - 2j,
        "a\x00b",
        b"\xff\x00",
        [1, [2.5, None]],
        (1, ("a",)),
        {1: "a", "b": (2,)},
        {1, 2},
        frozenset({("a", 1)}),
        range(1, 9, 2),
        slice(1, None, 2),
        ...,
        torch.float16,
        torch.device("cpu"),
        torch.Size([2, 0]),
        np.float32(0.1),
    ):
        back = subject.echo(value)
        assert type(back) is type(value)
        assert back == value
    assert math.isnan(subject.echo(math.nan))


def test_tensors_and_arrays_survive_the_trip(subject: Any, seed: int) -> None:
    """Tensors and arrays keep dtype, shape and content, contiguous or not."""
    x = _randn(seed, 3, 4)
    for tensor in (x.T, x[0, 0], x[:0], x > 0, x.bfloat16(), x.to(torch.complex64), x.long()):
        torch.testing.assert_close(subject.echo(tensor), tensor, rtol=0, atol=0)
    for array in (x.numpy().T, np.zeros((0, 2)), np.array(3), np.array([True, False])):
        back = subject.echo(array)
        assert isinstance(back, np.ndarray)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_constants_are_values(subject: Any) -> None:
    """A constant is its value."""
    assert subject.EPSILON == 1e-3
    assert subject.Cache.slots_by_default == 4


def test_a_named_tuple_is_a_tuple_with_names(subject: Any) -> None:
    """The extremes come as (low, high)."""
    found = subject.extremes(torch.tensor([3.0, 1.0, 2.0]))
    low, high = found
    assert float(low) == float(found.low) == float(found[0]) == 1.0
    assert high == found.high == found[1] == 3.0
    assert len(found) == 2
    assert isinstance(found, subject.Extremes)
    assert isinstance(found, tuple)
    assert subject.is_extremes(found)
    assert subject.Extremes(low, 5.0).high == 5.0


def test_an_instance_keeps_its_state(subject: Any) -> None:
    """Rows that are appended stay until the cache is full."""
    cache = subject.Cache(2)
    assert isinstance(cache, subject.Cache)
    assert not isinstance(cache, subject.RollingCache)
    cache.append(torch.ones(2)).append(torch.zeros(2))
    assert (cache.free, cache.slots, len(cache)) == (0, 2, 2)
    torch.testing.assert_close(cache[0], torch.ones(2))
    assert [float(row.sum()) for row in cache] == [2.0, 0.0]
    assert len(cache[0:1]) == 1
    assert 2.0 in cache
    assert 7.0 not in cache
    cache[1] = torch.full((2,), 3.5)
    assert 7.0 in cache
    del cache[0]
    assert len(cache) == 1
    cache.slots = 9
    assert cache.free == 8
    assert not hasattr(cache, "nothing_of_the_kind")


def test_a_method_is_a_value(subject: Any) -> None:
    """Methods can be kept, passed in, and replaced on an instance."""
    cache = subject.Cache()
    append = cache.append
    assert len(append(torch.ones(1))) == 1
    assert len(subject.echo(append)(torch.ones(1))) == 2
    assert subject.CountingCache().append([1, 2, 3]) == 3
    cache.append = len
    assert cache.append([1, 2, 3]) == 3


def test_classes_have_methods_of_their_own(subject: Any) -> None:
    """Class methods and static methods are called on the class."""
    assert subject.RollingCache.of_size(7).slots == 7
    assert isinstance(subject.RollingCache.of_size(7), subject.RollingCache)
    assert isinstance(subject.RollingCache.of_size(7), subject.Cache)
    assert subject.Cache.bytes_per_row(3) == 12


def test_a_dataclass_has_fields(subject: Any) -> None:
    """A request waits until it is told to run."""
    request = subject.Request([1, 2])
    assert subject.fields(request) == {
        "tokens": [1, 2],
        "status": subject.Status.WAITING,
        "scores": {},
    }
    request.status = subject.Status.RUNNING
    assert request.status == subject.Status.RUNNING
    assert request.status is subject.Status.RUNNING
    assert request.status != subject.Status.WAITING
    assert (request.status.name, request.status.value) == ("RUNNING", 1)
    assert subject.Reason.STOP == "stop"


def test_iteration_is_lazy(subject: Any) -> None:
    """Tokens come one by one, without end if there is none."""
    assert list(subject.tokens_until(3)) == [0, 1, 2]
    endless = subject.tokens_until(-1)
    assert [next(endless), next(endless)] == [0, 1]
    done = subject.tokens_until(0)
    assert next(done, "done") == "done"


def test_exceptions_are_those_that_were_raised(subject: Any) -> None:
    """An empty pool says so."""
    with pytest.raises(RuntimeError, match="no block"):
        subject.take_block(0)
    with pytest.raises(subject.PoolExhausted):
        subject.take_block(0)
    for kind in (subject.QueueExhausted, subject.PoolExhausted, LookupError):
        with pytest.raises(kind):
            subject.take_block(-1)
    with pytest.raises(subject.PoolExhausted):
        subject.Cache(0).append(torch.ones(1))
    with pytest.raises(TypeError):
        subject.take_block()
    with pytest.raises(IndexError):
        subject.Cache()[0]


def test_functions_may_be_passed_in(subject: Any) -> None:
    """The step function is asked for every token."""
    seen = []

    def step(tokens: list[int]) -> int:
        seen.append(tokens)
        return len(tokens) * 10

    assert subject.generate(step, 3) == [0, 10, 20]
    assert seen == [[], [0], [0, 10]]
    assert subject.generate(lambda tokens: subject.take_block(len(tokens) + 5), 2) == [4, 5]


def test_an_exception_of_a_step_function_comes_through(subject: Any) -> None:
    """A step function may refuse."""

    class Refusal(Exception):
        pass

    def step(_: list[int]) -> int:
        raise Refusal

    with pytest.raises(Refusal):
        subject.generate(step, 1)
    assert subject.generate_or_give_up(step, 1) == []


def test_modules_compute(subject: Any, seed: int) -> None:
    """A linear layer multiplies by its weight; while training it adds one."""
    layer = subject.Linear(3)
    weight, x = _randn(seed, 3, 3), _randn(seed + 1, 2, 3)
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    assert list(state) == ["weight", "calls"]
    layer.load_state_dict(state | {"weight": weight})
    torch.testing.assert_close(layer.weight.detach(), weight)
    assert [p.shape for p in layer.parameters()] == [(3, 3)]
    with torch.no_grad():
        torch.testing.assert_close(layer(x), x @ weight.T + 1)
        torch.testing.assert_close(layer.eval()(x), x @ weight.T)
        assert not layer(x).requires_grad
    assert layer(x).requires_grad


def test_gradients_flow(subject: Any, seed: int) -> None:
    """Results can be differentiated with respect to every argument."""
    x = _randn(seed, 3).double().requires_grad_()
    shift = _randn(seed + 1, 3).double().requires_grad_()
    squares, sums = subject.rooted(x, [shift])
    (squares * torch.arange(3) + sums["sum"]).sum().backward()
    expected = 2 * (x + shift).detach() * torch.arange(3)
    torch.testing.assert_close(shift.grad, expected)
    torch.testing.assert_close(x.grad, expected + 3)
    assert torch.autograd.gradcheck(lambda a, b: subject.rooted(a, [b])[0], (x, shift))


def test_arrays_are_understood(subject: Any) -> None:
    """Means are taken by row."""
    rows = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(subject.row_means(rows), [1.0, 4.0])
    assert isinstance(subject.largest(rows), np.float64)


def test_generators_are_obeyed(subject: Any, seed: int) -> None:
    """Draws are those of the generator that is passed in."""
    expected = torch.rand(4, generator=torch.Generator().manual_seed(seed))
    found = subject.drawn(4, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
