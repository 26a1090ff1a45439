"""A file with one of everything that a submission may offer, to judge in another process."""

from __future__ import annotations

import enum
import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

sys.kit_was_imported = True  # type: ignore[attr-defined]  # seen by whoever shares this process

EPSILON = 1e-3


class Status(enum.Enum):
    WAITING = 0
    RUNNING = 1


class Reason(enum.StrEnum):
    STOP = "stop"


class PoolExhausted(RuntimeError):
    """No block is left."""


class QueueExhausted(PoolExhausted, LookupError):
    """No block is left and nobody waits for one."""


class Extremes(NamedTuple):
    low: Tensor
    high: float


@dataclass
class Request:
    tokens: list[int]
    status: Status = Status.WAITING
    scores: dict[str, float] = field(default_factory=dict)


class Cache:
    """A list of rows, as long as there is room."""

    slots_by_default = 4

    def __init__(self, slots: int = slots_by_default) -> None:
        self.slots = slots
        self.rows: list[Tensor] = []

    @classmethod
    def of_size(cls, slots: int) -> Cache:
        return cls(slots)

    @staticmethod
    def bytes_per_row(dim: int) -> int:
        return dim * 4

    @property
    def free(self) -> int:
        return self.slots - len(self.rows)

    def append(self, row: Tensor) -> Cache:
        if not self.free:
            raise PoolExhausted(f"all {self.slots} slots are taken")
        self.rows.append(row)
        return self

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int | slice) -> Tensor | list[Tensor]:
        return self.rows[place]

    def __setitem__(self, place: int, row: Tensor) -> None:
        self.rows[place] = row

    def __delitem__(self, place: int) -> None:
        del self.rows[place]

    def __contains__(self, total: object) -> bool:
        return any(float(row.sum()) == total for row in self.rows)


class RollingCache(Cache):
    pass


class CountingCache(Cache):
    """Its instances have what its class calls otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.append = len  # type: ignore[assignment,method-assign]


class Linear(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(dim, dim))
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T + (1.0 if self.training else 0.0)


def scaled(x: Tensor, *, scale: float = 2.0) -> Tensor:
    return x * scale


def extremes(x: Tensor) -> Extremes:
    return Extremes(x.min(), float(x.max()))


def is_extremes(value: object) -> bool:
    return isinstance(value, Extremes)


def echo(value: object) -> object:
    return value


def tokens_until(stop: int) -> Iterator[int]:
    token = 0
    while token != stop:
        yield token
        token += 1


def generate(step: Callable[[list[int]], int], length: int) -> list[int]:
    tokens: list[int] = []
    while len(tokens) < length:
        tokens.append(step(list(tokens)))
    return tokens


def generate_or_give_up(step: Callable[[list[int]], int], length: int) -> list[int]:
    try:
        return generate(step, length)
    except Exception:
        return []


def take_block(free: int) -> int:
    if free < 0:
        raise QueueExhausted("nobody waits")
    if free == 0:
        raise PoolExhausted("no block is left")
    return free - 1


def row_means(rows: Any) -> Any:
    return rows.mean(axis=1)


def largest(rows: Any) -> Any:
    return rows.max()


def drawn(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator)


def drawn_globally() -> float:
    return random.random() + float(np.random.rand()) + float(torch.rand(1))


def rooted(x: Tensor, shift: list[Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    return (x + shift[0]).square(), {"sum": x.sum()}


def shrink(logits: Tensor, rows: list[list[int]], *, names: dict[str, int]) -> None:
    logits.data.mul_(0.5)
    rows[0].append(1)
    names.pop("old", None)


def positions_like(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1], device=x.device)


def positions(n: int) -> Tensor:
    return torch.arange(n)


def sparse(n: int) -> Tensor:
    return torch.eye(n).to_sparse()


class Agreeable(Tensor):
    pass


def agreeable(n: int) -> Tensor:
    return torch.zeros(n).as_subclass(Agreeable)
