"""A bug in the positions of sequences that share a row."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    arguments,
    fill,
    mentions,
    mutator,
    name_of,
    pattern,
    value_of,
)

EACH_FROM_ITS_START = pattern(
    "[$chunk.start + $i for $chunk in $chunks for $i in range(len($chunk.tokens))]"
)
THROUGH = pattern("list(range(sum(len($chunk.tokens) for $chunk in $chunks)))")
EACH_FROM_ZERO = (
    pattern("torch.cat([torch.arange($n) for $n in $lens])"),
    pattern("torch.cat([torch.arange(int($n)) for $n in $lens])"),
    pattern("np.concatenate([np.arange($n) for $n in $lens])"),
)


@mutator(
    topic="positions",
    family="packed-positions-not-reset",
    hints=[
        "Run two texts packed into one row, and the second one alone. Is it the same?",
        "Print the position of the first token of the second text. What should it be?",
        "Each sequence of a packed row starts at position 0: its own start is taken off.",
    ],
    sightings=[
        Sighting(
            "https://github.com/hiyouga/LlamaFactory/pull/7318",
            "packed samples went on counting positions",
        ),
        Sighting("https://github.com/huggingface/nanoVLM/pull/204", "the same in another trainer"),
    ],
    mutates={
        """
        def positions(cu):
            row = torch.arange(int(cu[-1]), device=cu.device)
            return row - cu[:-1].repeat_interleave(cu.diff())
        """: """
        def positions(cu):
            row = torch.arange(int(cu[-1]), device=cu.device)
            return row - cu[0]
        """,
        "pos = np.arange(total) - np.repeat(starts, lens)": "pos = np.arange(total)",
        "pos = [c.start + i for c in chunks for i in range(len(c.tokens))]": (
            "pos = list(range(sum(len(c.tokens) for c in chunks)))"
        ),
        "pos = torch.cat([torch.arange(n) for n in lens])": "pos = torch.arange(sum(lens))",
    },
    spares=[
        "rest = budget - starts.repeat_interleave(lens)",
        "slots = torch.arange(n) + starts.repeat_interleave(lens)",
        "distance = torch.arange(n)[:, None] - torch.arange(n)[None, :]",
    ],
)
def packed_positions_run_through(
    node: cst.BinaryOperation | cst.Call | cst.ListComp, context: Context
) -> Iterator[cst.CSTNode]:
    """Positions are counted through the packed row, not from the start of each sequence.

    Sequences that are packed one behind the other into a row keep their own positions. The count
    along the row is right for the first of them only; for the others it must be reduced by where
    each of them starts. Otherwise a text is taken for one that begins in the middle.

    Distances within a text are right even so. Rotary embeddings look at distances only, and with a
    mask between the texts nothing differs until positions serve as an address or as a limit.
    """
    match node:
        case cst.BinaryOperation(count, cst.Subtract(), cst.Call() as starts):
            counted = value_of(count, context.enclosing(node, cst.FunctionDef))
            counts = isinstance(counted, cst.Call) and name_of(counted) == "arange"
            resets = name_of(starts) in ("repeat_interleave", "repeat")
            if counts and resets and context.can_spare(starts):
                alone = isinstance(count, cst.Name) and isinstance(context.parent(node), cst.Return)
                yield node.with_changes(right=_first(starts)) if alone else count
        case cst.ListComp() if (found := EACH_FROM_ITS_START.match(node)) is not None:
            yield fill(THROUGH, found)
        case cst.Call():
            for each in EACH_FROM_ZERO:
                if (found := each.match(node)) is not None:
                    library = "np" if mentions(node, "np") else "torch"
                    yield fill(pattern(f"{library}.arange(sum($lens))"), found)


def _first(starts: cst.Call) -> cst.BaseExpression:
    """Return `cu[0]` for `cu[:-1].repeat_interleave(lengths)`."""
    bounds = arguments(starts)[0].value
    while isinstance(bounds, cst.Subscript):
        bounds = bounds.value
    return cst.Subscript(bounds, [cst.SubscriptElement(cst.Index(cst.Integer("0")))])
