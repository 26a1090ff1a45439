"""What a worker is asked to apply, and what it says that it applied. Both cross as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum


class ConfinementError(Exception):
    """A layer was asked for and could not be applied; the process must not go on."""


class Layer(StrEnum):
    """In the order in which they are applied."""

    NAMESPACES = "namespaces"
    LIMITS = "limits"
    PRIVILEGES = "privileges"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"


@dataclass(frozen=True, slots=True)
class Limits:
    """What the worker may use; None leaves a limit as it is."""

    cpu_seconds: int = 60
    data_bytes: int = 2 << 30
    address_bytes: int | None = 8 << 30
    file_bytes: int = 1 << 20
    """The longest file that it may write, should it find a place to write to."""
    open_files: int = 64
    threads: int | None = None
    """Counted per user, and so only meant for a worker with a user namespace of its own."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The layers to apply, all or none. `readable` is granted beside `readable_roots()`."""

    layers: tuple[Layer, ...] = tuple(Layer)
    limits: Limits = field(default_factory=Limits)
    readable: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        gated = {Layer.LANDLOCK, Layer.SECCOMP} & set(self.layers)
        if gated and Layer.PRIVILEGES not in self.layers:
            raise ValueError(f"{', '.join(sorted(gated))} cannot be applied without privileges")

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Raises ValueError, TypeError or KeyError if `text` is not from `to_json`."""
        fields = json.loads(text)
        return cls(
            layers=tuple(Layer(name) for name in fields["layers"]),
            limits=Limits(**fields["limits"]),
            readable=tuple(fields["readable"]),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """What was really applied."""

    layers: tuple[Layer, ...]
    limits: Mapping[str, int]
    """The limits in force: never more than asked for, less where the machine had less."""
    landlock: int
    """The version of Landlock that was used, 0 without."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))
