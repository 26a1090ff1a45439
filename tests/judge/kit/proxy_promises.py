"""What only the judge's `subject` offers, and what it refuses."""

from __future__ import annotations

import copy
import dataclasses
import sys
import types
from typing import Any

import kit  # type: ignore[import-not-found]
import numpy as np
import pytest
import torch
from kit import Cache, scaled


@dataclasses.dataclass
class _OwnRecord:
    value: int


def test_the_file_is_in_another_process(subject: Any) -> None:
    """Nothing that the file does to its process is seen here."""
    assert not hasattr(sys, "kit_was_imported")
    assert type(sys.modules["kit"]) is types.ModuleType
    assert sys.modules["kit"] is kit
    assert not hasattr(kit, "__file__")
    held = [name for name in vars(kit) if not name.startswith("__")]
    assert held == []
    assert "EPSILON = 1e-3" in subject.source


def test_the_file_can_be_imported(subject: Any) -> None:
    """An import at the top finds the same functions as the fixture."""
    torch.testing.assert_close(scaled(torch.ones(2)), torch.full((2,), 2.0))
    assert kit.EPSILON == subject.EPSILON
    assert isinstance(Cache(), subject.Cache)
    assert kit.scaled is subject.scaled
    with pytest.raises(AttributeError):
        _ = kit.nothing_of_the_kind
    assert _OwnRecord(1) == _OwnRecord(1)


def test_changed_arguments_are_told(subject: Any) -> None:
    """In-place changes are reported, of tensors and of what lists and dicts hold."""
    logits, rows, names = torch.ones(2), [[0]], {"old": 1}
    subject.shrink(logits, rows, names=names)
    assert subject.mutated == (0, 1, "names")
    assert (logits.tolist(), rows, names) == ([1.0, 1.0], [[0]], {"old": 1})
    subject.echo(logits)
    assert subject.mutated == ()
    cache = subject.Cache()
    cache.append(logits)
    assert subject.mutated == ()
    with pytest.raises(TypeError):
        subject.shrink(logits)
    assert subject.mutated == ()


def test_global_generators_are_watched(subject: Any) -> None:
    """A draw from a global generator shows, and can be repeated."""
    before = subject.rng_state()
    subject.scaled(torch.ones(2))
    assert subject.rng_state() == before
    subject.seed(5)
    first = subject.drawn_globally()
    assert subject.rng_state() != before
    subject.seed(5)
    assert subject.drawn_globally() == first


def test_the_accelerator_is_over_there_alone(subject: Any) -> None:
    """A tensor that the file makes without saying where does not lie beside the inputs."""
    with subject.accelerator():
        assert subject.positions_like(torch.ones(2, 3)).tolist() == [0, 1, 2]
        assert torch.ones(1).device == torch.device("cpu")
        with pytest.raises(RuntimeError, match="default device"):
            subject.positions(3)
    assert subject.positions(3).tolist() == [0, 1, 2]


def test_an_object_is_no_value(subject: Any) -> None:
    """Handles are neither compared nor tested, and private names are out of reach."""
    cache = subject.Cache()
    for question in (
        lambda: cache == subject.Cache(),
        lambda: cache != 3,
        lambda: not cache,
        lambda: copy.deepcopy(cache),
    ):
        with pytest.raises(Exception, match="compare values"):
            question()
    for owner in (subject, cache, subject.Cache):
        with pytest.raises(AttributeError):
            _ = owner._rows
    with pytest.raises(AttributeError):
        subject.EPSILON = 2.0
    assert not hasattr(subject.tokens_until(1), "__len__")
    with pytest.raises(TypeError):
        len(subject.tokens_until(1))
    with pytest.raises(TypeError):
        cache()


def test_what_cannot_be_sent_is_no_value(subject: Any) -> None:
    """Tensors of another kind are refused, and the file is asked again without trouble."""
    for unusual in (subject.sparse, subject.agreeable):
        with pytest.raises(Exception, match="cannot be sent"):
            unusual(2)
    assert subject.EPSILON == 1e-3


def test_the_seed_is_an_int(seed: int) -> None:
    """A seed fits every generator."""
    torch.Generator().manual_seed(seed)
    np.random.default_rng(seed)
