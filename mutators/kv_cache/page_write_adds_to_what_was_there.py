"""A bug in caches whose places are used more than once."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

STORED = r"(\w+_)?(k|v|kv|keys?|values?|pool|pages|cache|kv_cache|k_cache|v_cache)"
ADDS = {
    "index_copy_": "index_add_",
    "index_copy": "index_add",
    "scatter_": "scatter_add_",
    "scatter": "scatter_add",
}


@mutator(
    topic="kv_cache",
    family="paged-write-accumulates",
    hints=[
        "Write into a place twice, with other values. What is read back?",
        "Which line puts new keys and values into the store, and what does it do with the old?",
        "A place that is used again holds what came last, and nothing of what was there.",
    ],
    sightings=[
        Sighting("https://github.com/llmmanorg/llmman/pull/118", "a recycled block held old + new"),
    ],
    mutates={
        "pool.index_copy_(0, slots, k)": "pool.index_add_(0, slots, k)",
        """
        def store(self, layer, k, slots):
            self.k[layer][slots] = k.to(self.k.dtype)
        """: """
        def store(self, layer, k, slots):
            self.k[layer][slots] += k.to(self.k.dtype)
        """,
        """
        def write(cache, positions, v):
            cache["v"][:, positions] = v
            v_cache.scatter_(1, positions, v)
        """: """
        def write(cache, positions, v):
            cache["v"][:, positions] = v
            v_cache.scatter_add_(1, positions, v)
        """,
    },
    spares=[
        "counts.index_copy_(0, ids, ones)",
        "self.lengths[rows] = 0",
        "k_cache[slots] += k",
        "k[:, :n] = 0",
    ],
)
def page_write_adds_to_what_was_there(
    node: cst.Call | cst.Assign, context: Context
) -> Iterator[cst.Call | cst.AugAssign]:
    """Keys and values are added to what a place of the cache held before.

    Places of a cache are used again and again. A write replaces the content. A write that adds
    gives the sum of the new token and of whatever was there, which is a token of somebody else.

    On a fresh cache all is zeros, and adding is the same as writing. The first request is always
    right, and most tests have only one.
    """
    match node:
        case cst.Call(func=cst.Attribute(value=held, attr=cst.Name(value=method)) as func):
            if method in ADDS and is_called(held, STORED):
                renamed = func.with_changes(attr=cst.Name(ADDS[method]))
                yield node.with_changes(func=renamed)
        case cst.Assign(targets=[cst.AssignTarget(target=cst.Subscript() as place)], value=value):
            if not _is_held(place, context) or isinstance(value, cst.Integer | cst.Float):
                return
            yield cst.AugAssign(place, cst.AddAssign(), value)


def _is_held(place: cst.BaseExpression, context: Context) -> bool:
    """Tell whether the place is one of an object's own keys or values, outside of its making."""
    function = context.enclosing(place, cst.FunctionDef)
    while isinstance(place, cst.Subscript):
        place = place.value
    made = function is None or function.name.value == "__init__"
    return isinstance(place, cst.Attribute) and is_called(place, STORED) and not made
