"""A correct file is proven: its promises hold, and nonsense does not keep them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from homes import make_home
from inprocess import load
from shop import one_shop

from halfhour.generator.certify import seeds
from halfhour.generator.degenerate import ANSWERS, degenerate_files
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.errors import UnsoundSubject
from halfhour.generator.judge import Judge
from halfhour.generator.judge.plugin import drawn_seed
from halfhour.generator.records import Subject
from halfhour.generator.soundness import prove

SHAPES = '''"""Values of every kind."""
from dataclasses import dataclass
from typing import NamedTuple
import numpy as np
import torch

@dataclass(frozen=True)
class Result:
    """Frozen."""
    ids: list[int]

class Pair(NamedTuple):
    """Named."""
    left: torch.Tensor
    right: int

class Counter:
    """Stateful."""
    def __init__(self) -> None:
        self.n = 0
    def step(self, by: int) -> int:
        """Step."""
        self.n += by
        return self.n
    @property
    def total(self) -> int:
        """Total."""
        return self.n
    @staticmethod
    def start() -> int:
        """Start."""
        return 5

def floats(x: torch.Tensor) -> torch.Tensor:
    """Floats."""
    return x + 1

def array(n: int) -> np.ndarray:
    """Array."""
    return np.arange(n)

def pair(x: torch.Tensor) -> Pair:
    """Pair."""
    return Pair(x.long(), 3)

def result() -> Result:
    """Result."""
    return Result([1, 2])

def numbers():
    """Numbers."""
    yield 3
    yield 4.0

def nothing(x: list[int]) -> None:
    """Nothing."""
    x.append(1)
'''


@pytest.fixture(scope="module")
def spoilt() -> Callable[[str, str], Any]:
    """Return the module in which a function gives that answer."""
    subject = toy.subject(source=SHAPES)
    files = {(file.function, file.answer): file.source for file in degenerate_files(subject)}
    return lambda function, answer: load("toy", files[function, answer])


def test_every_public_function_gets_every_answer() -> None:
    files = list(degenerate_files(toy.subject()))

    assert [(file.function, file.answer) for file in files] == [
        (function, answer) for function in ("mean", "spread") for answer in ANSWERS
    ]
    assert all(file.source.startswith(toy.SOURCE) for file in files)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("zeros", torch.zeros(2)),
        ("ones", torch.ones(2)),
        ("constant", torch.full((2,), 7.0)),
        ("nan", torch.full((2,), torch.nan)),
        ("scaled", torch.tensor([2.0, 3.0]) * 1.001),
        ("dtype", torch.tensor([2.0, 3.0], dtype=torch.float64)),
        ("dimension", torch.tensor([[2.0, 3.0]])),
        ("input", torch.tensor([1.0, 2.0])),
    ],
)
def test_a_tensor_is_replaced(
    spoilt: Callable[[str, str], Any], answer: str, expected: torch.Tensor
) -> None:
    module = spoilt("floats", answer)

    found = module.floats(torch.tensor([1.0, 2.0]))

    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert module.changed_answers() == 1


def test_values_of_every_kind_are_replaced(spoilt: Callable[[str, str], Any]) -> None:
    assert spoilt("array", "ones").array(3).tolist() == [1, 1, 1]
    assert spoilt("array", "dtype").array(3).dtype == np.int32
    left, right = spoilt("pair", "constant").pair(torch.ones(2))
    assert (left.tolist(), right) == ([7, 7], 7)
    assert spoilt("result", "zeros").result().ids == [0, 0]
    assert spoilt("result", "dimension").result().ids == [[1, 2]]
    assert list(spoilt("numbers", "ones").numbers()) == [1, 1.0]
    assert spoilt("Counter.step", "input").Counter().step(4) == 4
    assert spoilt("Counter.start", "zeros").Counter.start() == 0


def test_what_cannot_be_replaced_is_not_counted(spoilt: Callable[[str, str], Any]) -> None:
    nothing = spoilt("nothing", "zeros")
    whole = spoilt("array", "nan")
    nothing.nothing([])
    whole.array(3)

    assert (nothing.changed_answers(), whole.changed_answers()) == (0, 0)


@pytest.mark.usefixtures("own_cache")
def test_a_sound_subject_has_no_survivors() -> None:
    seen: list[str] = []

    report = prove(toy.subject(), progress=seen.append)

    assert report.survivors == ()
    # A number has no dtype and no dimension, and of a list the functions make none.
    assert (report.lost, report.untouched) == (12, 4)
    assert report.promises == 4
    assert (report.unsteady, report.sound) == ((), True)
    assert seen[-1] == "toy: degenerate file 16 of 16"


@pytest.mark.usefixtures("own_cache")
def test_a_promise_that_nonsense_keeps_is_found() -> None:
    """Without the promise by hand, a spread of 0 ignores every shift."""
    cut = toy.HIDDEN.index("def test_spread_by_hand")
    weak = toy.HIDDEN[:cut] + toy.HIDDEN[toy.HIDDEN.index("def test_no_values") :]

    report = prove(toy.subject(hidden=weak))

    survivors = {(file.function, file.answer) for file in report.survivors}
    assert survivors == {("spread", answer) for answer in ("zeros", "ones", "constant", "scaled")}


@pytest.mark.usefixtures("own_cache")
def test_a_promise_that_holds_in_some_runs_only_is_found() -> None:
    """Of one that asks for luck, and of one that asks for a single thread."""
    lucky = """

def test_luck(subject, seed):
    \"\"\"Every other seed will do.\"\"\"
    assert seed % 2


def test_threads(subject):
    \"\"\"One thread will do.\"\"\"
    assert subject.threads() == 1
"""
    source = f"{toy.SOURCE}\n\ndef threads():\n    return __import__('torch').get_num_threads()\n"
    subject = toy.subject(source=source, hidden=toy.HIDDEN + lucky)
    while seeds_are_unlucky(subject):
        subject = replace(subject, source=f"{subject.source}\n")

    report = prove(subject)

    assert (report.unsteady, report.sound) == (("test_luck", "test_threads"), False)


def seeds_are_unlucky(subject: Subject) -> bool:
    """Tell whether the promise of luck breaks under the seeds that certificates are made with."""
    return not all(drawn_seed(seed, "test_luck") % 2 for seed in seeds(subject))


@pytest.mark.usefixtures("own_cache")
def test_a_correct_file_that_breaks_a_promise_is_named() -> None:
    wrong = toy.SOURCE.replace("/ len(values)", "/ (len(values) + 1)")

    with pytest.raises(UnsoundSubject, match="does not keep its promises: test_mean"):
        prove(toy.subject(source=wrong))


@pytest.fixture
def own_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, court: Judge, screen: Demonstrator
) -> Iterator[None]:
    monkeypatch.setenv("HALFHOUR_HOME", str(make_home(tmp_path / "home")))
    with one_shop(court, screen):
        yield
