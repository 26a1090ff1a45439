"""Planting is pure: the same file and mutators give the same mutants, each one small edit."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import libcst as cst
import pytest
import toy
from authoring import author, less_becomes_less_or_equal, one_line_is_lost

from halfhour.generator.errors import AuthorError, UnsoundSubject
from halfhour.generator.library import find_subject
from halfhour.generator.plant import plant, plant_text
from halfhour.generator.records import Mutant
from halfhour.mutators import Mutator, built_in_mutators

ROOT = Path(__file__).resolve().parent.parent
CODE = '''"""Größer und kleiner: \N{GREEK SMALL LETTER ALPHA} < \N{GREEK SMALL LETTER BETA}."""


def ordered(a, b, c):
    near = a<b  # wide
    if (
        b < c
    ):
        return "ß" if a < c else near
    return b
'''


def planted(text: str, *mutators: Mutator) -> list[str]:
    """Return the mutated texts."""
    return [mutant.source for mutant in plant_text("text", text, mutators)]


def test_sites_are_numbered_in_reading_order_for_each_mutator() -> None:
    mutants = plant_text("text", CODE, [one_line_is_lost, less_becomes_less_or_equal])

    assert [(m.mutator, m.site, m.line) for m in mutants] == [
        ("one_line_is_lost", 0, 1),
        ("one_line_is_lost", 1, 5),
        ("one_line_is_lost", 2, 10),
        ("less_becomes_less_or_equal", 0, 5),
        ("less_becomes_less_or_equal", 1, 7),
        ("less_becomes_less_or_equal", 2, 9),
    ]


def test_a_mutant_is_its_smallest_edit() -> None:
    first, second, third = plant_text("text", CODE, [less_becomes_less_or_equal])

    for mutant in (first, second, third):
        assert mutant.edit.apply(CODE) == mutant.source
        assert mutant.edit.replacement == "="
        assert mutant.edit.start == mutant.edit.end
    assert "near = a<=b  # wide\n" in first.source
    assert "        b <= c\n" in second.source
    assert '"ß" if a <= c else near\n' in third.source


def test_an_id_names_the_file_the_mutator_the_place_and_the_replacement() -> None:
    @author(mutates={"a < b": "a <= b"})
    def the_same_under_another_name(node: cst.LessThan) -> Iterator[cst.LessThanEqual]:
        """A title.

        A lesson.
        """
        yield cst.LessThanEqual(node.whitespace_before, node.whitespace_after)

    def ids(text: str, mutator: Mutator) -> list[str]:
        return [mutant.id for mutant in plant_text("text", text, [mutator])]

    mine = ids(CODE, less_becomes_less_or_equal)
    assert mine == ids(CODE, less_becomes_less_or_equal)
    assert len(set(mine)) == 3
    assert not set(mine) & set(ids(CODE, the_same_under_another_name))
    assert not set(mine) & set(ids(CODE + "# more\n", less_becomes_less_or_equal))


def test_a_subject_is_planted_by_its_source_and_name() -> None:
    mutants = plant(toy.subject(), [one_line_is_lost])

    assert {mutant.subject for mutant in mutants} == {"toy"}
    assert list(mutants) == list(plant_text("toy", toy.SOURCE, [one_line_is_lost]))


def test_every_process_plants_the_same_mutants() -> None:
    name = "token_sampler"
    code = (
        "from halfhour.generator.plant import plant\n"
        "from halfhour.generator.library import find_subject\n"
        "from halfhour.mutators import built_in_mutators\n"
        f"for mutant in plant(find_subject({name!r}), built_in_mutators()):\n"
        "    print(mutant.id, mutant.mutator, mutant.site, mutant.line)\n"
    )

    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    here = plant(find_subject(name), built_in_mutators())
    assert there == [f"{m.id} {m.mutator} {m.site} {m.line}" for m in here]
    assert len(there) >= 15


def test_what_needs_several_lines_keeps_its_parentheses() -> None:
    @author(mutates={"a.b()": "a"}, spares=["a"])
    def last_call_is_lost(node: cst.Call) -> Iterator[cst.BaseExpression]:
        """A title.

        A lesson.
        """
        match node.func:
            case cst.Attribute(value=cst.Call() as inner):
                yield inner

    (mutant,) = plant_text(
        "chain", "x = (\n    a.view(\n        1,\n    )\n    .double()\n)\n", [last_call_is_lost]
    )

    assert ast.unparse(ast.parse(mutant.source)) == "x = a.view(1)"


def test_two_ways_to_one_mutant_are_one_site() -> None:
    @author(mutates={"a": "b"})
    def a_name_is_changed_twice(node: cst.Name) -> Iterator[cst.Name]:
        """A title.

        A lesson.
        """
        yield node.with_changes(value="z")
        yield node.with_changes(value="z")

    assert planted("a\nb\n", a_name_is_changed_twice) == ["z\nb\n", "a\nz\n"]


COMMENTED = """def f():
    a = 1  # one

    # About this part.

    # about b
    # and why
    b = 2
    # end
"""


def test_a_lost_line_takes_its_own_comment_along_and_nothing_else() -> None:
    assert planted(COMMENTED, one_line_is_lost) == [
        COMMENTED.replace("    a = 1  # one\n", ""),
        COMMENTED.replace("    # about b\n    # and why\n    b = 2\n", ""),
    ]


def test_the_only_line_of_a_block_stays() -> None:
    assert planted("if a:\n    b\n", one_line_is_lost) == []


def test_a_lost_line_at_the_end_of_a_text_without_newline() -> None:
    assert planted("a\nb", one_line_is_lost) == ["b", "a\n"]


def test_a_compound_statement_can_be_lost() -> None:
    @author(mutates={"a": "b"})
    def the_guard_is_lost(node: cst.If) -> Iterator[cst.RemovalSentinel]:
        """A title.

        A lesson.
        """
        del node
        yield cst.RemoveFromParent()

    text = "def f(x):\n    if not x:\n        raise ValueError\n    return x\n"

    assert planted(text, the_guard_is_lost) == ["def f(x):\n    return x\n"]
    assert planted("if a:\n    b\nelif c:\n    d\n", the_guard_is_lost) == []


def test_lines_of_a_nested_block_keep_their_indentation() -> None:
    @author(mutates={"a": "b"})
    def the_order_is_reversed(node: cst.IndentedBlock) -> Iterator[cst.IndentedBlock]:
        """A title.

        A lesson.
        """
        if len(node.body) > 1:
            yield node.with_changes(body=node.body[::-1])

    text = "class A:\n\tdef f(self):\n\t\tx = (1,\n\t\t     2)\n\t\treturn x\n"

    assert planted(text, the_order_is_reversed) == [
        "class A:\n\tdef f(self):\n\t\treturn x\n\t\tx = (1,\n\t\t     2)\n"
    ]


def test_a_replacement_keeps_its_operands_together() -> None:
    @author(mutates={"a": "b"})
    def one_is_added(node: cst.Name) -> Iterator[cst.BinaryOperation]:
        """A title.

        A lesson.
        """
        yield cst.BinaryOperation(node, cst.Add(), cst.Integer("1"))

    assert planted("a * 2 < b\n", one_is_added) == ["(a + 1) * 2 < b\n", "a * 2 < b + 1\n"]


@pytest.mark.parametrize(
    ("replacement", "says"),
    [
        pytest.param(cst.Name("a"), "changes nothing at line 2 of text", id="a no-op"),
        pytest.param(cst.Name("class"), "not Python at line 2 of text", id="a keyword"),
        pytest.param(None, "raised AttributeError", id="no node"),
    ],
)
def test_a_mutator_that_misbehaves_is_an_authors_error(
    replacement: cst.Name | None, says: str
) -> None:
    @author(mutates={"a": "b"})
    def this_misbehaves(node: cst.Name) -> Iterator[cst.CSTNode | None]:
        """A title.

        A lesson.
        """
        if node.value == "a":
            yield replacement

    with pytest.raises(AuthorError) as refusal:
        plant_text("text", "x = 1\ny = a\n", [this_misbehaves])

    assert str(refusal.value).startswith(f"{this_misbehaves.where}: `this_misbehaves` ")
    assert says in str(refusal.value)


def test_a_mutator_that_raises_is_an_authors_error() -> None:
    @author(mutates={"a": "b"})
    def this_raises(node: cst.Name) -> Iterator[cst.Name]:
        """A title.

        A lesson.
        """
        yield {"b": node}[node.value]

    with pytest.raises(AuthorError, match=r"raised KeyError \('a'\) at line 1 of text"):
        plant_text("text", "a\n", [this_raises])


def test_a_file_that_is_not_python_is_no_fault_of_the_mutators() -> None:
    with pytest.raises(UnsoundSubject, match="text does not parse at line 2"):
        plant_text("text", "a = 1\nb = (\n", [one_line_is_lost])


def everything(subject: str, *, name: str = "text") -> tuple[Mutant, ...]:
    text = (ROOT / "solutions" / subject / f"{subject}.py").read_text("utf-8")
    return plant_text(name, text, built_in_mutators())


@pytest.mark.parametrize("subject", ["sliding_window_decoder", "token_sampler"])
def test_no_two_mutants_of_a_subject_are_equal(subject: str) -> None:
    """Not even of different mutators: a candidate never meets one bug under two names."""
    sources = [mutant.source for mutant in everything(subject)]

    assert len(sources) >= 15
    assert len(sources) == len(set(sources))


@pytest.mark.parametrize("subject", ["sliding_window_decoder", "token_sampler"])
def test_a_whole_file_is_planted_in_about_a_second(subject: str) -> None:
    start = time.process_time()
    everything(subject, name="parsed for this test")

    assert time.process_time() - start < 8  # on a processor that others share
