"""A bug where a step is padded and several tensors must be told."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mutator, name_of, same

MASK = re.compile(r"(\w+_)?(valid|keep|mask|is_real|real|alive|active|attend|not_pad\w*|used)")


# Fits one subject: only a router masks two tensors by one mask.
@mutator(
    topic="moe",
    family="wrong-weights-variable",
    hints=[
        "Append padding to a batch, with anything in it. Does a single number change?",
        "Which tensors follow the tokens in step, and does each of them learn what is padding?",
        "A mask applies to every tensor that counts, sums or averages over the tokens.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/508",
            "weights were masked, the unmasked ones used",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/48421",
            "router losses and expert capacity miscounted",
        ),
    ],
    mutates={
        """
        def loss(probs, experts, valid=None):
            if valid is not None:
                probs, experts = probs[valid], experts[valid]
            return (probs.mean(0) * load(experts)).sum()
        """: [
            """
        def loss(probs, experts, valid=None):
            if valid is not None:
                experts = experts[valid]
            return (probs.mean(0) * load(experts)).sum()
        """,
            """
        def loss(probs, experts, valid=None):
            if valid is not None:
                probs = probs[valid]
            return (probs.mean(0) * load(experts)).sum()
        """,
        ],
        """
        def queue(wanted, is_real):
            if is_real is not None:
                wanted = wanted * is_real[:, None]
            place = wanted.cumsum(0) - 1
            return place.where(is_real, -1)
        """: """
        def queue(wanted, is_real):
            place = wanted.cumsum(0) - 1
            return place.where(is_real, -1)
        """,
        """
        def mean(self, x, w, mask):
            x = x * mask
            w = w * mask
            return (x * w).sum() / w.sum()
        """: [
            """
        def mean(self, x, w, mask):
            w = w * mask
            return (x * w).sum() / w.sum()
        """,
            """
        def mean(self, x, w, mask):
            x = x * mask
            return (x * w).sum() / w.sum()
        """,
        ],
    },
    spares=[
        """
        def z_loss(logits, valid=None):
            if valid is not None:
                logits = logits[valid]
            return logits.logsumexp(-1).square().mean()
        """,
        """
        def attend(scores, mask, cap):
            if cap is not None:
                scores = cap * torch.tanh(scores / cap)
            return scores.masked_fill(mask, NEG_INF)
        """,
    ],
)
def padding_masked_in_one_place_only(
    node: cst.SimpleStatementLine | cst.If, context: Context
) -> Iterator[cst.SimpleStatementLine | cst.RemovalSentinel]:
    """One tensor is told what is padding, and its companion is not.

    What a router counts and what it averages run over the same tokens. If the choices are masked
    and the probabilities are not, or the slots and not the queue in which they are counted, then
    padding still takes part in one half of the sum: it pushes real tokens out of their experts'
    buffers, and bends the losses.

    A single request has no padding, and then both halves agree. What the mask was computed for was
    done, so that the variable is used, and a reader who looks for it finds it.
    """
    match node:
        case cst.If(
            test=cst.Comparison(guard, [cst.ComparisonTarget(cst.IsNot(), cst.Name("None"))]),
            body=cst.IndentedBlock([line]),
            orelse=None,
        ):
            if _masked_by(line) == name_of(guard) and context.can_spare(node):
                yield cst.RemoveFromParent()
        case cst.SimpleStatementLine(
            [
                cst.Assign(
                    [cst.AssignTarget(cst.Tuple([one, other]))],
                    cst.Tuple([cst.Element() as first, cst.Element() as second]),
                )
            ]
        ):
            pairs = ((other.value, second.value), (one.value, first.value))
            masks = {_mask(target, value) for target, value in pairs}
            for target, value in pairs if len(masks) == 1 and "" not in masks else ():
                assert isinstance(target, cst.Name)
                kept = cst.Assign([cst.AssignTarget(target)], value)
                yield node.with_changes(body=[kept])
        case cst.SimpleStatementLine():
            mask = _masked_by(node)
            beside = (*context.before(node)[-1:], *context.after(node)[:1])
            has_companion = any(_masked_by(line) == mask for line in beside)
            if mask and has_companion and context.can_spare(node):
                yield cst.RemoveFromParent()


def _masked_by(line: cst.CSTNode) -> str:
    """Return `valid` for `x = x[valid]`, `x = x * valid[:, None]` and their like, else ""."""
    found = assigned(line)
    return "" if found is None else _mask(*found)


def _mask(target: cst.CSTNode, value: cst.CSTNode) -> str:
    """Return the name of the mask in a value that masks its target."""
    match value:
        case cst.Subscript(kept, [cst.SubscriptElement(cst.Index(mask))]):
            pass
        case cst.BinaryOperation(kept, cst.Multiply() | cst.BitAnd(), mask):
            pass
        case cst.Call(cst.Attribute(kept, cst.Name("masked_fill")), [cst.Arg(mask), _]):
            pass
        case _:
            return ""
    if not isinstance(target, cst.Name) or not same(kept, target):
        return ""
    if isinstance(mask, cst.UnaryOperation):
        mask = mask.expression
    return name_of(mask) if MASK.fullmatch(name_of(mask)) else ""
