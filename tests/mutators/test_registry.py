"""Mutators are found where they lie; a plugin that does not load stops the run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
from authoring import author, less_becomes_less_or_equal, one_line_is_lost

from halfhour import mutators
from halfhour.mutators import (
    MutatorError,
    all_mutators,
    built_in_mutators,
    find_mutator,
    plugin_mutators,
)
from halfhour.mutators._registry import catalogue, only_mutator

PLUGIN = '''
from authoring import author
import libcst as cst


@author()
def a_bug_from_elsewhere(node: cst.LessThan):
    """A title.

    A lesson.
    """
    yield cst.LessThanEqual()


NOT_A_MUTATOR = 1
'''


def entry(value: str) -> EntryPoint:
    return EntryPoint(name="theirs", value=value, group="halfhour.mutators")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages, forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("theirs")]:
        del sys.modules[name]


def test_every_file_without_an_underscore_is_a_mutator() -> None:
    folder = Path(mutators.__file__).parent
    files = {path.stem for path in folder.glob("*/*.py") if path.name[0] != "_"}

    assert {mutator.name for mutator in built_in_mutators()} == files
    assert files


def test_mutators_come_in_the_order_of_topics_then_names() -> None:
    order = [(mutators.TOPICS.index(m.topic), m.name) for m in all_mutators()]

    assert order == sorted(order)


def test_a_mutator_is_found_by_its_name() -> None:
    for mutator in built_in_mutators():
        assert find_mutator(mutator.name) is mutator
    with pytest.raises(LookupError, match="no_such_bug"):
        find_mutator("no_such_bug")


@pytest.mark.parametrize("value", ["theirs_a", "theirs_a:a_bug_from_elsewhere"])
def test_a_plugin_names_a_module_or_a_mutator(site: Path, value: str) -> None:
    (site / "theirs_a.py").write_text(PLUGIN)

    (found,) = plugin_mutators([entry(value)])

    assert found.name == "a_bug_from_elsewhere"
    assert found.where == f"{site / 'theirs_a.py'}:6"


def test_a_plugin_that_is_a_package_is_walked(site: Path) -> None:
    for name in ("theirs_b", "theirs_b/masks"):
        (site / name).mkdir()
        (site / name / "__init__.py").write_text("")
    (site / "theirs_b/masks/a_bug_from_elsewhere.py").write_text(PLUGIN)

    assert [m.name for m in plugin_mutators([entry("theirs_b")])] == ["a_bug_from_elsewhere"]


def test_plugins_join_the_catalogue(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    (site / "theirs_c.py").write_text(PLUGIN)
    installed = {"halfhour.mutators": [entry("theirs_c")]}
    monkeypatch.setattr(
        "halfhour.mutators._registry.entry_points", lambda *, group: installed[group]
    )

    assert find_mutator("a_bug_from_elsewhere").file == str(site / "theirs_c.py")
    assert len(all_mutators()) == len(built_in_mutators()) + 1


def test_two_mutators_of_one_name_are_refused_with_both_places(site: Path) -> None:
    (site / "theirs_d.py").write_text(PLUGIN)
    (site / "theirs_e.py").write_text("\n" + PLUGIN)
    first, second = plugin_mutators([entry("theirs_d"), entry("theirs_e")])

    with pytest.raises(MutatorError) as refusal:
        catalogue([less_becomes_less_or_equal, first], [second])

    assert str(refusal.value).startswith(f"{site / 'theirs_e.py'}:7: `a_bug_from_elsewhere`")
    assert f"{site / 'theirs_d.py'}:6" in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        pytest.param("x = 1\nx.y\n", "theirs_f.py:2", "AttributeError", id="raises"),
        pytest.param("x = 1\n(\n", "theirs_f.py:2", "SyntaxError", id="is not Python"),
        pytest.param(
            "import torch_of_tomorrow\n", "theirs_f.py:1", "torch_of", id="lacks a package"
        ),
        pytest.param(
            PLUGIN.replace("author()", "author(hints=[])"), "theirs_f.py:6", "hints", id="misuses"
        ),
        pytest.param("x = 1\n", "theirs_f.py:1", "brings no mutator", id="is empty"),
    ],
)
def test_a_broken_plugin_stops_the_run_and_says_where(
    site: Path, text: str, place: str, says: str
) -> None:
    (site / "theirs_f.py").write_text(text)

    with pytest.raises(MutatorError, match=re.escape(says)) as refusal:
        plugin_mutators([entry("theirs_f")])

    assert str(refusal.value).startswith(f"{site / place}: ")


@pytest.mark.parametrize("value", ["theirs_nowhere", "authoring:nothing", "authoring:Any"])
def test_a_plugin_that_names_nothing_of_use_stops_the_run(value: str) -> None:
    with pytest.raises(MutatorError, match=f"theirs = {value}"):
        plugin_mutators([entry(value)])


def module_of(*held: object, name: str, file: str) -> ModuleType:
    module = ModuleType(f"halfhour.mutators.masking.{name}")
    module.__file__ = file
    vars(module).update({f"held_{number}": value for number, value in enumerate(held)})
    return module


def test_a_file_holds_one_mutator_named_as_itself() -> None:
    name, file = less_becomes_less_or_equal.name, less_becomes_less_or_equal.file

    fine = module_of(less_becomes_less_or_equal, name=name, file=file)
    assert only_mutator(fine, "masking") is less_becomes_less_or_equal

    for held in ([], [one_line_is_lost], [less_becomes_less_or_equal, one_line_is_lost]):
        with pytest.raises(MutatorError, match=f"{re.escape(file)}:1: .*one mutator"):
            only_mutator(module_of(*held, name=name, file=file), "masking")


def test_a_folder_is_its_topic() -> None:
    name, file = less_becomes_less_or_equal.name, less_becomes_less_or_equal.file
    module = module_of(less_becomes_less_or_equal, name=name, file=file)

    with pytest.raises(MutatorError, match="lies in positions/ but its topic is masking"):
        only_mutator(module, "positions")


def test_an_imported_mutator_belongs_to_the_file_that_defines_it(site: Path) -> None:
    (site / "theirs_g.py").write_text(f"from authoring import one_line_is_lost\n{PLUGIN}")

    assert [m.name for m in plugin_mutators([entry("theirs_g")])] == ["a_bug_from_elsewhere"]


def test_the_helper_leaves_no_trace_in_the_catalogue() -> None:
    author()

    assert less_becomes_less_or_equal not in all_mutators()
