"""A bug where a row holds several texts."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assigned,
    is_called,
    mentions,
    mutator,
    pattern,
    same,
)

MASK = r"(\w+_)?(mask|visible|allowed|keep|seen|ok|attend|can_see|blocked)"
TEXTS = (
    r"\w*(segment|segs?|doc|docs|document|documents|same_(seq|text|sample)|seq_ids?)\w*"
    r"|(q|query)_ids"
)
BY_QUERY, BY_KEY = pattern("$x[:, None]"), pattern("$x[None, :]")


@mutator(
    topic="masking",
    family="packed-sequences-cross-attend",
    hints=[
        "Pack two texts into a row and change the first. Does the second one notice?",
        "Causality orders the tokens of a row. What keeps the texts of a row apart?",
        "In a packed row a key must be before the query and belong to the same text.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/46634",
            "the mask of a packed row stayed plain causal",
        ),
        Sighting(
            "https://github.com/axolotl-ai-cloud/axolotl/pull/3796",
            "two back ends leaked across documents, one did not",
        ),
    ],
    mutates={
        """
        def build(q_pos, k_pos, documents):
            positions = restart(q_pos, documents)
            mask = causal(positions, k_pos)
            mask = mask & segment_mask(documents, documents)
            return mask[:, None]
        """: """
        def build(q_pos, k_pos, documents):
            positions = restart(q_pos, documents)
            mask = causal(positions, k_pos)
            return mask[:, None]
        """,
        """
        def build(row, col, doc):
            keep = (col <= row) & (doc[:, None] == doc[None, :])
            return keep, doc.max()
        """: """
        def build(row, col, doc):
            keep = col <= row
            return keep, doc.max()
        """,
        """
        def build(row, col, seq_id):
            allowed = np.logical_and(col <= row, seq_id[col] == seq_id[row])
            return allowed, np.unique(seq_id)
        """: """
        def build(row, col, seq_id):
            allowed = col <= row
            return allowed, np.unique(seq_id)
        """,
        """
        def build(q_seq_ids, k_seq_ids, causal):
            return (q_seq_ids[:, None] == k_seq_ids[None, :]) & causal
        """: """
        def build(q_seq_ids, k_seq_ids, causal):
            return (q_seq_ids[:, None] >= k_seq_ids[None, :]) & causal
        """,
    },
    spares=[
        """
        def build(row, col, doc):
            keep = (col <= row) & (doc[row] == doc[col])
            return keep
        """,
        """
        mask = causal
        mask = mask & (query - key < window)
        """,
    ],
)
def packed_texts_see_each_other(
    node: cst.SimpleStatementLine | cst.BinaryOperation | cst.Call | cst.Comparison,
    context: Context,
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """Texts that share a row are ordered by the causal mask, and nothing keeps them apart.

    To waste no slots, several texts are packed one behind the other into a row. The mask must then
    hold two things at once: a key is not in the future, and it belongs to the query's own text.
    Without the second, every text but the first reads its neighbours as if they were its past.

    Rows with one text are exact, the output stays fluent, and positions that restart at every text
    hide the leak from anyone who only looks at those.
    """
    match node:
        case cst.SimpleStatementLine():
            rule = _narrows_the_mask_by(node)
            if rule is not None and mentions(rule, TEXTS) and context.can_spare(rule):
                yield cst.RemoveFromParent()
        case cst.BinaryOperation(left=left, operator=cst.BitAnd(), right=right):
            if _compares_texts(right) and context.can_spare(right):
                yield left.with_changes(lpar=node.lpar, rpar=node.rpar)
        case cst.Call(args=[cst.Arg(value=left), cst.Arg(value=right)]):
            is_both = is_called(node, "logical_and") and _compares_texts(right)
            if is_both and context.can_spare(right):
                yield left
        case cst.Comparison(comparisons=[target]) if _compares_texts(node):
            by_query = BY_QUERY.match(node.left) and BY_KEY.match(target.comparator)
            if by_query and not context.can_spare(node):
                earlier = target.with_changes(operator=cst.GreaterThanEqual())
                yield node.with_changes(comparisons=[earlier])


def _narrows_the_mask_by(line: cst.SimpleStatementLine) -> cst.BaseExpression | None:
    """Return the rule of `mask = mask & rule`."""
    match assigned(line):
        case (
            mask,
            cst.BinaryOperation(left=left, operator=cst.BitAnd(), right=rule),
        ) if same(mask, left) and is_called(mask, MASK):
            return rule
    return None


def _compares_texts(node: cst.BaseExpression) -> bool:
    match node:
        case cst.Comparison(comparisons=[cst.ComparisonTarget(operator=cst.Equal())]):
            return mentions(node, TEXTS)
    return False
