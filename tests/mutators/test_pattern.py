"""Code with holes matches by structure, and is rewritten with the least change."""

from __future__ import annotations

import libcst as cst
import pytest
from authoring import author

from halfhour.mutators import Mutator, find_sites, name_of, pattern


def holes(template: str, code: str, **names: str) -> dict[str, str] | None:
    """Return the text in each hole; None where the pattern does not match."""
    found = pattern(template, **names).match(cst.parse_expression(code))
    if found is None:
        return None
    return {hole: cst.Module([]).code_for_node(node) for hole, node in found.items()}


@pytest.mark.parametrize(
    ("template", "code", "expected"),
    [
        pytest.param("$a - $b", "x[0]-f(y)", {"a": "x[0]", "b": "f(y)"}, id="spaces"),
        pytest.param("$a - $b", "(x\n - y)", {"a": "x", "b": "y"}, id="parentheses and lines"),
        pytest.param("$a - $b", "x + y", None, id="another operator"),
        pytest.param("f($a, dim=$d)", "f(x, dim=-1,)", {"a": "x", "d": "-1"}, id="comma"),
        pytest.param("f(a=$a, b=$b)", "f(b=1, a=2)", {"a": "2", "b": "1"}, id="keyword order"),
        pytest.param("f($a, $b)", "f(x)", None, id="too few arguments"),
        pytest.param("f($a)", "f(*x)", None, id="a starred argument"),
        pytest.param("cat(($x, $x))", "cat((u, u))", {"x": "u"}, id="the same hole twice"),
        pytest.param("cat(($x, $x))", "cat((u, v))", None, id="two different things"),
        pytest.param("$x[..., $i:]", "a.b[..., 1:]", {"x": "a.b", "i": "1"}, id="slices"),
        pytest.param("$x.$method(1)", "y.sum(1)", {"x": "y", "method": "sum"}, id="a method"),
        pytest.param("'cpu'", '"cpu"', None, id="strings are compared as written"),
    ],
)
def test_a_pattern_matches_structure(
    template: str, code: str, expected: dict[str, str] | None
) -> None:
    assert holes(template, code) == expected


@pytest.mark.parametrize(
    ("code", "matches"),
    [
        ("q - window", True),
        ("q - self.window", True),
        ("q - windows[layer]", False),
        ("q - window[:, None]", True),
        ("q - config.get_window()", False),
        ("q - 4", False),
    ],
)
def test_a_hole_can_be_asked_for_its_name(code: str, matches: bool) -> None:
    assert (holes("$q - $w", code, w="window|span") is not None) is matches


def test_a_pattern_can_be_a_simple_statement() -> None:
    line = cst.ensure_type(cst.parse_statement("n = n - 1"), cst.SimpleStatementLine)

    found = pattern("$x = $x - $y").match(line.body[0])

    assert found is not None
    assert name_of(found["x"]) == "n"


def rewriting(rewrites: dict[str, str], **names: str) -> Mutator:
    @author(rewrites=rewrites, names=names)
    def one_thing_becomes_another() -> None:
        """A title.

        A lesson.
        """

    return one_thing_becomes_another


@pytest.mark.parametrize(
    ("before", "after", "code", "expected"),
    [
        pytest.param("$a < $b", "$a <= $b", "x<( y )", "x<=( y )", id="spaces are kept"),
        pytest.param("$a < $b", "$a <= $b", "(x <\n y)", "(x <=\n y)", id="lines are kept"),
        pytest.param("f($a) * $b", "f($a * $b)", "f(x)*(y + z)", "f(x * (y + z))", id="grouped"),
        pytest.param("f($a * $b)", "f($a) * $b", "f((x + 1) * y)", "f(x + 1) * y", id="ungrouped"),
        pytest.param("$a - $b", "$b - $a", "x - (y + z)", "(y + z) - x", id="exchanged"),
        pytest.param("$a * $b", "$a", "(x + 1) * y", "(x + 1)", id="dropped"),
        pytest.param("g($a)", "$a + 1", "g(x) * y", "(x + 1) * y", id="looser than around it"),
        pytest.param("g($a)", "$a + 1", "g(x) < y", "x + 1 < y", id="tighter than around it"),
        pytest.param("g($a)", "$a + 1", "-g(x).T", "-(x + 1).T", id="an attribute of it"),
        pytest.param("g($a)", "$a", "z * g(x - y)", "z * (x - y)", id="an argument on its own"),
        pytest.param("$a.f()", "g($a)", "(x + y).f()", "g(x + y)", id="into an argument"),
    ],
)
def test_a_rewrite_changes_only_what_differs(
    before: str, after: str, code: str, expected: str
) -> None:
    (site,) = find_sites(f"{code}\n", [rewriting({before: after})])

    assert site.apply(f"{code}\n") == f"{expected}\n"


def test_several_rewrites_make_one_mutator() -> None:
    code = "x < window\nwindow > y\nx < y\n"
    mutator = rewriting({"$a < $w": "$a <= $w", "$w > $a": "$w >= $a"}, w="window")

    assert [site.apply(code) for site in find_sites(code, [mutator])] == [
        "x <= window\nwindow > y\nx < y\n",
        "x < window\nwindow >= y\nx < y\n",
    ]
