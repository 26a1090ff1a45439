"""The screen runs a promise only on the mutants whose change it can meet."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

from halfhour.generator.records import Outcome, Subject
from halfhour.generator.screen import Screen, Sifted
from halfhour.generator.screen.reach import bodies, changed_functions

SEEDS = (11, 12)
WRONG_MEAN = ("total / len(values)", "total / (len(values) + (len(values) > 1))")
WRONG_SPREAD = ("abs(value - middle)", "abs(value - middle) * 2")
MANY = 6
"""Mutants that are worth a trace of the promises."""


def sift(screen: Screen, subject: Subject, edit: tuple[str, str], *, times: int) -> Sifted:
    """Try a mutant several times at once; return what was seen of the last."""
    return screen.sift(subject, [toy.mutant(*edit, of=subject).source] * times, seeds=SEEDS)[-1]


def broken(seen: Sifted) -> set[str]:
    (one, other) = (
        {name for name, (outcome, _) in run.items() if outcome is not Outcome.KEPT}
        for run in seen.runs
    )
    assert one == other
    return one


def test_a_promise_that_calls_nothing_changed_is_kept_without_being_run(
    screen: Screen, tmp_path: Path
) -> None:
    """It would break now, for what it looks at is gone since it was traced."""
    there = tmp_path / "there"
    hidden = f"""{toy.HIDDEN}

def test_a_mean_is_a_number(subject):
    \"\"\"The mean is a number.\"\"\"
    assert subject.mean([1.0]) == 1.0
    with open({str(there)!r}):
        pass
"""
    subject = toy.subject(hidden=hidden)
    there.touch()
    sift(screen, subject, WRONG_MEAN, times=MANY)
    there.unlink()

    assert broken(sift(screen, subject, WRONG_SPREAD, times=1)) == {"test_spread_by_hand"}
    assert "test_a_mean_is_a_number" in broken(sift(screen, subject, WRONG_MEAN, times=1))


def test_what_runs_when_the_file_is_loaded_reaches_every_promise(screen: Screen) -> None:
    source = toy.SOURCE.replace("total = 0.0", "total = BIAS if len(values) > 1 else 0.0").replace(
        "\n\ndef mean", "\nBIAS = 0.0\n\n\ndef mean", 1
    )
    subject = toy.subject(source=source)
    seen = sift(screen, subject, ("BIAS = 0.0", "BIAS = 1.0"), times=MANY)

    assert "test_mean_is_sum_over_count" in broken(seen)


def test_a_cache_in_the_file_hides_no_call(screen: Screen) -> None:
    """The second promise finds what the first one made the file compute."""
    source = f"""{toy.SOURCE}

KNOWN: list[float] = []


def third() -> float:
    \"\"\"Return a third of the mean of 1, 2 and 6.\"\"\"
    if not KNOWN:
        KNOWN.append(mean([1.0, 2.0, 6.0]) / 3)
    return KNOWN[0]
"""
    hidden = f"""{toy.HIDDEN}

def test_a_third_is_one(subject):
    \"\"\"A third is one.\"\"\"
    assert subject.third() == 1.0


def test_a_third_is_one_again(subject):
    \"\"\"A third is one each time.\"\"\"
    assert subject.third() == 1.0
"""
    seen = sift(screen, toy.subject(source=source, hidden=hidden), WRONG_MEAN, times=MANY)

    assert {"test_a_third_is_one", "test_a_third_is_one_again"} <= broken(seen)


def test_a_promise_about_the_text_is_run_on_every_mutant(screen: Screen) -> None:
    hidden = f"""{toy.HIDDEN}

def test_nothing_is_doubled(subject):
    \"\"\"The file doubles nothing.\"\"\"
    assert "* 2" not in subject.source
"""
    seen = sift(screen, toy.subject(hidden=hidden), WRONG_SPREAD, times=MANY)

    assert "test_nothing_is_doubled" in broken(seen)


CODE = """
LIMIT = 3
def clip(value, most=LIMIT):
    'Clip.'
    inner = [min(each, most) for each in value]
    return sorted(inner, key=lambda each: each + 0.0)
class Box:
    size = 1
    def double(self):
        return self.size * 2
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        pytest.param("\ndef clip", "\n\n# clips\ndef clip", set(), id="a comment"),
        pytest.param("LIMIT = 3", "LIMIT = 4", {"<module>"}, id="a constant of the module"),
        pytest.param("most=LIMIT", "most=9", {"<module>"}, id="a default"),
        pytest.param("size = 1", "size = 2", {"Box"}, id="an attribute of a class"),
        pytest.param("size * 2", "size * 2.0", {"Box.double"}, id="an equal number"),
        pytest.param("0.0", "-0.0", {"clip.<locals>.<lambda>"}, id="a sign of zero"),
        pytest.param("return sorted", "return list", {"clip"}, id="another callee"),
        pytest.param("def double", "def triple", {"Box", "Box.double", "Box.triple"}, id="a name"),
    ],
)
def test_a_change_is_found_where_it_is(old: str, new: str, changed: set[str]) -> None:
    assert CODE.count(old) == 1 or old == "\ndef clip"
    texts = (CODE, CODE.replace(old, new))
    one, other = (bodies(compile(text, "x.py", "exec")) for text in texts)

    assert changed_functions(one, other) == changed
