"""A bug in means over the part of the entries that counts."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, same, walk

COUNTS = r"(\w+_)?(mask|kept|keep|valid|real|attention_mask|loss_mask|not_pad|is_real)"


@mutator(
    topic="sharding",
    family="mean-over-padding",
    hints=[
        "Add some entries that do not count. The mean should stay as it is; does it?",
        "A sum is divided by a number. Which entries does the number count?",
        "A mean is divided by the number of just those entries that went into the sum.",
    ],
    sightings=[
        Sighting("https://github.com/HKUDS/LightRAG/pull/3675", "the mean took padding along"),
        Sighting(
            "https://github.com/pytorch/pytorch/issues/47858", "bags with much padding were skewed"
        ),
    ],
    mutates={
        """
        def loss(losses, mask):
            return (losses * mask).sum() / mask.sum()
        """: """
        def loss(losses, mask):
            return (losses * mask).sum() / mask.numel()
        """,
        """
        def loss(nll, targets, ignore_index):
            kept = targets != ignore_index
            losses = nll[kept]
            return losses.sum() / max(losses.numel(), 1)
        """: """
        def loss(nll, targets, ignore_index):
            kept = targets != ignore_index
            losses = nll[kept]
            return losses.sum() / max(kept.numel(), 1)
        """,
        """
        counted = bags if self.padding_idx is None else bags[tokens != self.padding_idx]
        """: """
        counted = bags
        """,
        "n_real = len(tokens) if keep is None else int(keep.sum())": "n_real = len(tokens)",
    },
    spares=[
        "mean = x.sum() / x.numel()",
        "share = mask.sum() / n_tokens",
        "rows = table if index is None else table[index]",
    ],
)
def mean_counts_what_was_left_out(
    node: cst.BinaryOperation | cst.IfExp, context: Context
) -> Iterator[cst.BaseExpression]:
    """A sum over the entries that count is divided by the number of all entries.

    Padding has no share in a mean: its vectors are zero, its losses are left out. That settles the
    sum. The divisor is a number of its own and must leave the same entries out, or each padding
    token pulls the mean towards zero. The same text then has another vector in a longer batch.

    Without padding the two numbers are one, and a mean that is a little too small looks like a
    mean.
    """
    match node:
        case cst.IfExp(
            test=cst.Comparison(comparisons=[cst.ComparisonTarget(cst.Is(), cst.Name("None"))]),
            body=whole,
            orelse=cst.Subscript(
                value=part,
                slice=[
                    cst.SubscriptElement(
                        cst.Index(
                            cst.Comparison(comparisons=[cst.ComparisonTarget(cst.NotEqual(), _)])
                        )
                    )
                ],
            ),
        ) if same(whole, part):
            yield whole
        case cst.IfExp(
            test=cst.Comparison(
                mask, comparisons=[cst.ComparisonTarget(cst.Is(), cst.Name("None"))]
            ),
            body=whole,
            orelse=cst.Call() as counts,
        ) if is_called(mask, COUNTS) and context.can_spare(mask):
            if any(_sums(below, mask) for below in walk(counts)):
                yield whole
        case cst.BinaryOperation(operator=cst.Divide(), right=right):
            for call in walk(right):
                match call:
                    case cst.Call(func=cst.Attribute(mask, cst.Name("sum")), args=[]):
                        if is_called(mask, COUNTS):
                            yield node.deep_replace(call, _number_of(mask))
                    case cst.Call(func=cst.Attribute(part, cst.Name("numel")), args=[]):
                        if (kept := _kept(part, node, context)) is not None:
                            yield node.deep_replace(call, _number_of(kept))


def _sums(node: cst.CSTNode, mask: cst.BaseExpression) -> bool:
    match node:
        case cst.Call(func=cst.Attribute(summed, cst.Name("sum"))):
            return same(summed, mask)
    return False


def _number_of(mask: cst.BaseExpression) -> cst.Call:
    return cst.Call(cst.Attribute(mask, cst.Name("numel")))


def _kept(
    part: cst.BaseExpression, node: cst.CSTNode, context: Context
) -> cst.BaseExpression | None:
    """Return the mask that the function selects with, if what is counted is no mask itself."""
    scope = context.enclosing(node, cst.FunctionDef)
    if scope is None or is_called(part, COUNTS):
        return None
    for below in walk(scope):
        match below:
            case cst.Subscript(slice=[cst.SubscriptElement(cst.Index(cst.Name() as mask))]):
                if is_called(mask, COUNTS):
                    return mask
    return None
