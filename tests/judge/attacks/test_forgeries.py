"""Files that answer wrongly and want to be called fixed, end their process, or take all there is.

Whatever they do: the verdict is the one that the attack's docstring states, it comes in time, it
shows nothing of the tests, no process is left, and the next file is judged as if nothing had been.
"""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from corpus import ALIVE, PATIENT, PROMISES, RIGHT, Item, Judges, fate, items, shown, text_of, trial
from tiers import spread

from halfhour.generator.judge import Judge, Limits, Rung
from halfhour.generator.records import Trial, Verdict, VerdictKind

HASTY = Limits(start_s=300.0, load_s=2.0, call_s=1.0, verdict_s=3.0, message_bytes=4 << 20)
"""For what has no end but the limit's."""
GRACE_S = 60.0
"""Of a busy machine. What hangs would hang for ever."""

KINDS = ("control_flow", "patching", "protocol", "resources")
ITEMS = [item for kind in KINDS for item in items(kind) if item.expected]
QUICK = [item for item in ITEMS if item.expected != "timed_out"]
ENDLESS = [item for item in ITEMS if item.expected == "timed_out"]

ELSEWHERE = ("ends_the_process_with_success", "answers_twice")
"""Those that are tried on other rungs too, where each costs a worker of its own."""


def judged(judge: Callable[[Trial], Verdict], source: str, canary: str) -> Verdict:
    """Judge an attack, and check what holds whatever it does."""
    before = processes()
    begun = time.monotonic()

    verdict = judge(trial(source, PROMISES.format(canary=canary)))

    assert time.monotonic() - begun < HASTY.verdict_s + GRACE_S
    text = shown(verdict)
    assert canary not in text
    assert [c for c in text if unicodedata.category(c)[0] == "C" and c not in "\n\t"] == []
    assert len(verdict.reason) < 600
    assert len(text) < 20_000
    again = judge(trial(RIGHT, ALIVE))
    assert again.kind is VerdictKind.FIXED, shown(again)
    assert len(processes()) == len(before)
    return verdict


def processes() -> set[str]:
    """Return all processes below this one, as far as the kernel lists children."""
    found: set[str] = set()
    level = {str(os.getpid())}
    while level:
        tasks = [task for process in level for task in Path("/proc", process, "task").glob("*")]
        level = {child for task in tasks for child in _children(task)}
        found |= level
    return found


def _children(task: Path) -> list[str]:
    try:
        return (task / "children").read_text().split()
    except OSError:  # not listed here, or just gone
        return []


def submission(item: Item) -> str:
    return f"{text_of(item.file)}\n\nanswer = {item.name}\n"


def deserved(verdict: Verdict, item: Item) -> None:
    """Check that the verdict is the one that the item states."""
    if item.expected == "broken":
        assert verdict.kind in (VerdictKind.NOT_FIXED, VerdictKind.INVALID), shown(verdict)
    else:
        assert fate(verdict) == item.expected, shown(verdict)


@pytest.mark.parametrize("item", QUICK, ids=str)
def test_a_forgery_gets_what_it_deserves(
    judges: Judges, strongest: Rung, canary: str, item: Item
) -> None:
    deserved(judged(judges(strongest), submission(item), canary), item)


@pytest.mark.parametrize("item", ENDLESS, ids=str)
def test_what_has_no_end_meets_a_limit(
    judges: Judges, strongest: Rung, canary: str, item: Item
) -> None:
    deserved(judged(judges(strongest, limits=HASTY), submission(item), canary), item)


@pytest.mark.parametrize("name", spread(6, ELSEWHERE))
@pytest.mark.parametrize(
    ("rung", "many"), [(Rung.P, True), (Rung.L3, False)], ids=["unconfined", "in bubblewrap"]
)
def test_a_forgery_gets_the_same_wherever_it_is_tried(
    judges: Judges, canary: str, rung: Rung, many: bool, name: str
) -> None:
    """What makes a verdict is no matter of the kernel's."""
    (item,) = (item for item in QUICK if item.name == name)
    attack = trial(submission(item), PROMISES.format(canary=canary))

    deserved(judges(rung, many=many)(attack), item)


TEXTS = {
    "a NUL byte": ("answer = 1\0\n", "invalid"),
    "a lone surrogate": ("answer = '\ud800'\n", "invalid"),
    "parentheses without end": ("(" * 100_000, "invalid"),
    "minus signs without end": ("x = " + "-" * 100_000 + "1\n", "invalid"),
    "attributes without end": ("x = a" + ".a" * 100_000 + "\n", "invalid"),
    "blocks without end": ("".join(f"{' ' * n}if 1:\n" for n in range(200)), "invalid"),
    "a power without end": ("def answer(x, step):\n    return 9 ** 9 ** 9 ** 9\n", "timed_out"),
    "a number without end": ("x = " + "9" * 100_000 + "\n", "invalid"),
    "an unknown encoding": ("# coding: rot13\nhalfhour\n", "invalid"),
    "a text larger than a message": ("x = 1\n" * 1_000_000, "invalid"),
    "a line larger than a message": ("# " + "x" * (5 << 20) + "\n", "invalid"),
    "an error on a line without end": (
        "error = SyntaxError('x')\nerror.lineno = 10 ** 4000\nraise error\n",
        "invalid",
    ),
    "an error that steers a terminal": (
        "raise type('\\x1b[2J', (Exception,), {})('\\x1b[32mfixed\\u202e\\x9b' * 999)\n",
        "invalid",
    ),
    "an absent module that steers one": (
        "raise ModuleNotFoundError(name='\\x1b[2J\\u202e' * 999)\n",
        "invalid",
    ),
    "an error without a text": (
        "class Untold(Exception):\n    def __str__(self): raise SystemExit\nraise Untold\n",
        "invalid",
    ),
    "a module that replaces itself": (
        "import sys, torch\nsys.modules[__name__] = torch\ntorch.answer = lambda *_: True\n",
        "raised",
    ),
    "a module that has every name": ("def __getattr__(name):\n    return 1\n", "wrong"),
}


@pytest.mark.parametrize(("source", "expected"), TEXTS.values(), ids=TEXTS)
def test_a_text_that_hurts_whoever_reads_it(
    judges: Judges, strongest: Rung, canary: str, source: str, expected: str
) -> None:
    limits = HASTY if expected == "timed_out" else PATIENT

    verdict = judged(judges(strongest, limits=limits), source, canary)

    deserved(verdict, Item("text", expected, ""))


def test_what_a_promise_expects_in_a_callback_is_not_told(
    judges: Judges, strongest: Rung, canary: str
) -> None:
    """The promise is broken then, whatever the file makes of it."""
    source = """
heard = []

def answer(step):
    try:
        return step()
    except Exception as error:
        heard.append(str(error))
"""
    tests = f"""
def refuse():
    raise ValueError("public")

def expect():
    assert False, {canary!r}

def test_refusal(subject):
    subject.answer(refuse)

def test_expectation(subject):
    subject.answer(expect)

def test_heard(subject):
    assert list(subject.heard) == ["public", ""]
"""
    verdict = judges(strongest)(trial(source, tests))

    assert [result.kept for result in verdict.results] == [True, False, True], shown(verdict)


PLANTS = ("conftest", "sitecustomize", "usercustomize", "pytest", "torch", "kit", "json")


def test_files_beside_the_submission_are_nobodys(
    tmp_path: Path, canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A candidate's folder may hold anything, and the candidate's shell may point to it."""
    for name in PLANTS:
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(0)\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p no:python\n")
    (tmp_path / "planted.pth").write_text("import os; os._exit(0)\n")
    monkeypatch.chdir(tmp_path)
    for name in ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONUSERBASE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p conftest --collect-only")
    monkeypatch.setenv("PYTEST_PLUGINS", "conftest")
    source = RIGHT.replace("x * step(x)", "x")

    with Judge(limits=PATIENT, rung=Rung.P, many=True) as judge:
        fixed = judge.verdict(trial(RIGHT, PROMISES.format(canary=canary)))
        wrong = judge.verdict(trial(source, PROMISES.format(canary=canary)))

    assert fixed.kind is VerdictKind.FIXED, shown(fixed)
    assert fate(wrong) == "wrong", shown(wrong)
