"""A warm verdict imports nothing large: torch would import sympy for most of a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tiers import spread

from halfhour.generator import library
from halfhour.generator.certify import hidden_trial
from halfhour.generator.judge import Judge
from halfhour.generator.records import Promise, Subject, Trial, VerdictKind

WATCH = '''

def test_zz_nothing_large_was_imported(subject):
    """Nothing."""
    import sys
    large = ("sympy", "torch.fx.experimental.symbolic_shapes", "torch._dynamo", "torch._inductor")
    there = subject.loaded_modules()
    assert there > 100
    assert [name for name in large if name in sys.modules] == []
    assert [name for name in large if subject.is_loaded(name)] == []
'''
ASK = """

def loaded_modules() -> int:
    import sys
    return len(sys.modules)


def is_loaded(name: str) -> bool:
    import sys
    return name in sys.modules
"""
EVERYTHING = """
import torch

def test_values(subject):
    x = torch.ones(3, 4, requires_grad=True)
    torch.testing.assert_close(subject.attend(x), torch.full((3, 4), 0.25))
    subject.attend(x).pow(2).sum().backward()
    torch.testing.assert_close(x.grad, torch.zeros(3, 4))
    with subject.accelerator():
        subject.attend(x)
    try:
        torch.testing.assert_close(subject.attend(x), x)
    except AssertionError:
        return
"""
SOURCE = "import torch\ndef attend(x):\n    return torch.softmax(x, dim=-1)\n"


@pytest.fixture(scope="module")
def fresh() -> Iterator[Judge]:
    """A court that nothing was imported in for another test."""
    with Judge(many=True) as judge:
        yield judge


def test_values_gradients_and_comparisons(fresh: Judge, trial: Callable[..., Trial]) -> None:
    verdict = fresh.verdict(trial(SOURCE + ASK, EVERYTHING + WATCH))

    assert verdict.kind is VerdictKind.FIXED, [r.detail for r in verdict.results]


@pytest.mark.parametrize("subject", spread(5, library.subjects()), ids=lambda s: s.name)
def test_every_subject(fresh: Judge, subject: Subject) -> None:
    trial = hidden_trial(subject, subject.source + ASK, 1)
    promises = (*trial.promises, Promise("test_zz_nothing_large_was_imported", ""))
    verdict = fresh.verdict(
        Trial(
            name=trial.name,
            source=trial.source,
            tests=trial.tests + WATCH,
            promises=promises,
            public_names=trial.public_names,
            seed=trial.seed,
        )
    )

    assert verdict.kind is VerdictKind.FIXED, [r.detail for r in verdict.results if not r.kept]
