"""General mutation testing tools, run for real on a project of one subject and its hidden tests.

Each tool mutates as it likes. What it costs is counted from its first mutant to its last, so that
its start, the making of its mutants and its trial run of the tests are not; `texts` are mutants
of the tool, so that the screen can be given the same.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, WorkItem

from halfhour.generator.records import Subject

CONFTEST = Path(__file__).resolve().parent / "rival_conftest.py"

_MANY = 40

_MUTMUT = """
[tool.mutmut]
source_paths = ["src"]
pytest_add_cli_args_test_selection = ["tests"]
track_dependencies = false
use_git_change_detection = false
"""
_COSMIC_RAY = """
[cosmic-ray]
module-path = "src/{name}.py"
timeout = 60.0
excluded-modules = []
test-command = "{python} -m pytest -x -q tests"
distributor.name = "local"
"""
_MAKE_MUTANTS = """
from mutmut.__main__ import copy_src_dir, create_mutants, makedirs, setup_source_paths
makedirs("mutants")
copy_src_dir()
setup_source_paths()
create_mutants(1)
"""
_RUN_MUTMUT = """
import resource, sys
from mutmut.__main__ import cli
from mutmut.workers.isolation import ForkRunner

def cpu_s():
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)

def begin(runner, startup=ForkRunner.startup):
    global begun
    begun = cpu_s()
    startup(runner)

def end(runner, shutdown=ForkRunner.shutdown):
    shutdown(runner)
    open("cpu_s", "w").write(str(cpu_s() - begun))

ForkRunner.startup, ForkRunner.shutdown = begin, end
cli()
"""
_APPLY = """
import json, pathlib, sys
from mutmut.mutation.diff_apply import apply_mutant
path = pathlib.Path(sys.argv[1])
source, texts = path.read_text(), []
for name in sys.argv[2:]:
    apply_mutant(name)
    texts.append(path.read_text())
    path.write_text(source)
print(json.dumps(texts))
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a tool took for some mutants."""

    texts: tuple[str, ...]
    """Those mutants, or more of the tool's where it takes the same time for each."""
    each: float
    """Seconds of the processor for one."""


class RivalError(Exception):
    """A tool did not do its work; the message has what it printed."""


class Project:
    """A folder that a tool finds the file and its hidden tests in."""

    def __init__(self, folder: Path, subject: Subject, *, seed: int) -> None:
        self.folder = folder
        self.file = folder / "src" / subject.file_name
        (folder / "src").mkdir(parents=True)
        (folder / "tests").mkdir()
        self.file.write_text(subject.source, encoding="utf-8")
        (folder / "tests" / "test_hidden.py").write_text(subject.hidden_tests, encoding="utf-8")
        shutil.copy(CONFTEST, folder / "tests" / "conftest.py")
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",  # or torch hangs in a forked child
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "SUBJECT": subject.name,
            "SEED": str(seed),
        }

    def python(self, *arguments: str, **environment: str) -> str:
        """Run Python in the folder; return what it printed. Raises RivalError."""
        run = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self._environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise RivalError(f"{' '.join(arguments)[:200]}:\n{run.stdout[-3000:]}{run.stderr}")
        return run.stdout

    def cpu_s(self, *arguments: str, **environment: str) -> float:
        """Run Python in the folder; return what it and its children took. Raises RivalError."""
        before = _children_cpu_s()
        self.python(*arguments, **environment)
        return _children_cpu_s() - before


def mutmut(folder: Path, subject: Subject, *, seed: int, mutants: int) -> Cost:
    """Let mutmut try so many mutants, far from each other in the file. Raises RivalError.

    It forks each from a process that has imported torch and pytest, runs the promises that call the
    mutated function, the quickest first, and stops at the first that breaks.
    """
    project = Project(folder, subject, seed=seed)
    (folder / "pyproject.toml").write_text(_MUTMUT, encoding="utf-8")
    record = folder / "mutants" / "src" / f"{subject.file_name}.meta"
    project.python("-c", _MAKE_MUTANTS)
    names = _spread(list(_outcomes(record)), mutants)
    project.python("-c", _RUN_MUTMUT, "run", "--max-children", "1", *names)
    outcomes = [_outcomes(record)[name] for name in names]
    if not {0, 1}.issuperset(outcomes):  # as pytest exits; anything else was not tried
        raise RivalError(f"mutmut could not try every mutant: {outcomes}")
    texts = json.loads(project.python("-c", _APPLY, f"src/{subject.file_name}", *names))
    return Cost(tuple(texts), float((folder / "cpu_s").read_text(encoding="utf-8")) / mutants)


def cosmic_ray(folder: Path, subject: Subject, *, seed: int, mutants: int) -> Cost:
    """Let cosmic-ray try so many mutants, far from each other in the file. Raises RivalError.

    It writes each to the file and starts `pytest -x` in a process of its own, which costs the same
    for any mutant: the texts are those of many more, for the screen's own seconds differ.
    """
    project = Project(folder, subject, seed=seed)
    text = _COSMIC_RAY.format(name=subject.name, python=sys.executable)
    (folder / "config.toml").write_text(text, encoding="utf-8")
    cli = ("-m", "cosmic_ray.cli")
    project.python(*cli, "init", "config.toml", "session.sqlite")
    with use_db(str(folder / "session.sqlite")) as session:
        specs = {item.job_id: item.mutations[0] for item in session.work_items}
        in_order = sorted(specs.items(), key=lambda each: each[1].start_pos)
        kept = _spread(in_order, mutants)
        session.clear()
        session.add_work_items(WorkItem.single(*each) for each in kept)
    execute = (*cli, "exec", "config.toml", "session.sqlite")
    taken = [project.cpu_s(*execute, PYTHONPATH="src") for _ in ("all of them", "none left")]
    with use_db(str(folder / "session.sqlite")) as session:
        outcomes = [result.test_outcome for _, result in session.results]
    if len(outcomes) != mutants or not {"killed", "survived"}.issuperset(outcomes):
        raise RivalError(f"cosmic-ray could not try every mutant: {outcomes}")
    texts = [_applied(subject.source, spec) for _, spec in _spread(in_order, _MANY)]
    return Cost(tuple(texts), (taken[0] - taken[1]) / mutants)


def _applied(source: str, spec: MutationSpec) -> str:
    operator = get_operator(spec.operator_name)(**spec.operator_args)
    return str(mutate_code(source, operator, spec.occurrence))


def _spread(found: Sequence[Any], count: int) -> list[Any]:
    """Return so many of a sequence, from begin to end."""
    if len(found) < count:
        raise RivalError(f"there are {len(found)} mutants, not {count}")
    return [found[len(found) * i // count] for i in range(count)]


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _outcomes(record: Path) -> dict[str, int | None]:
    """Return how pytest exited for each of mutmut's mutants, None where it did not run."""
    found: dict[str, int | None] = json.loads(record.read_text("utf-8"))["exit_code_by_key"]
    return found
