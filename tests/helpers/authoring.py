"""Mutators for tests, with all that the decorator asks for filled in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import libcst as cst

from halfhour.mutators import Mutator, Sighting, mutator


def author(**changes: Any) -> Callable[[Callable[..., Any]], Mutator]:
    """Return the decorator with valid arguments, but for the changes."""
    arguments: dict[str, Any] = {
        "topic": "masking",
        "family": "swa-window-off-by-one",
        "hints": ["Try this.", "Look there.", "This is the rule."],
        "sightings": [Sighting("https://example.org/issues/1", "seen there")],
        "mutates": {"a < b": "a <= b"},
    }
    return mutator(**{**arguments, **changes})


@author(
    mutates={
        "a < b": "a <= b",
        "x = [a < b, c < d]": ["x = [a <= b, c < d]", "x = [a < b, c <= d]"],
    }
)
def less_becomes_less_or_equal(node: cst.LessThan) -> Iterator[cst.LessThanEqual]:
    """A comparison lets its edge in.

    The edge belongs to neither side.
    """
    yield cst.LessThanEqual(node.whitespace_before, node.whitespace_after)


@author(mutates={"a = 1\nb = 2": ["b = 2", "a = 1"]})
def one_line_is_lost(node: cst.SimpleStatementLine) -> Iterator[cst.RemovalSentinel]:
    """A line is lost.

    It was needed.
    """
    del node
    yield cst.RemoveFromParent()
