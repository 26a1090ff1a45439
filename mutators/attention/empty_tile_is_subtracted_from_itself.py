"""A bug in softmaxes whose rows may be empty."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    integer,
    is_called,
    mutator,
    pattern,
    same,
    uncommented,
)

SUMS = r"(\w+_)?(normali[sz]ers?|denom\w*|totals?|sums?|norms?|z|l|l_i|mass|exp_sum|counts?|n_\w+)"

INFINITE = [
    pattern(form)
    for form in ('float("-inf")', "float('-inf')", "-math.inf", "-np.inf", "-torch.inf", "NEG_INF")
]
FORMS = [
    pattern(form)
    for form in (
        "$x.masked_fill($x == $mark, $safe)",
        "torch.where($x == $mark, $safe, $x)",
        "np.where($x == $mark, $safe, $x)",
        "torch.where(torch.isinf($x), $safe, $x)",
        "np.where(np.isinf($x), $safe, $x)",
        "np.where(np.isneginf($x), $safe, $x)",
        "$x.masked_fill($x.isinf(), $safe)",
        "torch.where($x.isinf(), $safe, $x)",
        "$x.masked_fill(torch.isinf($x), $safe)",
        "$x.masked_fill(torch.isneginf($x), $safe)",
    )
]


@mutator(
    topic="attention",
    family="online-softmax-inf-minus-inf",
    hints=[
        "Mask all keys of a tile, or of a row. What becomes of the maximum, and of the result?",
        "Which subtractions and divisions can meet two infinities, or two zeros?",
        "A row without a key so far has the maximum -inf and the sum 0: neither may be used as is.",
    ],
    sightings=[
        Sighting(
            "https://github.com/flashinfer-ai/flashinfer/pull/4401",
            "the factor of an empty tile was NaN",
        ),
        Sighting("https://github.com/ROCm/aiter/pull/2505", "no guard for fully masked blocks"),
    ],
    mutates={
        'shift = new_max.masked_fill(new_max == float("-inf"), 0.0)': "shift = new_max",
        "out = acc / total.masked_fill(total == 0, 1.0)[..., None]": "out = acc / total[..., None]",
        "safe = np.where(np.isneginf(m), 0.0, m)": "safe = m",
    },
    spares=[
        "tokens = tokens.masked_fill(tokens == pad_id, 0)",
        "ids = torch.where(ids == PLACEHOLDER, 0, ids)",
        "scores = scores / torch.where(temperature == 0, 1.0, temperature)",
        'scores = scores.masked_fill(hidden, float("-inf"))',
    ],
)
def empty_tile_is_subtracted_from_itself(
    node: cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """A row that has seen no key so far is handled as if it had, and becomes NaN.

    The largest of no scores is -inf, and -inf minus -inf is NaN; the sum of no weights is 0, and 0
    divided by 0 is NaN as well. A tile that is masked for some query, a shard that holds nothing
    for it, or a query that sees no key at all, needs a stand-in before such a number is used.

    Under a plain causal mask every query sees the first key, so the first tile is never empty. It
    takes a window, padding or an empty part to come here.
    """
    for form in FORMS:
        found = form.match(node)
        if found is not None and _is_a_stand_in(found["x"], found.get("mark"), found["safe"]):
            line = context.statement(node)
            if line is not None and uncommented(line):
                yield found["x"]


def _is_a_stand_in(
    x: cst.BaseExpression, mark: cst.BaseExpression | None, safe: cst.BaseExpression
) -> bool:
    """Tell 0 for -inf, and 1 for a sum of 0."""
    value = _number(safe)
    if mark is None or any(same(form.tree, mark) for form in INFINITE):
        return value == 0
    return _number(mark) == 0 and value == 1 and is_called(x, SUMS)


def _number(node: cst.BaseExpression) -> float | None:
    if isinstance(node, cst.Float):
        return float(node.value)
    return integer(node)
