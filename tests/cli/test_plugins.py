"""A package of somebody else's: its bug and its file are listed, tried, proven and held against
the same tests as ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from homes import make_home

from halfhour.generator import scaffold

BUG = "empty_row_is_divided_by_zero"
FILE = "row_softmax"
ENTRY_POINTS = """
[halfhour.mutators]
theirs = their_bugs

[halfhour.subjects]
theirs = their_files
"""
MUTATOR = f'''
from halfhour.mutators import Sighting, mutator

@mutator(
    topic="attention",
    family="sum-without-guard",
    hints=[
        "What comes back for a query that sees no key at all?",
        "Look for the divisions. Which divisor can be zero?",
        "A sum over nothing is zero, and has to be replaced before it divides.",
    ],
    sightings=[Sighting("https://tracker.example.org/bugs/17", "a padded row was all NaN")],
    rewrites={{"torch.where($total > 0, $total, $one)": "$total"}},
    names={{"total": "total|denominator"}},
    mutates={{
        "w = e / torch.where(total > 0, total, 1.0)": "w = e / total",
        "p = q / torch.where(self.total > 0, self.total, one)": "p = q / self.total",
    }},
    spares=["w = e / total", "w = torch.where(total > 0, e / total, 0)"],
)
def {BUG}() -> None:
    """A row that sees nothing is divided by its sum, which is zero.

    Weights are exponentials divided by their sum. A row without any visible key has only zeros, and
    so has its sum: the sum is replaced by one there, and the weights stay zero. Without it the row
    turns to NaN, and the values that are read with it do too.

    Whole prompts never have such a row. It takes padding in front, or a batch of unequal lengths.
    """
'''


class Environment:
    """A folder of installed packages, and commands that see it."""

    def __init__(self, site: Path) -> None:
        self.site = site
        self.mutator = site / "their_bugs" / f"{BUG}.py"

    def install(self) -> None:
        info = self.site / "theirs-1.0.dist-info"
        subject = self.site / "their_files" / FILE
        for folder in (info, self.mutator.parent, subject):
            folder.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        (self.mutator.parent / "__init__.py").touch()
        (subject.parent / "__init__.py").touch()
        self.mutator.write_text(MUTATOR, encoding="utf-8")
        for name, text in scaffold.subject_files(FILE).items():
            (subject / name).write_text(text.replace("FILL IN", "Filled in"), encoding="utf-8")

    def halfhour(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self._run("halfhour.generator", *arguments)

    def contract(self) -> subprocess.CompletedProcess[str]:
        """Run the tests that ship with halfhour, on what the plugin brings."""
        chosen = ["-q", "-rA", "-p", "no:cacheprovider", "-k", f"{BUG} or {FILE} or loads"]
        return self._run("pytest", *chosen, "--pyargs", "halfhour.generator.contract")

    def _run(self, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.site,
            env={
                **os.environ,
                "PYTHONPATH": str(self.site),
                "HALFHOUR_HOME": str(self.site / "home"),
            },
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def plugin(tmp_path: Path) -> Environment:
    environment = Environment(tmp_path)
    environment.install()
    make_home(tmp_path / "home")
    return environment


@pytest.mark.parametrize(("kind", "name"), [("mutators", BUG), ("subjects", FILE)])
def test_a_plugin_is_listed_among_ours(plugin: Environment, kind: str, name: str) -> None:
    listed = json.loads(plugin.halfhour(kind, "list", "--json").stdout)[kind]

    assert name in {entry["name"] for entry in listed}
    assert len(listed) > 10


def test_a_plugins_bug_is_planted_in_its_own_file_and_certified(plugin: Environment) -> None:
    ended = plugin.halfhour("mutators", "try", BUG, "--subject", FILE, "--certify", "--json")

    assert ended.returncode == 0, ended.stderr
    (site,) = json.loads(ended.stdout)["sites"]
    assert site["status"] == "certified"
    assert site["broken"] == ["test_a_query_that_sees_nothing_gets_zeros"]


def test_a_plugin_keeps_the_contract(plugin: Environment) -> None:
    ended = plugin.contract()

    assert ended.returncode == 0, ended.stdout
    for test in (
        "test_every_mutator_loads",
        f"test_its_examples_hold[{BUG}]",
        f"test_formatting_is_untouched[{BUG}]",
        f"test_a_subject_keeps_the_rule[{FILE}-promises_are_sentences]",
    ):
        assert test in ended.stdout


def test_a_plugin_that_breaks_the_contract_is_told_where(plugin: Environment) -> None:
    plugin.mutator.write_text(
        MUTATOR.replace('total, 1.0)": "w = e / total"', 'total, 1.0)": "w = total"'), "utf-8"
    )
    hidden = plugin.site / "their_files" / FILE / "test_hidden.py"
    text = hidden.read_text(encoding="utf-8")
    hidden.write_text(text.replace("divided by their sum.", "divided"), "utf-8")
    promise = "test_weights_are_a_softmax_over_the_visible_keys"
    line = text[: text.index(f"def {promise}")].count("\n") + 1

    ended = plugin.contract()

    assert ended.returncode == 1
    assert f"{plugin.mutator}:4: `{BUG}` makes of\n" in ended.stdout
    assert f"{hidden}:{line}: {promise} says" in ended.stdout
    assert "2 failed" in ended.stdout


def test_a_plugin_that_does_not_load_is_one_red_test(plugin: Environment) -> None:
    plugin.mutator.write_text(MUTATOR.replace('family="sum-without-guard"', 'family=""'), "utf-8")

    ended = plugin.contract()

    assert ended.returncode == 1
    assert f"{plugin.mutator}:4: `{BUG}` has no family" in ended.stdout
    assert "1 failed" in ended.stdout
