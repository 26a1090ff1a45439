"""Run a subject's promises in this process, against its own text or against a changed text."""

from __future__ import annotations

import functools
import hashlib
import inspect
import itertools
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from halfhour.generator.screen.subject import Subject, load

__all__ = ["Subject", "breaks", "broken_promises", "failure", "load", "promises_in", "source_of"]

SOLUTIONS = Path(__file__).resolve().parents[2] / "solutions"
torch.set_num_threads(1)  # as the judge has it: on tiny tensors, more threads only wait


def source_of(subject_name: str, file_name: str = "") -> str:
    """Return the text of the correct file, or of another file of the subject."""
    return (SOLUTIONS / subject_name / (file_name or f"{subject_name}.py")).read_text("utf-8")


def _cases(promise: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of each parametrised case; one empty case where there is none."""
    marks = [m for m in getattr(promise, "pytestmark", []) if m.name == "parametrize"]
    for rows in itertools.product(*(mark.args[1] for mark in marks)):
        case: dict[str, Any] = {}
        for mark, row in zip(marks, rows, strict=True):
            names = mark.args[0].replace(" ", "").split(",")
            case.update(zip(names, row if len(names) > 1 else [row], strict=True))
        yield case


def promises_in(tests: types.ModuleType) -> dict[str, Callable[..., None]]:
    """Return the promises of a module of hidden tests in the order of the file."""
    return {name: f for name, f in vars(tests).items() if name.startswith("test_")}


def failure(promise: Callable[..., None], subject: Subject, *, seed: int) -> BaseException | None:
    """Run a promise in its cases until one fails; return what failed."""
    drawn = int(hashlib.sha256(f"{seed}:{promise.__name__}".encode()).hexdigest()[:8], 16)
    fixtures = {"subject": subject, "seed": drawn}
    given = {k: fixtures[k] for k in inspect.signature(promise).parameters if k in fixtures}
    try:
        for case in _cases(promise):
            promise(**given, **case)
    except (Exception, pytest.fail.Exception) as error:
        return error
    return None


def broken_promises(
    subject_name: str, source: str | None = None, *, seed: int
) -> dict[str, BaseException]:
    """Run every hidden test on the file (or on `source`) and return what failed, by promise."""
    promises, subject = _court(subject_name, source)
    failures = {name: failure(f, subject, seed=seed) for name, f in promises.items()}
    return {name: error for name, error in failures.items() if error is not None}


def breaks(subject_name: str, source: str, promise: str = "", *, seed: int) -> bool:
    """Tell whether a text breaks that promise, or any: then nothing after the first is run."""
    promises, subject = _court(subject_name, source)
    wanted = [promises[promise]] if promise else list(promises.values())
    return any(failure(function, subject, seed=seed) is not None for function in wanted)


def _court(subject_name: str, source: str | None) -> tuple[dict[str, Callable[..., None]], Subject]:
    """Return the promises and what they are tried on, both as if nothing had run before."""
    promises = promises_in(load(f"{subject_name}_hidden", _hidden_tests(subject_name)))
    assert promises, f"no promise found for {subject_name}"
    text = source_of(subject_name) if source is None else source
    return promises, Subject(load(subject_name, text))


@functools.cache
def _hidden_tests(subject_name: str) -> types.CodeType:
    text = source_of(subject_name, "test_hidden.py")
    return compile(text, f"{subject_name}_hidden.py", "exec", dont_inherit=True)
