"""The decorator makes a record of a function, and refuses an author's mistake with `file:line`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst
import pytest
from authoring import author

from halfhour.mutators import Context, MutatorError, Sighting


def edge_is_let_in(node: cst.LessThan) -> Iterator[cst.LessThanEqual]:
    """A title.

    A lesson.
    """
    yield cst.LessThanEqual(node.whitespace_before, node.whitespace_after)


def without_docstring(node: cst.LessThan) -> Iterator[cst.LessThan]:
    yield node


def without_a_lesson(node: cst.LessThan) -> Iterator[cst.LessThan]:
    """A title."""
    yield node


def without_a_free_line(node: cst.LessThan) -> Iterator[cst.LessThan]:
    """A title.
    A lesson.
    """
    yield node


def without_annotation(node) -> Iterator[cst.CSTNode]:  # type: ignore[no-untyped-def]
    """A title.

    A lesson.
    """
    yield node


def wrong_annotation(node: int) -> Iterator[int]:
    """A title.

    A lesson.
    """
    yield node


def unknown_annotation(node: cst.NoSuchNode) -> Iterator[Any]:  # type: ignore[name-defined]
    """A title.

    A lesson.
    """
    yield node


def no_generator(node: cst.LessThan) -> list[cst.LessThan]:
    """A title.

    A lesson.
    """
    return [node]


def three_parameters(node: cst.LessThan, context: Context, more: int) -> Iterator[cst.LessThan]:
    """A title.

    A lesson.
    """
    del context, more
    yield node


def context_without_annotation(node: cst.LessThan, place: object) -> Iterator[cst.LessThan]:
    """A title.

    A lesson.
    """
    del place
    yield node


def notSnakeCase(node: cst.LessThan) -> Iterator[cst.LessThan]:
    """A title.

    A lesson.
    """
    yield node


def only_a_docstring() -> None:
    """A title.

    A lesson.
    """


def test_a_mutator_is_a_record_of_its_function_and_arguments() -> None:
    made = author(hints=("a", "b", "c"), spares=["a <= b"])(edge_is_let_in)

    assert made.name == "edge_is_let_in"
    assert made.title == "A title."
    assert made.lesson == "A lesson."
    assert made.hints == ("a", "b", "c")
    assert made.sightings == (Sighting("https://example.org/issues/1", "seen there"),)
    assert made.node_types == (cst.LessThan,)
    assert [(e.code, e.mutants) for e in made.mutates] == [("a < b", ("a <= b",))]
    assert made.where == f"{__file__}:{edge_is_let_in.__code__.co_firstlineno}"


def test_an_annotation_may_be_a_union() -> None:
    @author()
    def either_node_will_do(node: cst.LessThan | cst.GreaterThan) -> Iterator[cst.CSTNode]:
        """A title.

        A lesson.
        """
        yield node

    assert either_node_will_do.node_types == (cst.LessThan, cst.GreaterThan)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        pytest.param(without_docstring, "has no docstring", id="no docstring"),
        pytest.param(without_a_lesson, "has no lesson", id="a title only"),
        pytest.param(without_a_free_line, "has no lesson", id="no line between title and lesson"),
        pytest.param(without_annotation, "annotate the first parameter", id="no annotation"),
        pytest.param(wrong_annotation, "libcst nodes", id="not a node"),
        pytest.param(unknown_annotation, "cannot be resolved", id="no such node"),
        pytest.param(no_generator, "is not a generator", id="a plain function"),
        pytest.param(three_parameters, "second parameter", id="three parameters"),
        pytest.param(context_without_annotation, "annotate `place` with Context", id="context"),
        pytest.param(notSnakeCase, "snake_case", id="name"),
    ],
)
def test_a_badly_written_function_is_refused_at_its_line(
    function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(MutatorError) as refusal:
        author()(function)

    start = f"{__file__}:{function.__code__.co_firstlineno}: `{function.__name__}` "
    assert str(refusal.value).startswith(start)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"topic": ""}, "name one of masking, positions", id="no topic"),
        pytest.param({"topic": "mask"}, "the topic 'mask'", id="unknown topic"),
        pytest.param({"family": ""}, "has no family", id="no family"),
        pytest.param({"family": "Off By One"}, "in-kebab-case", id="family is no id"),
        pytest.param({"hints": ["a", "b"]}, "exactly three hints", id="two hints"),
        pytest.param({"hints": ["a", "b", " "]}, "exactly three hints", id="an empty hint"),
        pytest.param({"hints": "abc"}, "exactly three hints", id="hints are one string"),
        pytest.param({"sightings": []}, "has no sighting", id="no sighting"),
        pytest.param(
            {"sightings": [Sighting("mlx-lm#390", "there")]}, "no web address", id="no address"
        ),
        pytest.param({"mutates": {}}, "has no examples", id="no examples"),
        pytest.param({"rewrites": {"$a < $b": "$b"}}, "`rewrites`", id="rewrites and a generator"),
    ],
)
def test_a_badly_filled_in_decorator_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MutatorError) as refusal:
        author(**changes)(edge_is_let_in)

    assert str(refusal.value).startswith(f"{__file__}:")
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("rewrites", "names", "says"),
    [
        pytest.param({"$a <": "$a"}, {}, "is not Python", id="no Python"),
        pytest.param({"if $a: pass": "$a"}, {}, "not one simple statement", id="a compound"),
        pytest.param({"$a < $b": "$a < $c"}, {}, "a hole that", id="a hole out of nowhere"),
        pytest.param({"$a < $b": "$a"}, {"c": "k"}, "a hole named c", id="a name for no hole"),
    ],
)
def test_a_rewrite_that_cannot_hold_is_refused(
    rewrites: dict[str, str], names: dict[str, str], says: str
) -> None:
    with pytest.raises(MutatorError, match="has a rewrite that does not hold") as refusal:
        author(rewrites=rewrites, names=names)(only_a_docstring)

    assert says in str(refusal.value)


def test_an_example_that_is_not_python_is_no_obstacle_to_importing() -> None:
    author(mutates={"a <": "a"})(edge_is_let_in)


def test_the_function_may_ask_for_its_context() -> None:
    @author()
    def node_in_a_function(node: cst.Name, context: Context) -> Iterator[cst.CSTNode]:
        """A title.

        A lesson.
        """
        if context.enclosing(node, cst.FunctionDef) is not None:
            yield node

    module = cst.parse_module("x\n")
    name = cst.ensure_type(
        cst.ensure_type(module.body[0], cst.SimpleStatementLine).body[0], cst.Expr
    )

    assert list(node_in_a_function.visit(name.value, Context(module))) == []


def test_a_record_compares_by_what_it_says() -> None:
    assert author()(edge_is_let_in) == author()(edge_is_let_in)
