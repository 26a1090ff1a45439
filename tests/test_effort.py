"""What hangs is found by counting: on every machine alike, and by no clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import toy

from halfhour.generator.cache import ProofCache
from halfhour.generator.demonstrate import Demonstrator
from halfhour.generator.demonstrate.effort import MOST_TURNS, Effort, Hangs
from halfhour.generator.errors import JudgeError

HANGING = {
    "a loop": "def run():\n    while True:\n        pass\n",
    "a loop that holds up errors": (
        "def run():\n    while True:\n        try:\n            raise ValueError\n"
        "        except Exception:\n            pass\n"
    ),
    "a comprehension": "import itertools\ndef run():\n    return [n for n in itertools.count()]\n",
    "a generator": (
        "def forever():\n    while True:\n        yield 1\ndef run():\n    return sum(forever())\n"
    ),
    "calls": (
        "def left(n):\n    try:\n        return left(n + 1)\n    except RecursionError:\n"
        "        return right(n)\n"
        "def right(n):\n    for _ in iter(int, 1):\n        left(n)\ndef run():\n    left(0)\n"
    ),
}


@pytest.mark.parametrize("source", HANGING.values(), ids=HANGING)
def test_what_hangs_is_found(source: str) -> None:
    effort = Effort()
    module = effort.loader("toy", source)()
    effort.begin()

    with pytest.raises(Hangs):
        module.run()
    assert effort.turns > MOST_TURNS


def test_same_work_has_the_same_count() -> None:
    effort = Effort()
    module = effort.loader("toy", toy.SOURCE)()
    turns = []
    for values in ([1.0], [1.0, 2.0], [1.0] * 100, [1.0] * 100):
        effort.begin()
        module.spread(values)
        turns.append(effort.turns)

    assert turns == [1 + 2 + 3 * len(values) for values in ([0], [0, 0], [0] * 100, [0] * 100)]


def test_counting_changes_neither_answers_nor_docstrings_nor_lines() -> None:
    module = Effort().loader("toy", toy.SOURCE)()

    assert module.mean([1.0, 2.0, 6.0]) == 3.0
    assert module.mean.__doc__ == "Return the mean of at least one value."
    with pytest.raises(ValueError, match="must not be empty") as raised:
        module.mean([])
    assert (
        raised.traceback[-1].lineno + 1
        == toy.SOURCE.split("\n").index('        raise ValueError("values must not be empty")') + 1
    )


CHILDREN = """
import json, os, signal, time
from halfhour.generator.screen.process import in_a_child

ends = {
    "answers": lambda: {"fine": True},
    "hangs": lambda: time.sleep(600),
    "exits": lambda: os._exit(3),
    "crashes": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "is killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "raises": lambda: 1 / 0,
}
print(json.dumps({how: in_a_child(lambda how: ends[how](), [how], patience=1.0) for how in ends}))
"""


def test_child_that_was_killed_is_told_from_one_that_ended_of_itself() -> None:
    command = [sys.executable, "-c", CHILDREN]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(done.stdout)

    assert found.pop("answers") == [{"fine": True}]
    assert {how: answer[0]["killed"] for how, answer in found.items()} == {
        "hangs": True,
        "exits": False,
        "crashes": False,
        "is killed": True,
        "raises": False,
    }


@pytest.mark.parametrize("killed", [True, False])
def test_search_that_was_killed_fails_loudly_instead_of_finding_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    asked: list[str] = []

    def end(self: Demonstrator, do: str, *_: object, **__: object) -> dict[str, object]:
        assert self
        asked.append(do)
        return {"ended": True, "killed": killed}

    monkeypatch.setattr(Demonstrator, "_ask", end)
    wrong = toy.mutant("total / len(values)", "7.0").source
    with Demonstrator(ProofCache(tmp_path)) as demonstrator:
        for _ in range(2):
            if killed:
                with pytest.raises(JudgeError, match=r"toy\.py was killed, for want of time"):
                    demonstrator.demonstration(toy.subject(), wrong, broken=["test_a"], seeds=[1])
            else:
                assert not demonstrator.demonstration(
                    toy.subject(), wrong, broken=["test_a"], seeds=[1]
                )

    assert len(asked) == (2 if killed else 1), "only what is certain is remembered"
