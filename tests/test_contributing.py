"""The walk of CONTRIBUTING.md is walked: its commands and its file, outside of the checkout."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from homes import make_home

from halfhour.generator import catalogue
from halfhour.generator.commands.mutators import mutators
from halfhour.generator.commands.subjects import subjects

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Walk:
    """What the section about bugs tells an author to run and to write."""

    commands: tuple[tuple[str, tuple[str, ...]], ...]
    """Each with the lines that it is said to print."""
    file: str

    @property
    def name(self) -> str:
        return self.commands[0][0].split()[3]


@pytest.fixture(scope="module")
def walk() -> Walk:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("## I want to add a bug")[2].partition("\n## ")[0]
    blocks = BLOCK.findall(section)
    (file,) = [body for kind, body in blocks if kind == "python"]
    runs = re.split(
        r"^\$ ", "".join(body for kind, body in blocks if kind == "console"), flags=re.M
    )
    commands = [run.partition("\n") for run in runs if run]
    return Walk(tuple((line, tuple(rest.splitlines())) for line, _, rest in commands), file)


def run(command: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = shlex.split(command)
    assert program == "halfhour"
    return subprocess.run(
        [sys.executable, "-m", "halfhour.generator", *arguments, *options],
        cwd=folder,
        env={**os.environ, "HALFHOUR_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_walk_begins_a_bug_checks_it_and_certifies_it(walk: Walk) -> None:
    verbs = [shlex.split(command)[1:3] for command, _ in walk.commands]

    assert verbs == [["mutators", "new"], ["mutators", "check"], ["mutators", "try"]]
    assert "--certify" in walk.commands[-1][0]


def test_the_bug_of_the_walk_is_still_to_be_added(walk: Walk) -> None:
    """Else `new` would refuse the name to who follows."""
    assert walk.name not in {entry.name for entry in catalogue.entries()}


def test_who_walks_ends_with_a_certified_puzzle(walk: Walk, tmp_path: Path) -> None:
    """As CONTRIBUTING.md says: outside of the checkout the commands take the file."""
    (new, _), (check, _), (attempt, printed) = walk.commands
    file = f"{walk.name}.py"
    make_home(tmp_path / "home")

    assert run(new, tmp_path).stdout == f"{file}\n"
    unfilled = run(check.replace(walk.name, file), tmp_path)
    assert unfilled.returncode == 1
    assert "still to fill in" in unfilled.stdout

    (tmp_path / file).write_text(walk.file, encoding="utf-8")
    checked = run(check.replace(walk.name, file), tmp_path)
    assert checked.returncode == 0, checked.stdout

    tried = run(attempt.replace(walk.name, file), tmp_path)
    assert tried.returncode == 0, tried.stderr
    for line in set(printed) - {"..."}:
        assert re.search(rf"^{re.escape(line)}", tried.stdout, re.MULTILINE), line
    assert tried.stdout.count("site ") == 1


def test_the_entry_point_of_the_walk_is_the_one_that_is_read() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

    assert f'[project.entry-points."{catalogue.PLUGIN_GROUP}"]' in text


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_author_command_that_is_told_exists(name: str) -> None:
    groups = {"mutators": mutators, "subjects": subjects}
    text = (ROOT / name).read_text(encoding="utf-8")

    told = re.findall(r"halfhour (mutators|subjects) ([a-z]+)", text)

    assert told
    assert [verb for group, verb in told if verb not in groups[group].commands] == []
