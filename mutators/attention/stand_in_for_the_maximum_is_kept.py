"""A bug in softmaxes whose rows may be empty."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mutator, pattern, uncommented, walk

SAFE = [
    pattern(form)
    for form in (
        "$x.masked_fill($x == $mark, $zero)",
        "torch.where($x == $mark, $zero, $x)",
        "np.where($x == $mark, $zero, $x)",
        "torch.where(torch.isinf($x), $zero, $x)",
        "np.where(np.isinf($x), $zero, $x)",
        "np.where(np.isneginf($x), $zero, $x)",
    )
]
MARK = r"NEG_INF|inf|float"


@mutator(
    topic="attention",
    family="safe-max-sentinel-kept-as-running-max",
    hints=[
        "Mask the first keys of a row and make all others very negative, -200. What comes out?",
        "There is a true maximum and one that is safe to subtract. Which of them is kept?",
        "The stand-in for -inf serves one subtraction; what is handed on is the true maximum.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Dao-AILab/flash-attention/issues/2082",
            "heads were zeroed after an empty tile",
        ),
        Sighting(
            "https://github.com/Dao-AILab/flash-attention/pull/2174",
            "the true maximum is saved first",
        ),
    ],
    mutates={
        """
        def update(self, scores):
            new_max = torch.maximum(self.m, scores.amax(-1))
            shift = new_max.masked_fill(new_max == NEG_INF, 0.0)
            self.total = self.total * torch.exp(self.m - shift) + torch.exp(scores - shift).sum(-1)
            self.m = new_max
        """: """
        def update(self, scores):
            new_max = torch.maximum(self.m, scores.amax(-1))
            shift = new_max.masked_fill(new_max == NEG_INF, 0.0)
            self.total = self.total * torch.exp(self.m - shift) + torch.exp(scores - shift).sum(-1)
            self.m = shift
        """,
        """
        def part(logits):
            peak = logits.max(-1)
            safe = np.where(np.isneginf(peak), 0.0, peak)
            return peak, np.exp(logits - safe[:, None]).sum(-1)
        """: """
        def part(logits):
            peak = logits.max(-1)
            safe = np.where(np.isneginf(peak), 0.0, peak)
            return safe, np.exp(logits - safe[:, None]).sum(-1)
        """,
    },
    spares=[
        """
        def merge(lses):
            top = lses.amax(0)
            shift = top.masked_fill(top == NEG_INF, 0.0)
            return shift + torch.exp(lses - shift).sum(0).log()
        """,
        """
        def fill(tokens):
            safe = tokens.masked_fill(tokens == pad, 0)
            return tokens, safe
        """,
    ],
)
def stand_in_for_the_maximum_is_kept(
    node: cst.Assign | cst.Return, context: Context
) -> Iterator[cst.CSTNode]:
    """The zero that stands in for -inf in one subtraction is kept as the maximum of the row.

    As long as a row has seen no key its maximum is -inf, and a stand-in of 0 keeps `-inf - -inf`
    out of the exponent. It is meant for this one use. Kept as the maximum, it can never be
    undercut: if all later scores are far below 0 their exponentials vanish, and the row has a sum
    of zero in spite of its keys.

    It takes an empty first part and very negative scores after it; other rows are exact to the last
    bit.
    """
    line = context.statement(node)
    if line is None or not uncommented(line) or node.value is None:
        return
    for above in context.before(node):
        found = assigned(above)
        if found is None or not isinstance(found[0], cst.Name):
            continue
        raw = _sanitised(found[1])
        if raw is None:
            continue
        match node.value:
            case cst.Name(value=kept) if kept == raw:
                yield node.with_changes(value=found[0])
            case cst.Tuple(elements=[cst.Element(value=cst.Name(value=kept)), *rest]) if (
                kept == raw
            ):
                first = node.value.elements[0].with_changes(value=found[0])
                yield node.with_changes(value=node.value.with_changes(elements=[first, *rest]))


def _sanitised(value: cst.BaseExpression) -> str | None:
    """Return the variable of which this is the copy without infinities."""
    for form in SAFE:
        found = form.match(value)
        if found is None or not isinstance(found["x"], cst.Name):
            continue
        if "mark" not in found or any(
            isinstance(n, cst.Name) and n.value in MARK.split("|") for n in walk(found["mark"])
        ):
            return found["x"].value
    return None
