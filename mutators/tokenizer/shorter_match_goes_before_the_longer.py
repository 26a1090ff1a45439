"""A bug where one string of a set is the beginning or the end of another."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, pattern, walk

NEGATIVE = pattern("-len($x)")


@mutator(
    topic="tokenizer",
    family="added-token-not-longest",
    hints=[
        "Take two strings of which one is the beginning of the other. Which of them is found?",
        "Where several strings match at one place, by what is it decided between them?",
        "Of several that match at the same place the longest is meant.",
    ],
    sightings=[
        Sighting(
            "https://github.com/invergent-ai/surogate/issues/157",
            "a token that begins another one won",
        ),
    ],
    mutates={
        """
        pattern = "|".join(map(re.escape, sorted(added, key=len, reverse=True)))
        """: """
        pattern = "|".join(map(re.escape, sorted(added, key=len)))
        """,
        """
        stops.sort(key=len, reverse=True)
        """: """
        stops.sort(key=len)
        """,
        """
        end, stop = min(found, key=lambda hit: (hit[0], -len(hit[1])))
        """: """
        end, stop = min(found, key=lambda hit: (hit[0], len(hit[1])))
        """,
        """
        n_held = max((len(start) for start in starts if text.endswith(start)), default=0)
        """: """
        n_held = min((len(start) for start in starts if text.endswith(start)), default=0)
        """,
    },
    spares=[
        "order = sorted(prompts, reverse=True)",
        "longest = max((len(row) for row in rows), default=0)",
        "batches = sorted(batches, key=lambda batch: -batch.priority)",
        "rows = sorted(rows, key=lambda row: -len(row))",
    ],
)
def shorter_match_goes_before_the_longer(
    node: cst.Call | cst.UnaryOperation, context: Context
) -> Iterator[cst.CSTNode]:
    """Where two strings match at the same place, the shorter one is taken.

    A special token may begin like another one, a stop string may end like another one. The text
    holds both then, and the longer one is meant: it explains all that the shorter one does, and
    more. An alternation in a regular expression takes the first of its branches that fits, so the
    order of the branches decides, and it must be by length.

    Most sets of such strings have no two that share a beginning, and then no order matters.
    """
    match node:
        case cst.UnaryOperation() if NEGATIVE.match(node) is not None:
            key = context.enclosing(node, cst.Lambda)
            if key is not None and isinstance(key.body, cst.Tuple):
                yield node.expression
        case cst.Call() if is_called(node, "sorted|sort"):
            words = {arg.keyword.value: arg for arg in node.args if arg.keyword is not None}
            if {"key", "reverse"} <= set(words) and is_called(words["key"].value, "len"):
                kept = [arg for arg in node.args if arg is not words["reverse"]]
                if is_called(words["reverse"].value, "True"):
                    kept[-1] = kept[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
                    yield node.with_changes(args=kept)
        case cst.Call(func=cst.Name("max")) if node.args and _measures_matches(node.args[0].value):
            yield node.with_changes(func=cst.Name("min"))


def _measures_matches(node: cst.BaseExpression) -> bool:
    """Tell `len(s) for s in strings if text.endswith(s)`."""
    match node:
        case cst.GeneratorExp(elt=cst.Call(func=cst.Name("len")), for_in=cst.CompFor(ifs=[check])):
            return any(re.fullmatch("endswith|startswith", word) for word in _words(check.test))
    return False


def _words(node: cst.CSTNode) -> Iterator[str]:
    return (n.value for n in walk(node) if isinstance(n, cst.Name))
