"""The checker of examples sees what does not hold; that all hold is in the contract."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import libcst as cst
import pytest
from authoring import author, less_becomes_less_or_equal, one_line_is_lost

from halfhour.mutators import check_examples


def test_the_helpers_examples_hold() -> None:
    assert check_examples(less_becomes_less_or_equal) == []
    assert check_examples(one_line_is_lost) == []


@pytest.mark.parametrize(
    ("mutates", "spares", "says"),
    [
        pytest.param({"a > b": "a >= b"}, [], "(none)", id="finds nothing"),
        pytest.param({"a < b": "a >= b"}, [], "and not these:\na >= b", id="makes something else"),
        pytest.param({"a < b < c": "a <= b < c"}, [], "a < b <= c", id="makes more"),
        pytest.param({"a < b": "a <= b"}, ["b < a"], "b <= a", id="does not spare"),
        pytest.param({"a <": "a <="}, [], "not Python", id="an example that does not parse"),
        pytest.param({"a > b": []}, [], "`spares`", id="no mutants"),
    ],
)
def test_an_example_that_does_not_hold_is_told(
    mutates: dict[str, str], spares: list[str], says: str
) -> None:
    @author(mutates=mutates, spares=spares)
    def edge_is_let_in(node: cst.LessThan) -> Iterator[cst.LessThanEqual]:
        """A title.

        A lesson.
        """
        yield cst.LessThanEqual(node.whitespace_before, node.whitespace_after)

    (problem,) = check_examples(edge_is_let_in)

    assert problem.startswith(f"{edge_is_let_in.where}: `edge_is_let_in` ")
    assert says in problem


def test_a_mutator_that_changes_its_mind_is_told() -> None:
    numbers = count()

    @author(mutates={"a": "b0"})
    def another_name_each_time(node: cst.Name) -> Iterator[cst.Name]:
        """A title.

        A lesson.
        """
        yield node.with_changes(value=f"b{next(numbers)}")

    assert "the second time" in check_examples(another_name_each_time)[0]


def test_a_mutator_that_fails_on_its_example_is_told() -> None:
    @author(mutates={"a": "b"})
    def nothing_changes(node: cst.Name) -> Iterator[cst.Name]:
        """A title.

        A lesson.
        """
        yield node

    assert "changes nothing" in check_examples(nothing_changes)[0]
