"""Autograd across the wire: the forward pass ran there, its backward pass is one more request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.autograd.function import once_differentiable

from .remote_errors import ProtocolViolation

if TYPE_CHECKING:
    from .remote import Remote


class Graph:
    """The graph that one call left in the worker, from its arguments to its results."""

    def __init__(self, remote: Remote, number: int, sources: list[torch.Tensor]) -> None:
        self.sources = sources
        self.results = 0
        """How many results have been attached so far; the worker counts in the same order."""
        self._remote = remote
        self._number = number

    def __del__(self) -> None:
        self._remote.release(self._number)

    def vjp(self, result: int, gradient: torch.Tensor) -> list[torch.Tensor | None]:
        """Return the gradient of each source, checked; None where the result ignores it."""
        gradients = self._remote.vjp(self._number, result, gradient)
        if not _fit(gradients, self.sources):
            raise self._remote.end_with(ProtocolViolation("it answered gradients that do not fit"))
        checked: list[torch.Tensor | None] = gradients
        return checked


def attach(graph: Graph, result: torch.Tensor) -> torch.Tensor:
    """Return the result as a function of the sources."""
    place, graph.results = graph.results, graph.results + 1
    attached: torch.Tensor = _Remote.apply(  # type: ignore[no-untyped-call]
        graph, place, result, *graph.sources
    )
    return attached


def _fit(gradients: Any, sources: list[torch.Tensor]) -> bool:
    if type(gradients) is not list or len(gradients) != len(sources):
        return False
    return all(
        isinstance(gradient, torch.Tensor | None)
        and (gradient is None or (gradient.shape, gradient.dtype) == (source.shape, source.dtype))
        for gradient, source in zip(gradients, sources, strict=True)
    )


class _Remote(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, graph: Graph, place: int, result: torch.Tensor, *_: torch.Tensor
    ) -> torch.Tensor:
        ctx.graph, ctx.place = graph, place
        return result.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return (None, None, None, *ctx.graph.vjp(ctx.place, gradient))
