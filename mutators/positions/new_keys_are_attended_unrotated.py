"""A bug in attention over rotated keys."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    arguments,
    assigned,
    is_called,
    mentions,
    mutator,
    same,
    swapped,
    uncommented,
    walk,
)

ROTATE = r"_?(apply_)?(rope|rotary|rotate|rot)(_emb|_embedding|_pos_emb|_half)?|rope_fn"
KEY = r"k|xk|keys?|key_states|k_new|new_k|k_norm"
QUERY = r"q|xq|quer(y|ies)|query_states|q_new|new_q|q_norm"
JOIN = r"extend|update|append|concat|cat|put|insert|write|store"


@mutator(
    topic="positions",
    family="rotated-key-only-written-to-cache",
    hints=[
        "Compare a prompt that is fed at once with the reference, then one fed token by token.",
        "Follow the keys from their projection to the scores. Where are they turned?",
        "Query and key must both be turned, each by its own position, before they meet.",
    ],
    sightings=[
        Sighting(
            "https://github.com/kvcache-ai/sglang/pull/66",
            "the rotated key reached the cache but no score",
        ),
    ],
    mutates={
        """
        q, k = split(x)
        q = rope(q, pos)
        k = rope(k, pos)
        scores = q @ k.mT
        """: """
        q, k = split(x)
        q = rope(q, pos)
        scores = q @ k.mT
        """,
        """
        q = apply_rotary(self.q_norm(q), cos, sin)
        k = apply_rotary(self.k_norm(k), cos, sin)
        out = attend(q, k, v, mask)
        """: """
        q = apply_rotary(self.q_norm(q), cos, sin)
        k = self.k_norm(k)
        out = attend(q, k, v, mask)
        """,
        """
        def attend(q, k, v, pos, cache, layer):
            q, k = rope(q, pos), rope(k, pos)
            keys, values = cache.extend(layer, k, v)
            cache.store(layer, k, v)
            return q @ keys.mT, values
        """: """
        def attend(q, k, v, pos, cache, layer):
            keys, values = cache.extend(layer, k, v)
            q, k = rope(q, pos), rope(k, pos)
            cache.store(layer, k, v)
            return q @ keys.mT, values
        """,
        "scores = rope(xq, freqs) @ rope(xk, freqs).mT": "scores = rope(xq, freqs) @ xk.mT",
    },
    spares=[
        "q = apply_rope(q, cos, sin)",
        """
        keys, values = cache.extend(layer, k, v)
        q = rope(q, pos)
        """,
        "both = apply_rope(torch.cat((q, k)), cos, sin)",
    ],
)
def new_keys_are_attended_unrotated(
    node: cst.IndentedBlock | cst.Call | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """The keys of the step meet rotated queries without having been rotated themselves.

    The score of a rotated query and a rotated key depends on their distance. It does so only if
    both are turned: a key that is left as it was counts as one at position 0, wherever it stands.
    Keys that are turned too late reach the cache in the right form, so that later steps are right,
    but the step that brought them is not.

    Shapes are the same, the token at position 0 is not affected, and a check of what is in the
    cache finds rotated keys there.
    """
    match node:
        case cst.Call(args=[cst.Arg(keys), _, *_]) if _turns_only_keys(node):
            line = context.statement(node)
            found = None if line is None else assigned(line)
            if found is not None and not any(same(below, keys) for below in walk(found[0])):
                yield keys
        case cst.SimpleStatementLine() if _stays_itself(node) and uncommented(node):
            if context.can_spare(node):
                yield cst.RemoveFromParent()
        case cst.IndentedBlock():
            for at, (turns, joins) in enumerate(pairwise(node.body)):
                if _turns_keys(turns) and _joins_keys(joins) and uncommented(turns, joins):
                    yield swapped(node, at)


def _turns_only_keys(node: cst.CSTNode) -> bool:
    match node:
        case cst.Call(args=[cst.Arg(keys), _, *_]) if is_called(node, ROTATE):
            return mentions(keys, KEY) and not mentions(keys, QUERY)
    return False


def _stays_itself(line: cst.BaseStatement | None) -> bool:
    """Tell `k = rope(k, positions)`."""
    match None if line is None else assigned(line):
        case cst.Name() as target, cst.Call(args=[cst.Arg(keys), *_]) as call:
            return _turns_only_keys(call) and same(keys, target)
    return False


def _turns_keys(line: cst.BaseStatement) -> bool:
    found = assigned(line)
    if found is None or not mentions(found[0], KEY):
        return False
    return any(isinstance(below, cst.Call) and is_called(below, ROTATE) for below in walk(found[1]))


def _joins_keys(line: cst.BaseStatement) -> bool:
    match assigned(line):
        case cst.Tuple(), cst.Call() as call if is_called(call, JOIN):
            return any(mentions(given.value, KEY) for given in arguments(call))
    return False
