"""A stand-in for an accelerator where there is none: the CPU, under the rules of two devices.

Inside `accelerator()` a tensor lies on the accelerator, unless it was made on the host: on the
default device, which is the host's, or on the device "cpu". As on real hardware, an operation on
tensors of both raises RuntimeError, a scalar of the host excepted; so does a generator of the host
that draws on the accelerator, and numpy that reads from there. The values are the CPU's.

The accelerator calls itself `cpu:0` and the host `cpu`: torch takes either for the CPU and tells
them apart when they are compared. What does not go through torch's own functions is not seen
(`torch.from_numpy`), nor what existed before: that counts as the accelerator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from typing import Any
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

ACCELERATOR = torch.device("cpu", 0)
HOST = torch.device("cpu")

_MARK = "_lies"
_MOVES = frozenset({"to", "cpu"})
_ACROSS = frozenset({"copy_", "tolist", "item", "__repr__", "__bool__", "__len__", "__format__"})
"""Operations that real hardware does whatever the devices."""
_TO_NUMPY = frozenset({"numpy", "__array__"})
_RealGenerator = torch.Generator


class Place(IntEnum):
    """Where a tensor lies; the largest of its sources' is a result's."""

    ACCELERATOR = 0
    HOST = 1
    """Because the code says so."""
    DEFAULT = 2
    """On the host, because the code does not say."""


def place_of(tensor: torch.Tensor) -> Place:
    """Return where a tensor lies."""
    place: Place = getattr(tensor, _MARK, Place.ACCELERATOR)
    return place


@contextmanager
def accelerator() -> Iterator[None]:
    """Put the calls within under the rules of two devices."""
    with _Rules(), mock.patch.object(torch, "Generator", _Generator):
        yield


def outside() -> AbstractContextManager[None]:
    """Return a context in which what is done for the caller is under no rules."""
    context: AbstractContextManager[None] = torch._C.DisableTorchFunction()
    return context


def refuse_default(value: Any) -> None:
    """Raise RuntimeError if a result lies on the default device though nobody said so."""
    if any(place_of(tensor) is Place.DEFAULT for tensor in _tensors(value)):
        raise RuntimeError(
            "Expected a result on the device of the inputs, but it was made on the default device"
        )


class _Rules(TorchFunctionMode):
    """Looks at every call of torch."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__self__", None) is torch.Tensor.device:
            return HOST if place_of(args[0]) else ACCELERATOR
        name = getattr(func, "__name__", "")
        given = list(_tensors((args, kwargs)))
        if name in _MOVES and given:
            return _moved(func, args, kwargs)
        _check(name, given, args, kwargs)
        return _marked(func(*args, **kwargs), given, _result_place(name, given, args, kwargs))


class _Kind(type(torch.Generator)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _RealGenerator)


class _Generator(_RealGenerator, metaclass=_Kind):
    """A generator that remembers the device it was asked for."""

    _asked: torch.device

    def __new__(cls, device: torch.device | str = "cpu") -> _Generator:
        made = super().__new__(cls, device)  # type: ignore[call-arg]
        made._asked = _device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self._asked

    def manual_seed(self, seed: int) -> _Generator:
        super().manual_seed(seed)
        return self


def _check(
    name: str, given: list[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Raise what real hardware raises."""
    if name in _TO_NUMPY and place_of(given[0]) is Place.ACCELERATOR:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
    if name in _ACROSS:
        return
    if name in ("__getitem__", "__setitem__"):
        given = _meeting(args)
    whole = {place_of(tensor) is Place.ACCELERATOR for tensor in given if tensor.dim()}
    scalar = any(not tensor.dim() and not place_of(tensor) for tensor in given)
    if len(whole) == 2 or (scalar and whole == {False}):
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            "cuda:0 and cpu!"
        )
    generator = kwargs.get("generator")
    if isinstance(generator, _RealGenerator) and type(generator) is _Generator:
        drawn_on = _result_place(name, given, args, kwargs) is Place.ACCELERATOR
        if drawn_on != (generator.device == ACCELERATOR):
            there, here = ("cuda", "cpu") if drawn_on else ("cpu", "cuda")
            raise RuntimeError(f"Expected a '{there}' device type for generator but found '{here}'")


def _meeting(args: tuple[Any, ...]) -> list[torch.Tensor]:
    """Return what must lie together where a tensor is indexed.

    Indices may come from the host, and what is written to a slice from anywhere.
    """
    owner, index, *value = args
    indices = list(_tensors(index))
    if place_of(owner) is Place.ACCELERATOR:
        indices = [tensor for tensor in indices if not place_of(tensor)]
    return [owner, *indices, *(_tensors(value) if list(_tensors(index)) else ())]


def _moved(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do `.to(...)` and `.cpu()`; a tensor that changes its place is another one."""
    tensor = args[0]
    result = func(*args, **kwargs)
    if func.__name__ == "cpu":
        place = Place.HOST
    else:
        place = _asked_place([*args[1:], *kwargs.values()], otherwise=place_of(tensor))
    if result is tensor and place is not place_of(tensor):
        result = result.view_as(result)
    return _mark(result, place)


def _result_place(
    name: str, given: list[torch.Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Place:
    """Return where the result of an operation lies."""
    if kwargs.get("device") is not None:
        return _asked_place([kwargs["device"]], otherwise=Place.DEFAULT)
    if name == "tensor" and not isinstance(args[0] if args else None, torch.Tensor):
        return Place.DEFAULT
    places = [place_of(tensor) for tensor in given]
    if not places:
        return Place.DEFAULT
    return Place.ACCELERATOR if Place.ACCELERATOR in places else max(places)


def _asked_place(words: Sequence[Any], *, otherwise: Place) -> Place:
    for word in words:
        if isinstance(word, torch.Tensor):
            return place_of(word)
        if isinstance(word, torch.device | str):
            return Place.ACCELERATOR if _device(word) == ACCELERATOR else Place.HOST
    return otherwise


def _device(word: torch.device | str) -> torch.device:
    return word if isinstance(word, torch.device) else torch.device(word)


def _marked(result: Any, given: list[torch.Tensor], place: Place) -> Any:
    for tensor in _tensors(result):
        if not any(tensor is each for each in given):  # done in place, it stays where it is
            _mark(tensor, place)
    return result


def _mark(tensor: torch.Tensor, place: Place) -> torch.Tensor:
    setattr(tensor, _MARK, place)
    return tensor


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in a value and in the containers it is made of."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
