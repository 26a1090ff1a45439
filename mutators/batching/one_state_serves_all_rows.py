"""A bug in what each row of a batch has for itself."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, is_called, mutator, pattern

OWN = (
    r"(\w+_)?(generators?|gens?|rngs?|processors?|matchers?|grammars?|fsms?|parsers?|state|states"
    r"|constraint|detokenizers?|streams?)"
)
EACH = pattern("[$row.$own for $row in $rows]")
MADE = pattern("[$make($row) for $row in $rows]")


@mutator(
    topic="batching",
    family="stateful-processor-shared",
    hints=[
        "Run a request alone and beside others that come before it in the batch. Is it the same?",
        "Of what each row brings along, what changes by being used, and who else uses it?",
        "What remembers its use belongs to one row: as many rows, so many of them.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/issues/3448",
            "one stateful constraint served all sequences",
        ),
        Sighting("https://github.com/netneurolab/netneurotools/pull/101", "one list, repeated"),
    ],
    mutates={
        "generators = [row.generator for row in batch.rows]": (
            "generators = [batch.rows[0].generator] * len(batch.rows)"
        ),
        "processors = [make_processor(r) for r in requests]": (
            "processors = [make_processor(requests[0])] * len(requests)"
        ),
    },
    spares=[
        "ids = [row.id for row in rows]",
        "generators = [row.generator for row in rows if row.seeded]",
        "texts = [decode(row) for row in rows]",
    ],
)
def one_state_serves_all_rows(node: cst.ListComp) -> Iterator[cst.CSTNode]:
    """The random stream or the state of the first row is used for every row of the batch.

    A random stream, a grammar, a decoder of text move on whenever they are used. Each request has
    its own, so that its answer depends on nothing else. A list that repeats one of them has the
    right length, and every row moves the same one on.

    A batch of one is right, greedy answers do not draw, and drawn ones look random in any case.
    """
    if not isinstance(node.for_in.iter, cst.Name | cst.Attribute):
        return
    if (each := EACH.match(node)) is not None and is_called(each["own"], OWN):
        yield fill(pattern("[$rows[0].$own] * len($rows)"), each)
    elif (made := MADE.match(node)) is not None and is_called(made["make"], rf"_?(make_)?({OWN})"):
        yield fill(pattern("[$make($rows[0])] * len($rows)"), made)
