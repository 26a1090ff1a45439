"""What the screen costs beside the same promises without isolation, and beside general tools.

    python bench/screen.py [SUBJECT]

Counted are seconds of the processor per mutant, of all processes, without what is paid once: the
imports, the collection of the tests, their run on the correct file. All have the same hidden tests.

    screen      the visible test, then every promise: a certificate names all that break
    floor       the same in this process, one mutant after the other, with the fixture `subject` of
                the screen, which copies what it is given and tells which copies changed
    bare floor  with the module itself as `subject`; without a bound
    mutmut      forks each mutant from a warm process, stops at the first promise that breaks
    cosmic-ray  starts `pytest -x` for each mutant

The tools make mutants of their own, so the screen tries theirs beside each. Exits with
1 where a bound is missed. Needs Linux, whose /proc tells what a running process took.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import cast

os.environ["OMP_NUM_THREADS"] = "1"  # as the screen has it; read when torch is imported

import processes
import torch
from judge import told
from rival_conftest import Plain
from rivals import cosmic_ray, mutmut

from halfhour.generator import library
from halfhour.generator.certify import seeds
from halfhour.generator.plant import plant_text
from halfhour.generator.records import Outcome, Subject
from halfhour.generator.screen import Screen
from halfhour.generator.screen.items import Suite, collect
from halfhour.generator.screen.subject import Subject as ScreenSubject
from halfhour.generator.screen.subject import load
from halfhour.mutators import all_mutators

ROUNDS = 5
MOST = 40
"""Of our own mutants; the tools are slower and get"""
MUTMUT, COSMIC_RAY = 12, 4


def main(name: str) -> int:
    torch.set_num_threads(1)
    subject = library.find_subject(name)
    seed = seeds(subject)[0]
    ours = [m.source for m in plant_text(name, subject.source, all_mutators())][:MOST]
    with tempfile.TemporaryDirectory() as folder, Screen() as screen:

        def sift(texts: Sequence[str]) -> None:
            screen.sift(subject, texts, seeds=[seed])

        sift(ours[:1])
        child = only_child()
        floors = Floors(subject, seed)
        taken: dict[str, list[float]] = {}
        for _ in range(ROUNDS):
            taken.setdefault("screen", []).append(cpu_s(child, lambda: sift(ours)))
            taken.setdefault("floor", []).append(own_cpu_s(lambda: floors.run(ours)))
            taken.setdefault("bare floor", []).append(own_cpu_s(lambda: floors.run_bare(ours)))
        print(f"{name}, {len(ours)} of our mutants")
        each = {who: statistics.median(times) / len(ours) for who, times in taken.items()}
        for who, seconds in each.items():
            row(who, seconds, each["screen"])
        ratios = [a / b for a, b in zip(taken["screen"], taken["floor"], strict=True)]
        within = [told("screen to floor", statistics.median(ratios), most=1.3)]

        for run, count, least in ((mutmut, MUTMUT, 4.0), (cosmic_ray, COSMIC_RAY, 80.0)):
            who = run.__name__.replace("_", "-")
            theirs = run(Path(folder) / who, subject, seed=seed, mutants=count)
            texts = theirs.texts
            times = [cpu_s(child, lambda texts=texts: sift(texts)) for _ in range(ROUNDS)]
            beside = statistics.median(times) / len(texts)
            print(f"{name}, {len(texts)} mutants of {who}, {count} of them tried by it")
            row("screen", beside, beside)
            row(who, theirs.each, beside)
            within.append(told(f"{who} to screen", theirs.each / beside, least=least))
    return 0 if all(within) else 1


def row(who: str, seconds: float, screen: float) -> None:
    """Print what one way takes for a mutant, and how often the screen's time that is."""
    print(f"  {who:<12} {seconds:8.4f} s a mutant  {seconds / screen:8.2f}", flush=True)


class Floors:
    """The tests of a subject, called in this process."""

    def __init__(self, subject: Subject, seed: int) -> None:
        self._name = subject.name
        self._seed = seed
        correct = ScreenSubject(load(subject.name, subject.source), subject.source)
        tests = (
            (subject.visible_tests, subject.visible_promises),
            (subject.hidden_tests, subject.promises),
        )
        self._suites: list[Suite] = []
        for text, promises in tests:
            suite = collect(subject.name, text, [each.name for each in promises], correct)
            suite.measure(correct, seed=seed)
            self._suites.append(suite)
        gc.collect()
        gc.freeze()  # as in the screen, whose children inherit what needs no looking at

    def run(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._run(ScreenSubject(load(self._name, text), text))

    def run_bare(self, texts: Sequence[str]) -> None:
        for text in texts:
            self._run(cast(ScreenSubject, Bare(load(self._name, text))))

    def _run(self, subject: ScreenSubject) -> None:
        for suite in self._suites:
            found = suite.run(subject, seed=self._seed)
            if any(outcome is not Outcome.KEPT for outcome, _ in found.values()):
                return


class Bare(Plain):
    """The module itself, as a suite of the screen wants it."""

    def as_module(self) -> ModuleType:
        """Return what a visible test imports."""
        return self._module


def own_cpu_s(action: Callable[[], object]) -> float:
    begun = time.process_time()
    action()
    return time.process_time() - begun


def cpu_s(child: int, action: Callable[[], object]) -> float:
    """Return what an action takes in this process and in a child with its children."""
    before = processes.cpu_s(child)
    here = own_cpu_s(action)
    return here + processes.cpu_s(child) - before


def only_child() -> int:
    """Return the process that was started."""
    files = Path("/proc/self/task").glob("*/children")
    (child,) = (int(each) for file in files for each in file.read_text(encoding="utf-8").split())
    return child


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "attention_masks"))
