"""What the other side may ask of an object besides calling it, by name."""

from __future__ import annotations

import dataclasses
import hashlib
import operator
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Seed the global generators of this process."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def rng_state() -> str:
    """Return a digest of the states of the global generators."""
    others = np.random.get_state(legacy=False)
    words = others.pop("state")
    digest = hashlib.sha256(repr((random.getstate(), others, words["pos"])).encode())
    digest.update(words["key"].tobytes())
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest()


def fields(instance: Any) -> dict[str, Any]:
    """Return the fields of a dataclass instance, by name. Raises TypeError for anything else."""
    return {field.name: getattr(instance, field.name) for field in dataclasses.fields(instance)}


def _next(iterator: Any) -> tuple[Any, ...]:
    """Return `(item,)`, or `()` at the end: StopIteration does not cross."""
    try:
        return (next(iterator),)
    except StopIteration:
        return ()


OPERATIONS: dict[str, Callable[..., Any]] = {
    "getattr": getattr,
    "setattr": setattr,
    "len": len,
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "contains": operator.contains,
    "iter": iter,
    "next": _next,
    "fields": fields,
    "seed": seed,
    "rng_state": rng_state,
}
