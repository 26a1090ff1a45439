"""A bug in stops that are longer than one token."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, mutator, pattern, same, walk

TAIL = pattern("$x[-len($stop) :]")
ONE = cst.Slice(lower=cst.UnaryOperation(cst.Minus(), cst.Integer("1")), upper=None)


# Fits one subject: only static batching stops at sequences of tokens.
@mutator(
    topic="batching",
    family="stop-string-must-align-with-token",
    hints=[
        "Give a stop of two tokens, and let the second of them come up without the first.",
        "How much of what was generated is compared with a stop, and with how much of it?",
        "A stop was met when the text ends with all of it, from its first token to its last.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/3672",
            "stops of several tokens were not handled",
        ),
        Sighting("https://github.com/mzau/mlx-knife/issues/68", "each piece was checked alone"),
    ],
    mutates={
        "hit = tokens[-len(stop) :] == list(stop)": "hit = tokens[-1:] == list(stop[-1:])",
        "hit = any(np.array_equal(self.ids[-len(s):], s) for s in stops)": (
            "hit = any(np.array_equal(self.ids[-1:], s[-1:]) for s in stops)"
        ),
    },
    spares=[
        "hit = text.endswith(stop)",
        "tail = tokens[-len(stop) :]",
        "hit = tokens[-len(stop) :] == expected",
    ],
)
def stop_is_known_by_its_last_token(
    node: cst.Comparison | cst.Call,
) -> Iterator[cst.CSTNode]:
    """The newest token is compared with the last one of a stop, and the rest of the stop is not.

    A stop sequence may have several tokens, and an answer ends when its last tokens are all of
    them, in order. Looked at one token at a time, any text with the last token of a stop seems to
    end with the stop.

    Most stops are one token long, where both are the same, and an answer that ends too early is
    taken for a short one.
    """
    tails = [n for n in walk(node) if TAIL.match(n) is not None]
    if len(tails) != 1 or not isinstance(tails[0], cst.Subscript):
        return
    found = TAIL.match(tails[0])
    sides = [s for s in _sides(node) if not any(n is tails[0] for n in walk(s))]
    if found is None or len(sides) != 1:
        return
    stop = next((n for n in walk(sides[0]) if same(n, found["stop"])), None)
    if isinstance(stop, cst.BaseExpression):
        changed = node.deep_replace(stop, _last(stop))
        yield changed.deep_replace(
            next(n for n in walk(changed) if same(n, tails[0])), _last(tails[0].value)
        )


def _sides(node: cst.Comparison | cst.Call) -> list[cst.BaseExpression]:
    """Return the two things that are compared."""
    match node:
        case cst.Comparison(
            left=left, comparisons=[cst.ComparisonTarget(operator=cst.Equal(), comparator=right)]
        ):
            return [left, right]
        case cst.Call(args=[cst.Arg(value=left), cst.Arg(value=right)]):
            return [left, right]
    return []


def _last(tokens: cst.BaseExpression) -> cst.Subscript:
    return cst.Subscript(tokens, [cst.SubscriptElement(ONE)])
