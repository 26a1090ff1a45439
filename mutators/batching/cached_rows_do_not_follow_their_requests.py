"""A bug where the rows of a batch move and the model's caches should move with them."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mutator, pattern

CACHES = (
    r"(\w+_)?(past|caches?|states?|past_key_values|kv|layers|keys|values|k|v|tensors?|buffers?)"
)
SELECTED = (
    pattern("$cache.index_select(0, $rows)"),
    pattern("torch.index_select($cache, 0, $rows)"),
    pattern("np.take($cache, $rows, axis=0)"),
    pattern("$cache.index_select(dim=0, index=$rows)"),
    pattern("$cache[$rows]", rows=r"index|indices|idx|rows|keep|kept|order|beam_idx|parents"),
)
FRONT = pattern("$cache[: len($rows)]")


@mutator(
    topic="batching",
    family="beams-share-stale-cache",
    hints=[
        "Let rows leave or change places, and compare the next step with one without a cache.",
        "Which rows of the caches are left after a selection, and which of the tokens?",
        "A cached row belongs to one request: it goes where the request goes.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/issues/46612",
            "caches of some models were not reordered with the beams",
        ),
    ],
    mutates={
        "self.past = tuple(cache.index_select(0, index) for cache in self.past)": (
            "self.past = tuple(cache[: len(index)] for cache in self.past)"
        ),
        "kv = [np.take(k, rows, axis=0) for k in kv]": "kv = [k[: len(rows)] for k in kv]",
        "layers = [(k[keep], v[keep]) for k, v in layers]": [
            "layers = [(k[: len(keep)], v[keep]) for k, v in layers]",
            "layers = [(k[keep], v[: len(keep)]) for k, v in layers]",
        ],
    },
    spares=[
        "past = tuple(cache.index_select(1, index) for cache in past)",
        "cache = cache.index_select(0, index)",
        "texts = [prompt[rows] for prompt in prompts]",
    ],
)
def cached_rows_do_not_follow_their_requests(
    node: cst.Call | cst.Subscript, context: Context
) -> Iterator[cst.CSTNode]:
    """Of the model's caches the first rows are kept, whichever rows go on.

    What a model has stored of a text lies in the row of that text, in every layer. When rows leave
    the batch or change places, as beams do, the caches are selected like all the rest. Cut to the
    right number of rows instead, they have the right shape, and some requests go on with the memory
    of others.

    Where the last rows leave, the first are the right ones, and each next token is still a likely
    one.
    """
    comp = context.enclosing(node, cst.ListComp) or context.enclosing(node, cst.GeneratorExp)
    if comp is None:
        return
    for selected in SELECTED:
        found = selected.match(node)
        if found is not None and is_called(found["cache"], CACHES):
            if is_called(comp.for_in.iter, CACHES):
                yield fill(FRONT, found)
            return
