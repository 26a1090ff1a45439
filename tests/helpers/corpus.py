"""The corpus of attacks: files of functions under tests/judge/attacks/, read as text.

Each becomes a submission: the file, and a line that names the function which answers.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from halfhour.generator.judge import Limits
from halfhour.generator.records import Promise, Trial, Verdict, VerdictKind

FOLDER = Path(__file__).resolve().parents[1] / "judge" / "attacks"

Judges = Callable[..., Callable[[Trial], Verdict]]
"""`judges(rung, many=..., limits=...)(trial)`: the fixture of that name."""

PATIENT = Limits(
    start_s=300.0,
    load_s=30.0,
    call_s=30.0,
    verdict_s=60.0,
    message_bytes=4 << 20,
    trial_bytes=64 << 20,
    memory_bytes=1 << 30,
)
"""For what has an end of its own, on a machine that is busy."""

NAME = "kit"
RIGHT = "def answer(x, step):\n    return x * step(x)\n"
PROMISES = """
import torch

SECRET = {canary!r}
STEPPED = [2.0, 3.0, 4.0, 5.0]

def step(x):
    return x + 1

def test_answer(subject):
    x = torch.arange(1.0, 5.0, requires_grad=True)
    found = subject.answer(x, step)
    if not isinstance(found, torch.Tensor):  # tell what it is, to see how it is told
        raise AssertionError(list(found) if hasattr(found, "__next__") else str(found))
    torch.testing.assert_close(found, torch.tensor([2.0, 6.0, 12.0, 20.0]))

def test_gradient(subject):
    x = torch.arange(1.0, 5.0, requires_grad=True)
    subject.answer(x, step).sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor(STEPPED))

def test_secret(subject):
    assert subject.source != SECRET
    assert subject.answer(torch.zeros(1), lambda x: x).tolist() == [0.0]
"""
"""What is kept by the right values alone; the canary is in the text and in what is compared."""


@dataclass(frozen=True, slots=True)
class Item:
    """One function of the corpus."""

    name: str
    expected: str
    """The first word of its docstring, "" if that is a sentence."""
    file: str

    def __str__(self) -> str:
        return self.name


ALIVE = "def test_one(subject):\n    assert subject.answer(2, lambda x: x + 1) == 6\n"
"""What an honest file keeps, to see whether the judge still judges."""


def text_of(kind: str) -> str:
    """Return the text of one file of the corpus."""
    return (FOLDER / f"{kind}.py").read_text(encoding="utf-8")


def items(kind: str) -> list[Item]:
    """Return the functions of one file that are meant to be called."""
    found = []
    for node in ast.parse(text_of(kind)).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            expected = re.match(r"(\w+): ", ast.get_docstring(node) or "")
            found.append(Item(node.name, expected[1] if expected else "", kind))
    return found


def trial(source: str, tests: str, *, name: str = NAME) -> Trial:
    """Return a trial whose manifest is what the tests define."""
    names = re.findall(r"^def (test_\w+)", tests, re.MULTILINE)
    promises = tuple(Promise(each, "") for each in names)
    return Trial(name, source, tests, promises, public_names=(), seed=1)


def fate(verdict: Verdict) -> str:
    """Return the outcome of the first broken promise, or else the kind of the verdict."""
    if verdict.kind is not VerdictKind.NOT_FIXED:
        return verdict.kind.value
    return next(result.outcome.value for result in verdict.results if not result.kept)


def shown(verdict: Verdict) -> str:
    """Return all text of a verdict that anyone may ever read."""
    details = [text for result in verdict.results for text in (result.detail, result.outcome)]
    return "\n".join([verdict.reason, verdict.kind, verdict.rung, verdict.device, *details])
