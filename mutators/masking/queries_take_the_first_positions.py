"""A bug where a step has fewer queries than keys."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, name_of, pattern

QUERY_LENGTH = (
    r"(n_)?(q|query|queries|tgt|target|new|step|chunk)_?(len|length|lens|size|tokens)?|n_queries"
    r"|(n_)?new_tokens|L|T_q|S_q"
)
PLACES = (
    r"(\w+_)?(pos|positions?|position_ids|mask|documents?|doc_ids|segments?|segment_ids|seq_ids"
    r"|bias|allowed|visible|causal)"
)
SPAN = pattern("$x.stop - $x.start")
DROPPED = {
    before: pattern(before)
    for before in (
        "$x.tril($k - $q)",
        "$x.tril(diagonal=$k - $q)",
        "torch.tril($x, $k - $q)",
        "torch.tril($x, diagonal=$k - $q)",
        "np.tril($x, $k - $q)",
        "np.tril($x, k=$k - $q)",
    )
}


@mutator(
    topic="masking",
    family="causal-top-left-alignment",
    hints=[
        "Read a prompt in one piece, then in two. Does the second piece still know the first?",
        "With 3 queries and 8 keys, at which positions do the queries stand?",
        "The queries of a step are the last of its keys: their mask is the lower right corner.",
    ],
    sightings=[
        Sighting(
            "https://github.com/pytorch/pytorch/issues/108108",
            "the triangle was anchored at the first key",
        ),
        Sighting("https://github.com/gittensor-ai-lab/sparkinfer/pull/4", "fixed by kv minus q"),
        Sighting("https://github.com/meta-pytorch/gpt-fast/issues/233", "no offset of the query"),
    ],
    mutates={
        "q_pos = k_pos[:, kv_len - q_len :]": "q_pos = k_pos[:, :q_len]",
        "q_pos = k_pos[len(k_pos) - (rows.stop - rows.start) :]": (
            "q_pos = k_pos[: rows.stop - rows.start]"
        ),
        "position_ids = position_ids[..., -query_length:]": (
            "position_ids = position_ids[..., :query_length]"
        ),
        "keep = np.tril(np.ones((q_len, kv_len), bool), k=kv_len - q_len)": (
            "keep = np.tril(np.ones((q_len, kv_len), bool))"
        ),
    },
    spares=[
        "logits = logits[:, -1]",
        "tail = tokens[len(tokens) - window :]",
        "keep = torch.ones(n, n).tril()",
        "newest = tokens[:, -n_new:]",
    ],
)
def queries_take_the_first_positions(
    node: cst.Slice | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """A step's queries are placed at the start of the keys instead of at their end.

    With a cache, a step brings few queries and sees many keys, and the queries are the newest of
    them. Their positions, documents and mask rows are the last ones. Taken from the front they have
    the right shapes, and a query deep in the text is shown only what the first tokens may see.

    A prompt that is read in one piece has as many queries as keys, and there both ends are the
    same; a single new token is often not masked at all. What lies between, a second chunk or a
    second turn, forgets most of its context.
    """
    if isinstance(node, cst.Call):
        for form in DROPPED.values():
            found = form.match(node)
            if found is not None and _is_query_length(found["q"]):
                kept = [a for a in node.args if not isinstance(a.value, cst.BinaryOperation)]
                yield node.with_changes(args=[cst.Arg(a.value) for a in kept])
        return
    if node.lower is None or node.upper is not None or not _cuts_places(node, context):
        return
    match node.lower:
        case cst.UnaryOperation(operator=cst.Minus(), expression=count):
            pass
        case cst.BinaryOperation(left=total, operator=cst.Subtract(), right=count):
            if not context.can_spare(total):
                return
        case _:
            return
    if _is_query_length(count):
        gap = "" if isinstance(count, cst.Name | cst.Integer) else " "
        colon = cst.Colon(whitespace_after=cst.SimpleWhitespace(gap))
        yield cst.Slice(None, count.with_changes(lpar=[], rpar=[]), first_colon=colon)


def _is_query_length(node: cst.BaseExpression) -> bool:
    return is_called(node, QUERY_LENGTH) or SPAN.match(node) is not None


def _cuts_places(node: cst.Slice, context: Context) -> bool:
    subscript = context.enclosing(node, cst.Subscript)
    return subscript is not None and re.fullmatch(PLACES, name_of(subscript)) is not None
