"""A bug in masks that hide padding."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, integer, is_called, mutator, walk

KEY = r"(k|key|keys|kv|src|source|col|cols|column|columns)(_(pos|positions?|idx|ids?|index))?"
QUERY = r"(q|query|queries|tgt|target|row|rows)(_(pos|positions?|idx|ids?|index))?"
NOTHING = r"(\w+_)?(PAD|PADDING|EMPTY|UNUSED|NO_TOKEN|PAD_POS|PAD_ID)"
PADDED = r"(\w+_)?(pad|padding|padding_mask|pad_mask|keep|valid|not_pad|is_pad|real|real_columns)"


@mutator(
    topic="masking",
    family="pad-mask-broadcast-on-query-axis",
    hints=[
        "Change what stands at padding. Do the outputs of real tokens move?",
        "The mask has an axis for queries and one for keys. Which one does each rule speak of?",
        "Padding is hidden as a key: its column is masked, whatever happens to its row.",
    ],
    sightings=[
        Sighting(
            "https://github.com/hyunwoongko/transformer/pull/40",
            "the padding mask lay on the wrong axis",
        ),
        Sighting(
            "https://github.com/lsdefine/attention-is-all-you-need-keras/issues/16",
            "rows and columns confused, with an example",
        ),
    ],
    mutates={
        """
        def visible(q_pos, k_pos):
            query, key = q_pos[:, :, None], k_pos[:, None, :]
            return (key != EMPTY) & (key <= query)
        """: """
        def visible(q_pos, k_pos):
            query, key = q_pos[:, :, None], k_pos[:, None, :]
            return (query != EMPTY) & (key <= query)
        """,
        "mask = causal & keep[:, None, None, :]": "mask = causal & keep[:, None, :, None]",
        "mask = np.logical_and(causal, key_padding_mask[:, None, :])": (
            "mask = np.logical_and(causal, key_padding_mask[:, :, None])"
        ),
        "return causal & real_columns(lengths, n_columns)[:, None]": (
            "return causal & real_columns(lengths, n_columns)[:, :, None]"
        ),
    },
    spares=[
        "inside = (q_pos != PADDING) & (q_pos < limit)",
        "lasting = (positions != EMPTY) & recent",
        "x = x * keep[:, :, None]",
        "hidden = hidden[:, None, :]",
    ],
)
def padding_is_looked_for_among_the_queries(
    node: cst.Comparison | cst.Subscript, context: Context
) -> Iterator[cst.CSTNode]:
    """Padding is hidden as a query, and stays visible as a key.

    A mask says for each query which keys it may see. What has to be hidden of padding is its key:
    no real token may read it. Asked of the query instead, or laid along the query axis, the same
    condition blanks the rows of padding, whose results nobody uses, and leaves the columns open.

    The shapes fit, and a finite fill value keeps every row a proper softmax. In a batch without
    padding both are the same.
    """
    if isinstance(node, cst.Comparison):
        query = _query_beside(node, context)
        if query is not None:
            yield node.with_changes(left=query)
    elif is_called(node, PADDED) and _is_combined(node, context):
        axes = [_axis(element) for element in node.slice]
        turned = {
            ("all", "new"): ["all", "all", "new"],
            ("all", "new", "all"): ["all", "all", "new"],
            ("all", "new", "new", "all"): ["all", "new", "all", "new"],
        }.get(tuple(axes))
        if turned is not None:
            yield node.with_changes(slice=[_element(axis) for axis in turned])


def _query_beside(node: cst.Comparison, context: Context) -> cst.BaseExpression | None:
    """Return the query that the function compares with the key of `key != EMPTY`."""
    match node:
        case cst.Comparison(
            left=cst.Name(value=key), comparisons=[cst.ComparisonTarget(cst.NotEqual(), nothing)]
        ) if is_called(node.left, KEY):
            if not (is_called(nothing, NOTHING) or integer(nothing) == -1):
                return None
        case _:
            return None
    scope = context.enclosing(node, cst.FunctionDef) or context.module
    for other in walk(scope):
        match other:
            case (
                cst.Comparison(
                    left=cst.Name(value=left),
                    comparisons=[cst.ComparisonTarget(comparator=cst.Name() as right)],
                )
                | cst.BinaryOperation(left=cst.Name(value=left), right=cst.Name() as right)
            ) if key in (left, right.value):
                query = cst.Name(left if right.value == key else right.value)
                if is_called(query, QUERY):
                    return query
    return None


def _is_combined(node: cst.Subscript, context: Context) -> bool:
    """Tell whether the mask meets another one, rather than the values."""
    match context.parent(node):
        case cst.BinaryOperation(operator=cst.BitAnd() | cst.BitOr()):
            return True
        case cst.Arg() as arg:
            call = context.parent(arg)
            return call is not None and is_called(call, r"logical_(and|or)")
    return False


def _axis(element: cst.SubscriptElement) -> str:
    match element.slice:
        case cst.Index(value=cst.Name(value="None")):
            return "new"
        case cst.Slice(lower=None, upper=None, step=None):
            return "all"
    return ""


def _element(axis: str) -> cst.SubscriptElement:
    if axis == "new":
        return cst.SubscriptElement(cst.Index(cst.Name("None")))
    return cst.SubscriptElement(cst.Slice(None, None, None))
