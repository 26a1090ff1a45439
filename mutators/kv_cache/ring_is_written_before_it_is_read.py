"""A bug in attention over a rolling cache."""

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from halfhour.mutators import Sighting, mutator, uncommented, walk

WRITES = re.compile(r"_?(store|write|append|put|insert|save)(_\w+)?")
READS = ("extend", "read", "gather", "fetch", "get", "view", "k", "v", "keys", "values")


# Fits one subject: only this cache is a ring.
@mutator(
    topic="kv_cache",
    family="ring-write-larger-than-capacity",
    hints=[
        "Feed a chunk of several tokens into a full cache. What should its first token see?",
        "In which order does a step read the cache and write to it?",
        "A ring forgets as it takes in: the chunk's early queries still need what it displaces.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Lightning-AI/litgpt/pull/2215",
            "early queries attended to overwritten keys",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/30642",
            "review: attention must not see the cropped states",
        ),
    ],
    mutates={
        """
        def forward(self, q, k, v, cache, plan):
            keys, values = cache.extend(self.layer, k, v)
            out = attend(q, keys, values, plan.allowed)
            cache.store(self.layer, k, v, plan)
            return out
        """: """
        def forward(self, q, k, v, cache, plan):
            cache.store(self.layer, k, v, plan)
            keys, values = cache.extend(self.layer, k, v)
            out = attend(q, keys, values, plan.allowed)
            return out
        """,
    },
    spares=[
        """
        def forward(self, q, k, v, cache):
            cache.append(k, v)
            return attend(q, cache.k, cache.v)
        """,
        """
        def forward(self, q, k, v, cache):
            keys = cache.extend(k)
            cache.store(self.rotate(keys))
            return keys
        """,
        """
        def forward(self, q, k, v, cache):
            keys = cache.extend(k)
            cache.store(k)  # only now: the queries above need what this displaces
            return keys
        """,
    ],
)
def ring_is_written_before_it_is_read(node: cst.IndentedBlock) -> Iterator[cst.IndentedBlock]:
    """A chunk is written into the ring before its queries have read what it overwrites.

    A ring of `w` slots holds the last `w` tokens. When a chunk arrives, its first query still needs
    the `w - 1` tokens before it, and those lie in slots that the chunk is about to take. So a step
    attends to the old ring and to the chunk, and stores the chunk afterwards. Written first, the
    overwritten slots hold keys of the chunk itself, some of them later than the query.

    While the ring is not yet full nothing is overwritten. Token by token only the one slot is lost
    that leaves the window anyway. It takes a long context, read in chunks.
    """
    for at, line in enumerate(node.body):
        cache = _written(line)
        if cache is None or not uncommented(line):
            continue
        first = next((i for i in range(at) if _reads(node.body[i], cache)), None)
        if first is not None and not _names(line) & _assigned_names(node.body[first:at]):
            body = [*node.body[:first], line, *node.body[first:at], *node.body[at + 1 :]]
            yield node.with_changes(body=body)


def _written(line: cst.BaseStatement) -> str | None:
    """Return `cache` for a line that is `cache.store(...)`."""
    match line:
        case cst.SimpleStatementLine(
            body=[
                cst.Expr(
                    cst.Call(func=cst.Attribute(value=cst.Name(value=cache), attr=cst.Name(verb)))
                )
            ]
        ):
            return cache if cache != "self" and WRITES.fullmatch(verb) else None
    return None


def _reads(line: cst.BaseStatement, cache: str) -> bool:
    """Tell whether a simple line assigns something taken from the cache, such as `cache.k`."""
    match line:
        case cst.SimpleStatementLine(body=[cst.Assign(value=value)]):
            return any(
                isinstance(n, cst.Attribute)
                and isinstance(n.value, cst.Name)
                and n.value.value == cache
                and n.attr.value in READS
                for n in walk(value)
            )
    return False


def _names(line: cst.CSTNode) -> set[str]:
    return {n.value for n in walk(line) if isinstance(n, cst.Name)}


def _assigned_names(lines: Sequence[cst.BaseStatement]) -> set[str]:
    targets = [n.target for line in lines for n in walk(line) if isinstance(n, cst.AssignTarget)]
    return {name for target in targets for name in _names(target)}
