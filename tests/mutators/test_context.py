"""What a mutator may ask of the names around a node, where the file was traced."""

from __future__ import annotations

from collections.abc import Iterator

import libcst as cst
import pytest
from authoring import author

from halfhour.mutators import Context, find_sites, near_pair

CODE = """
class Cache:
    def read(self, q, k, v, scale):
        scores = q @ k
        weights = scores * scale
        later = weights
        return weights @ v
"""
KINDS = {
    "Cache.read.q": "float3",
    "Cache.read.k": "float3",
    "Cache.read.v": "float3",
    "Cache.read.scores": "float3",
    "Cache.read.weights": "float3",
    "Cache.read.later": "float3",
    "Cache.read.scale": "float",
}


@author(mutates={"a": []}, spares=["a"])
def value_is_read_for_another(node: cst.Name, context: Context) -> Iterator[cst.Name]:
    """A title.

    A lesson.
    """
    match context.parent(node):
        case cst.BinaryOperation(left=left) if left is node:
            for other in context.same_kind(node):
                yield node.with_changes(value=other)


def made_of(code: str, kinds: dict[str, str]) -> list[str]:
    sites = find_sites(code, [value_is_read_for_another], kinds=kinds.items())
    return [site.apply(code).splitlines()[site.line - 1].strip() for site in sites]


def test_only_what_is_bound_above_and_of_the_same_kind_is_offered() -> None:
    assert sorted(made_of(CODE, KINDS)) == [
        "return k @ v",
        "return later @ v",
        "return q @ v",
        "return scores @ v",
        "return v @ v",
        "scores = k @ k",
        "scores = v @ k",
        "weights = k * scale",
        "weights = q * scale",
        "weights = v * scale",
    ]


def test_in_a_file_that_was_not_traced_nothing_is_offered() -> None:
    assert made_of(CODE, {}) == []


def test_a_function_in_a_function_has_variables_of_its_own() -> None:
    code = "def f(a, b):\n    def g(c, d):\n        return c + d\n    return a + b\n"
    kinds = {"f.a": "int", "f.b": "int", "f.<locals>.g.c": "int", "f.<locals>.g.d": "int"}

    assert made_of(code, kinds) == ["return d + d", "return b + b"]


def test_what_people_take_for_it_comes_first() -> None:
    @author(mutates={"a": []}, spares=["a"])
    def first_of_its_kind_is_read(node: cst.Name, context: Context) -> Iterator[cst.Name]:
        """A title.

        A lesson.
        """
        if context.is_read(node) and (others := context.same_kind(node)):
            yield node.with_changes(value=others[0])

    code = "def f(a, value, key):\n    return [key]\n"
    kinds = {"f.a": "int1", "f.value": "int1", "f.key": "int1"}

    (site,) = find_sites(code, [first_of_its_kind_is_read], kinds=kinds.items())

    assert "return [value]" in site.apply(code)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("k", "v"),
        ("v", "k"),
        ("kv_len", "q_len"),
        ("new_keys", "new_values"),
        ("sin", "cos"),
        ("keys_seen", "values_seen"),
        ("scores", ""),
        ("marking", ""),
    ],
)
def test_names_that_are_taken_for_each_other(name: str, other: str) -> None:
    assert near_pair(name) == other
