"""A bug in the test whether there is a place at all."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

NONE = r"(\w+_)?(SKIP|EMPTY|NO_PAGE|NO_SLOT|NO_BLOCK|UNUSED|INVALID|PAD_SLOT(_ID)?)(_\w+)?"
PLACE = (
    r"(\w+_)?(slots?|slot_mapping|tables?|pages?|blocks?|block_ids?|page_ids?|positions?|pos|key"
    r"|row|slot_id)"
)


@mutator(
    topic="kv_cache",
    family="paged-write-accumulates",
    hints=[
        "Use the very first slot, page or position there is. Is it treated like any other?",
        "How is a real place told from none, and on which side of that test does 0 fall?",
        "Places count from 0: only the marker itself, -1 or None, means that there is none.",
    ],
    sightings=[
        Sighting("https://github.com/LMCache/LMCache/pull/2984", "block 0 was treated as padding"),
    ],
    mutates={
        "real = slots != SKIP": "real = slots > 0",
        """
        block = cached.get(block_hash)
        if block is None:
            return matched
        """: """
        block = cached.get(block_hash)
        if not block:
            return matched
        """,
        """
        if self.slot is not None:
            release(self.slot)
        """: """
        if self.slot:
            release(self.slot)
        """,
        "held = table[row] >= 0": "held = table[row] > 0",
        "valid = np.not_equal(pages, -1) & (pages != -1)": (
            "valid = np.not_equal(pages, -1) & (pages > 0)"
        ),
    },
    spares=[
        "if prompt is None: return",
        "assert request.slot is not None",
        "keep = tokens != PAD",
        "bad = ((slots < SKIP) | (slots >= n_slots)).any()",
    ],
)
def place_zero_counts_as_none(
    node: cst.Comparison, context: Context
) -> Iterator[cst.BaseExpression]:
    """The first slot, block or position is taken for none.

    Places are numbered from 0, and "none" is marked by -1 or by None. A test for the marker lets 0
    pass; a test for positive numbers, or for truth, does not. What is stored at the first place is
    then lost or never found, and only that.

    Everything else works, and in a large pool the first block is one among thousands.
    """
    if isinstance(context.parent(node), cst.Assert):
        return
    match node:
        case cst.Comparison(
            left=place, comparisons=[cst.ComparisonTarget(operator=operator, comparator=marker)]
        ) if is_called(place, PLACE):
            match operator, marker:
                case cst.Is(), cst.Name(value="None"):
                    yield cst.UnaryOperation(cst.Not(), place)
                case cst.IsNot(), cst.Name(value="None"):
                    yield place
                case cst.NotEqual(), _ if _is_marker(marker):
                    yield _positive(node)
                case cst.GreaterThanEqual(), cst.Integer(value="0"):
                    yield _positive(node)


def _positive(node: cst.Comparison) -> cst.Comparison:
    return node.with_changes(
        comparisons=[cst.ComparisonTarget(cst.GreaterThan(), cst.Integer("0"))]
    )


def _is_marker(node: cst.BaseExpression) -> bool:
    match node:
        case cst.UnaryOperation(cst.Minus(), cst.Integer(value="1")):
            return True
    return is_called(node, NONE)
