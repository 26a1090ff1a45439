"""What the judge costs, as ratios that are measured side by side in one run.

    python bench/judge.py [ROUNDS]

    warm verdict    thirty promises of a real file, by a judge that has worked before, beside
                    `python -c "import torch"`; at most 0.5
    cost of a mutant  seconds of the processor to certify one as `halfhour certify` does, screened
                    together and confirmed by the judge, beside the very runs that takes, by pytest
                    in this process without any judge; at most 1.3
    two jobs        how much faster than one the same mutants are certified; at least 1.7 on a
                    machine with two idle cores

Exits with 1 where a bound is missed.
"""

from __future__ import annotations

import ast
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
import torch
from processes import cpu_s
from rival_conftest import Plain

from halfhour.generator import library
from halfhour.generator.cache import ProofCache
from halfhour.generator.certify import Certifier, hidden_trial, seeds, visible_trial
from halfhour.generator.judge import Judge
from halfhour.generator.judge.plugin import PromisesPlugin
from halfhour.generator.judge.session import Session
from halfhour.generator.judge.subject import Subject as PromisedSubject
from halfhour.generator.judge.trial import PYTEST_ARGUMENTS
from halfhour.generator.plant import plant_text
from halfhour.generator.records import Certificate, Mutant, Status, Subject, Trial, VerdictKind
from halfhour.generator.screen import Screen
from halfhour.mutators import all_mutators

PROMISES = 30
SUBJECTS = ("sliding_window_decoder", "token_sampler")
FIRST = 4
"""Mutants of each subject that are certified before anything is measured: enough that the screen
finds out what they reach."""
MUTANTS = 8
"""That are measured, at a time as `halfhour certify` takes them."""
FOR_JOBS = "sliding_window_decoder"
"""The file with most mutants: what `--jobs` is for. Each job starts processes of its own, and those
seconds do not become fewer."""


def main(rounds: int) -> int:
    torch_s = statistics.median(seconds(import_torch) for _ in range(rounds))
    print(f"import torch            {torch_s:6.2f} s")
    within = [
        told("warm verdict", warm_verdict_s(rounds) / torch_s, most=0.5),
        told("cost of a mutant", cost_of_a_mutant(), most=1.3),
        told("two jobs", speed_of_two_jobs(), least=1.7),
    ]
    return 0 if all(within) else 1


def told(name: str, ratio: float, *, most: float = 1e9, least: float = 0.0) -> bool:
    """Print a ratio beside its bound; tell whether it holds."""
    good = least <= ratio <= most
    bound = f"at least {least}" if least else f"at most {most}"
    print(f"{name:<20} {ratio:8.2f} x   {bound}{'' if good else '   MISSED'}", flush=True)
    return good


def seconds(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def import_torch() -> None:
    subprocess.run([sys.executable, "-c", "import torch"], check=True)


def warm_verdict_s(rounds: int) -> float:
    """Return the median seconds of a verdict, of the slower subject."""
    medians = []
    with Judge(many=True) as judge:
        for name in SUBJECTS:
            trial = first_promises(library.find_subject(name), PROMISES)
            taken = []
            for _ in range(rounds + 1):
                verdict = judge.verdict(trial)
                assert verdict.kind is VerdictKind.FIXED, verdict.reason
                taken.append(verdict.seconds)
            medians.append(statistics.median(taken[1:]))
            print(f"  {name}: {PROMISES} promises in {medians[-1]:.2f} s")
    return max(medians)


def first_promises(subject: Subject, count: int) -> Trial:
    """Return the trial of the correct file against its first promises."""
    kept = {promise.name for promise in subject.promises[:count]}
    dropped = [
        node
        for node in ast.parse(subject.hidden_tests).body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and node.name not in kept
    ]
    lines = subject.hidden_tests.splitlines(keepends=True)
    for node in reversed(dropped):
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        del lines[first - 1 : node.end_lineno]
    whole = hidden_trial(subject, subject.source, 1)
    return Trial(
        name=whole.name,
        source=whole.source,
        tests="".join(lines),
        promises=subject.promises[:count],
        public_names=whole.public_names,
        seed=whole.seed,
    )


def cost_of_a_mutant() -> float:
    """Return the seconds of the processor that certifying takes, over those without a judge.

    The first mutants of each file also pay for starting the processes, proving the correct file
    and tracing what its promises run; that is paid once, and not counted.
    """
    judged = plain = 0.0
    found: list[Certificate] = []
    torch.set_num_threads(1)  # as the judge's processes have it
    with tempfile.TemporaryDirectory() as folder, Judge(many=True) as judge, Screen() as screen:
        certifier = Certifier(judge, ProofCache(Path(folder)), screen=screen)
        for subject in map(library.find_subject, SUBJECTS):
            planted = plant_text(subject.name, subject.source, all_mutators())[: FIRST + MUTANTS]
            work = [(mutant, False) for mutant in planted]
            first = certifier.certify_screened(subject, work[:FIRST])
            assert any(one.status is Status.CERTIFIED for one in first), "nothing was traced"
            begun = cpu_s(os.getpid())
            found += certifier.certify_screened(subject, work[FIRST:])
            judged += cpu_s(os.getpid()) - begun
            statuses = {one.mutant: one.status for one in found}
            plain += sum(plain_cpu_s(subject, m, statuses[m.id]) for m in planted[FIRST:])
    puzzles = sum(one.status is Status.CERTIFIED for one in found)
    print(
        f"  {len(found)} mutants, {puzzles} of them puzzles:"
        f" {judged:.1f} s certifying, {plain:.1f} s in this process"
    )
    return judged / plain


def plain_cpu_s(subject: Subject, mutant: Mutant, status: Status) -> float:
    """Return the seconds that the runs of one certificate take by themselves.

    They are the visible test; where that passes, the promises under both seeds; of a puzzle then
    both tests once more, for the judge to confirm it.
    """
    visible = visible_trial(subject, mutant.source)
    both = [hidden_trial(subject, mutant.source, seed) for seed in seeds(subject)]
    trials = [] if status is Status.NOISY else [visible]
    if status not in (Status.NOISY, Status.VISIBLE):
        trials += both
    if status is Status.CERTIFIED:
        trials += [visible, both[1]]
    begun = time.process_time()
    for trial in trials:
        run_promises(trial)
    return time.process_time() - begun


def run_promises(trial: Trial) -> None:
    """Run every test of a trial as the court does, but on the module itself."""
    module = ModuleType(trial.name)
    sys.modules[trial.name] = module
    exec(compile(trial.source, f"{trial.name}.py", "exec"), module.__dict__)
    plugin = PromisesPlugin(
        trial.tests,
        [promise.name for promise in trial.promises],
        cast(Session, SimpleNamespace(fault=None)),
        cast(PromisedSubject, Plain(module)),
        seed=trial.seed,
        hasty=False,
        begun=lambda _: None,
        ended=lambda _: None,
    )
    pytest.main(list(PYTEST_ARGUMENTS), plugins=[plugin])
    assert not plugin.problem, plugin.problem


def speed_of_two_jobs() -> float:
    """Return how much sooner two jobs end than one."""
    taken = {}
    for jobs in (1, 2):
        with tempfile.TemporaryDirectory() as home:
            command = [sys.executable, "-m", "halfhour.generator", "certify", "--jobs", str(jobs)]
            begun = time.perf_counter()
            subprocess.run(
                [*command, "--subject", FOR_JOBS],
                env={"PATH": "/usr/bin:/bin", "HALFHOUR_HOME": home},
                capture_output=True,
                check=True,
            )
            taken[jobs] = time.perf_counter() - begun
    print(f"  {taken[1]:.1f} s with one job, {taken[2]:.1f} s with two")
    print(f"  two loops that share nothing end {speed_of_two_loops():.2f} x as soon here")
    return taken[1] / taken[2]


def speed_of_two_loops() -> float:
    """Return what this machine makes of two processes at best, right now."""
    loop = [sys.executable, "-S", "-c", "for _ in range(40_000_000): pass"]

    def side_by_side(count: int) -> float:
        begun = time.perf_counter()
        for process in [subprocess.Popen(loop) for _ in range(count)]:
            process.wait()
        return time.perf_counter() - begun

    taken = [(side_by_side(1), side_by_side(2)) for _ in range(3)]
    return statistics.median(2 * one / two for one, two in taken)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
