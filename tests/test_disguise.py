"""A disguised file does what the original does, and looks like another file."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import inprocess
import pytest

from halfhour.generator import library, lint, textdiff
from halfhour.generator.disguise import disguise, disguise_text
from halfhour.generator.plant import plant_text
from halfhour.generator.records import Subject
from halfhour.mutators import built_in_mutators

ROOT = Path(__file__).resolve().parent.parent
NAMES = [subject.name for subject in library.subjects()]
CASES = [(name, 1 + i % 3) for i, name in enumerate(NAMES)]
"""Every subject with one of three seeds."""
SPREAD = [
    case if number % 3 == 0 else pytest.param(*case, marks=pytest.mark.thorough)
    for number, case in enumerate(CASES)
]

every_subject = pytest.mark.parametrize(("name", "seed"), SPREAD)


@cache
def original(name: str) -> Subject:
    return library.find_subject(name)


@cache
def made(name: str, seed: int) -> Subject:
    return disguise(original(name), seed)


# The correct files.


@every_subject
def test_every_promise_is_kept_and_the_visible_test_passes(
    name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = made(name, seed)

    assert inprocess.broken_promises(name, subject.source, seed=seed) == {}
    module = inprocess.load(name, subject.source)
    monkeypatch.setitem(sys.modules, name, module)
    tests = inprocess.load(f"{name}_visible", subject.visible_tests)
    for test in inprocess.promises_in(tests).values():
        assert inprocess.failure(test, inprocess.Subject(module), seed=seed) is None


@every_subject
def test_many_lines_differ_and_no_linter_minds(name: str, seed: int) -> None:
    before, after = original(name).source, made(name, seed).source

    assert textdiff.changed_lines(before, after) >= 40
    assert lint.new_findings(before, after) == []
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--check", "--line-length=100"]
    run = subprocess.run([*command, "-"], input=after, text=True, capture_output=True, check=False)
    assert run.returncode == 0, run.stderr


def signatures(source: str) -> dict[str, str]:
    """Return what a caller can see: the parameters of functions, bases of classes, and fields."""
    seen: dict[str, str] = {}

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            match node:
                case ast.FunctionDef(name=name):
                    seen[prefix + name] = ast.unparse(node.args)
                case ast.ClassDef(name=name):
                    seen[prefix + name] = ", ".join(ast.unparse(base) for base in node.bases)
                    visit(node.body, f"{prefix}{name}.")
                case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                    seen[prefix + ast.unparse(target)] = "a variable"

    visit(ast.parse(source).body, "")
    return {name: what for name, what in seen.items() if not private(name.rpartition(".")[2])}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@every_subject
def test_public_names_and_signatures_stay(name: str, seed: int) -> None:
    before, after = original(name), made(name, seed)

    where = Path(before.file_name)
    assert set(library.public_names(after.source, where)) == set(before.public_names)
    assert after.public_names == before.public_names
    # An alias for annotations is private, and may be called something else.
    alias = re.compile(r"\b_[A-Z]\w+")
    was, now = (
        {name: alias.sub("_Alias", what) for name, what in signatures(s.source).items()}
        for s in (before, after)
    )
    assert now == was


def test_other_seeds_give_other_files() -> None:
    assert len({made("block_manager", seed).source for seed in (1, 2, 3)}) == 3


def test_every_process_gives_the_same_bytes() -> None:
    code = (
        "from halfhour.generator import library\n"
        "from halfhour.generator.disguise import disguise\n"
        "for name in ('block_manager', 'weight_quant'):\n"
        "    print(disguise(library.find_subject(name), 1).source)\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    here = [made(name, 1).source for name in ("block_manager", "weight_quant")]
    assert there == "".join(f"{source}\n" for source in here)


def test_mutators_find_most_of_their_places_again() -> None:
    """Names stay in the field's vocabulary, and idioms are those that mutators know."""
    before: Counter[str] = Counter()
    found = 0
    for name in ("sliding_window_decoder", "token_sampler"):
        topics = original(name).topics
        mutators = [m for m in built_in_mutators() if m.topic in topics]
        sites = Counter(m.mutator for m in plant_text(name, original(name).source, mutators))
        hit = [m for m in mutators if m.name in sites]
        again = Counter(m.mutator for m in plant_text(name, made(name, 1).source, hit))
        found += (sites & again).total()
        before += sites

    assert before.total() > 30
    assert found >= 0.85 * before.total()


# Names.


def variants(code: str, head: str = "") -> set[str]:
    """Return what some seeds make of a piece of code, which is laid out as it was."""
    text = f"{head}\n\n\n\n\n\n{code}"  # more blank lines than a formatter leaves
    return {disguise_text(text, seed).removeprefix(f"{head}\n\n\n\n\n\n") for seed in range(16)}


def test_a_local_variable_has_other_names() -> None:
    code = "def f(a):\n    bar = a + 1\n    return [bar for _ in a]\n"

    assert variants(code) == {
        code,
        code.replace("bar", "threshold"),
        code.replace("bar", "least_allowed"),
    }


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("def f(bar):\n    return bar\n", id="a parameter of a public function"),
        pytest.param("bar = 1\n\n\ndef f():\n    return bar\n", id="a name of the module"),
        pytest.param("def f(a):\n    bar = a\n    return locals()\n", id="beside locals()"),
        pytest.param('def f(a):\n    bar = a\n    return f"{bar=}"\n', id="an f-string says it"),
        pytest.param(
            "def f(a):\n    bar = a\n\n    def g():\n        nonlocal bar\n        bar = 2\n\n"
            "    g()\n",
            id="nonlocal",
        ),
        pytest.param("def f(a):\n    global bar\n    bar = a\n", id="global"),
        pytest.param(
            "def f(a):\n    # the bar is high\n    bar = a\n    return bar\n",
            id="a remark in prose",
        ),
        pytest.param("def _g(bar):\n    return bar\n\n\nx = _g(bar=1)\n", id="named in a call"),
        pytest.param("class A:\n    bar: int = 1\n", id="a field"),
        pytest.param(
            "def f(a):\n    bar = threshold = least_allowed = a\n    return bar\n", id="all taken"
        ),
    ],
)
def test_a_name_that_others_can_see_stays(code: str) -> None:
    assert all("threshold" not in v.replace("threshold = least", "") for v in variants(code))
    assert all("bar" in variant for variant in variants(code))


def test_a_remark_that_means_the_variable_follows_it() -> None:
    code = (
        "def f(a):\n    # `bar`: what counts; sorted_logits too\n"
        "    bar = sorted_logits = a\n    return bar, sorted_logits\n"
    )

    for variant in variants(code):
        bound = variant.split("\n")[2].split(" = ")
        assert f"`{bound[0].strip()}`" in variant
        assert f"; {bound[1]} too" in variant


def test_a_private_name_is_another_one_everywhere() -> None:
    code = (
        "class A:\n    def __init__(self):\n        self._held = 1\n\n"
        "    def _fits(self):\n        # what `_held` says\n        return self._held\n\n"
        "    def go(self):\n        return self._fits()\n"
    )

    found = variants(code)
    assert len(found) > 2
    for variant in found:
        module = inprocess.load("a", variant)
        assert module.A().go() == 1
        assert variant.count("_held") in (0, 3)
        assert variant.count("_fits") in (0, 2)


def test_a_private_name_that_a_string_or_a_test_reaches_stays() -> None:
    code = "class A:\n    def _fits(self):\n        return getattr(self, '_fits')\n"

    assert variants(code) == {code}
    plain = "def _fits():\n    return 1\n"
    assert {disguise_text(plain, seed, elsewhere=frozenset({"_fits"})) for seed in range(9)} == {
        plain
    }


# Order.


def test_definitions_change_places_but_none_stands_before_what_it_needs() -> None:
    code = (
        "class Base:\n    pass\n\n\nclass Child(Base):\n    pass\n\n\n"
        "def first(a=Base):\n    return a\n\n\n@first\ndef second():\n    return 1\n"
    )

    found = variants(code)
    assert len(found) > 1
    for variant in found:
        inprocess.load("a", variant)


def test_a_heading_keeps_its_place_and_the_constructor_comes_first() -> None:
    code = (
        "class A:\n    def __init__(self):\n        pass\n\n    def b(self):\n        pass\n\n"
        "    def c(self):\n        pass\n\n    # Later.\n\n    def d(self):\n        pass\n\n"
        "    # about e\n    def e(self):\n        pass\n"
    )

    orders = set()
    for variant in variants(code):
        above, below = variant.split("# Later.")
        assert above.startswith("class A:\n    def __init__")
        assert {"def b", "def c"} <= {line.strip()[:5] for line in above.split("\n")}
        assert "# about e\n    def e" in below
        orders.add(variant)
    assert len(orders) == 4


# Idioms.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x[:, None]", "x.unsqueeze(1)"),
        ("x[..., None]", "x.unsqueeze(-1)"),
        ("x.softmax(dim=-1)", "torch.softmax(x, dim=-1)"),
        ("torch.softmax(x, dim=-1)", "x.softmax(dim=-1)"),
        ("torch.cat((x, y), dim=1)", "torch.cat([x, y], dim=1)"),
        ("torch.cat([x, y], dim=1)", "torch.cat((x, y), dim=1)"),
        ("torch.zeros(x, y, dtype=z)", "torch.zeros((x, y), dtype=z)"),
        ("torch.zeros((x, y), dtype=z)", "torch.zeros(x, y, dtype=z)"),
        ("torch.empty(*x, y)", "torch.empty((*x, y))"),
        ("x.transpose(1, 2)", "x.transpose(2, 1)"),
        ("x.to(torch.long)", "x.to(torch.int64)"),
        ("x < y - 1", "y - 1 > x"),
        ("len(x) >= y", "y <= len(x)"),
        ("x if y is None else z", "z if y is not None else x"),
        ("x if not y else z", "z if y else x"),
    ],
)
def test_an_expression_has_another_form(one: str, other: str) -> None:
    form = "def f(x, y, z):\n    return {}\n"

    assert variants(form.format(one), "import torch") == {form.format(one), form.format(other)}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("x[:, None] = y", id="a target"),
        pytest.param("del x[:, None]", id="deleted"),
        pytest.param("return x[0, None]", id="an index beside it"),
        pytest.param("return x[None]", id="perhaps a key"),
        pytest.param("return torch.zeros(x)", id="perhaps a shape already"),
        pytest.param("return y.f() < x.g()", id="the order of calls"),
        pytest.param("return x < 3", id="a constant belongs on the right"),
        pytest.param("return 1 <= x < y", id="a chain"),
        pytest.param("return x if y == z else 0", id="not its own opposite on tensors"),
        pytest.param("x += 1", id="an argument is changed in place"),
        pytest.param('return f"{x[:, None]}"', id="within an f-string"),
    ],
)
def test_what_may_mean_something_else_stays(line: str) -> None:
    code = f"def f(x, y, z):\n    {line}\n"

    assert variants(code, "import torch") == {code}


def test_with_numpy_about_nothing_is_taken_for_a_tensor() -> None:
    code = "def f(x):\n    return x[:, None]\n"

    assert variants(code, "import numpy as np\nimport torch") == {code}


def test_statements_have_other_forms() -> None:
    code = (
        "def f(x):\n    a = 0\n    if x is None:\n        a += 1\n"
        "    else:\n        a -= 2\n    return a\n"
    )

    found = variants(code)
    assert any("if x is not None:\n        a" in variant for variant in found)
    assert any("a = a + 1" in variant for variant in found)
    for variant in found:
        f = inprocess.load("a", variant).f
        assert (f(None), f(0)) == (1, -2)


def test_neighbours_that_do_not_know_each_other_change_places() -> None:
    code = "def f(x):\n    a = x.b\n    c = 1\n    d = c\n    return a, c, d\n"

    assert variants(code) == {
        code,
        code.replace("    a = x.b\n    c = 1\n", "    c = 1\n    a = x.b\n"),
    }


# Words.


def test_a_docstring_says_the_same_in_other_words() -> None:
    code = '''def f(x):
    """Choose a key; what a slot holds makes no difference.

    >>> f("Choose, it does not matter")
    """
'''

    found = variants(code)
    assert {line.split('"""')[1].split()[0] for v in found for line in [v.split("\n")[1]]} == {
        "Choose",
        "Pick",
        "Select",
    }
    assert any("does not matter." in variant for variant in found)
    assert all('>>> f("Choose, it does not matter")' in variant for variant in found)


def test_no_line_grows_too_long() -> None:
    """A name that would make a remark or a message too long is called something else."""
    message = "m" * 78
    code = f'def f(a):\n    bar = a\n    return f"{message}{{bar}}"\n'

    assert max(len(line) for line in code.split("\n")) == 97
    assert all(len(line) <= 100 for v in variants(code) for line in v.split("\n"))
    assert all("threshold" not in variant for variant in variants(code))
