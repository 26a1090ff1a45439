"""A bug in grouped-query attention."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, is_called, mentions, mutator, pattern, walk

KEYS_OR_VALUES = r"(\w+_)?(k|v|kv|keys?|values?)(_\w+)?"
KV_HEADS = r"\w*(kv|key_value)\w*"
TILED = {
    pattern(repeated): pattern(tiled)
    for repeated, tiled in {
        "$x.repeat_interleave($n, dim=0)": "$x.repeat($n, 1, 1)",
        "$x.repeat_interleave($n, dim=1)": "$x.repeat(1, $n, 1, 1)",
        "$x.repeat_interleave($n, 1)": "$x.repeat(1, $n, 1, 1)",
        "$x.repeat_interleave($n, dim=-3)": "$x.repeat(1, $n, 1, 1)",
        "$x.repeat_interleave($n, dim=2)": "$x.repeat(1, 1, $n, 1)",
        "$x.repeat_interleave($n, dim=-2)": "$x.repeat(1, 1, $n, 1)",
        "torch.repeat_interleave($x, $n, dim=1)": "$x.repeat(1, $n, 1, 1)",
        "torch.repeat_interleave($x, $n, dim=2)": "$x.repeat(1, 1, $n, 1)",
        "torch.repeat_interleave($x, $n, dim=-2)": "$x.repeat(1, 1, $n, 1)",
        "np.repeat($x, $n, axis=1)": "np.tile($x, (1, $n, 1, 1))",
        "np.repeat($x, $n, axis=2)": "np.tile($x, (1, 1, $n, 1))",
    }.items()
}


@mutator(
    topic="attention",
    family="gqa-tile-instead-of-interleave",
    hints=[
        "Take 4 query heads and 2 key/value heads. Which query heads read the first of the two?",
        "Write down the order of the heads after they have been multiplied.",
        "Consecutive query heads share a key/value head: 0 0 1 1, never 0 1 0 1.",
    ],
    sightings=[
        Sighting("https://github.com/apple/axlearn/pull/842", "tiled after a refactoring"),
        Sighting("https://github.com/ekzhang/jax-js/pull/180", "GQA was not tested well enough"),
        Sighting("https://github.com/EricLBuehler/candle-vllm/pull/52", "same order slip, fixed"),
    ],
    mutates={
        "k = k.float().repeat_interleave(groups, dim=1)": "k = k.float().repeat(1, groups, 1, 1)",
        "k_tile = k[b].repeat_interleave(groups, dim=0)": "k_tile = k[b].repeat(groups, 1, 1)",
        "values = torch.repeat_interleave(values, h // g, dim=-2)": (
            "values = values.repeat(1, 1, h // g, 1)"
        ),
        "v_all = np.repeat(v_all, groups, axis=1)": "v_all = np.tile(v_all, (1, groups, 1, 1))",
        "k = k[:, :, None, :, :].expand(b, g, r, s, d).reshape(b, g * r, s, d)": (
            "k = k[:, None, :, :, :].expand(b, r, g, s, d).reshape(b, g * r, s, d)"
        ),
        "x = x[:, :, None].expand(b, num_key_value_heads, n_rep, s, d)": (
            "x = x[:, None, :].expand(b, n_rep, num_key_value_heads, s, d)"
        ),
    },
    spares=[
        "ids = ids.repeat_interleave(num_beams, dim=0)",
        "cos = cos.repeat_interleave(2, dim=-1)",
        "k = k[:, None].expand(b, g, s, d)",
        "x = x[:, :, None].expand(b, groups, experts, s, d)",
        "positions = positions.repeat_interleave(groups, dim=1)",
    ],
)
def kv_heads_tiled_instead_of_repeated(node: cst.Call) -> Iterator[cst.CSTNode]:
    """Key/value heads are laid out 0 1 0 1 where the query heads expect 0 0 1 1.

    In grouped-query attention, `H / G` consecutive query heads share one key/value head. To line up
    with them, each key/value head is repeated in place. Tiling the whole set gives as many heads
    and the same shapes, and pairs most query heads with a head they were not trained with.

    With one key/value head, or with as many as query heads, both orders are the same, and random
    weights make one order look as good as the other: only a model whose heads differ shows it.
    """
    yield from _other_axis_expanded(node)
    for repeated, tiled in TILED.items():
        found = repeated.match(node)
        if found is not None and _holds_keys_or_values(found["x"]):
            yield fill(tiled, found)


def _holds_keys_or_values(x: cst.BaseExpression) -> bool:
    """Tell by the variable's name: `k` in `cache.k`, in `k.float()`, in `self.k[layer]`."""
    first = next((n for n in walk(x) if isinstance(n, cst.Name)), x)
    return is_called(x, KEYS_OR_VALUES) or is_called(first, KEYS_OR_VALUES)


def _other_axis_expanded(node: cst.Call) -> Iterator[cst.CSTNode]:
    """Turn `k[:, :, None].expand(b, g, r, s, d)` into `k[:, None, :].expand(b, r, g, s, d)`."""
    match node:
        case cst.Call(
            func=cst.Attribute(
                value=cst.Subscript(
                    slice=[
                        batches,
                        cst.SubscriptElement(cst.Slice()) as all_heads,
                        cst.SubscriptElement(cst.Index(cst.Name("None"))) as new_axis,
                        *others,
                    ]
                ) as source,
                attr=cst.Name("expand"),
            ),
            args=[batch, heads, groups, _, _],
        ) if _holds_keys_or_values(source.value) or mentions(heads, KV_HEADS):
            first = all_heads.with_changes(slice=new_axis.slice)
            second = new_axis.with_changes(slice=all_heads.slice)
            moved = source.with_changes(slice=[batches, first, second, *others])
            yield node.with_changes(
                func=node.func.with_changes(value=moved),
                args=[batch, groups, heads, *node.args[3:]],
            )
