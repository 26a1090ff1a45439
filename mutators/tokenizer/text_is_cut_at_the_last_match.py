"""A bug in finding where a text ends."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, is_called, mutator, pattern

LAST = {"find": "rfind", "index": "rindex", "partition": "rpartition", "split": "rsplit"}
FIRST = pattern("$items[: $items.index($end) + 1]")
FROM_BEHIND = pattern("$items[: len($items) - $items[::-1].index($end)]")
TEXT = (
    r"(\w+_)?(text|output|answer|line|piece|window|decoded|generated|completion|content|string|s)"
)


@mutator(
    topic="tokenizer",
    family="stop-string-rightmost-match",
    hints=[
        "Let what is looked for occur twice. At which of the two is the text cut?",
        "Which calls look for something within a text, and from which side?",
        "What comes first counts: all behind it is no longer part of what is read.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/46113", "cut at the last of several matches"
        ),
    ],
    mutates={
        "end = text.find(stop) + len(stop)": "end = text.rfind(stop) + len(stop)",
        "field, _, value = line.partition(':')": "field, _, value = line.rpartition(':')",
        "out = out[: out.index(eos) + 1]": "out = out[: len(out) - out[::-1].index(eos)]",
        "answer = output_text.split(stop, 1)[0]": "answer = output_text.rsplit(stop, 1)[0]",
    },
    spares=[
        "row = rows.index(request_id)",
        "lines = text.split('\\n')",
        "best = tree.find(node)",
        "place = text.find(stop, start)",
    ],
)
def text_is_cut_at_the_last_match(
    node: cst.Call | cst.Subscript,
) -> Iterator[cst.CSTNode]:
    """Where something occurs more than once, the last occurrence is taken for the first.

    An answer ends at the first stop string in it, or the first end token, and a field ends at the
    first colon. Methods whose name begins with an r look from the right: they find the same place
    as long as there is only one. With two, the text is cut too late, and what should have ended it
    is part of it.

    A piece of text that holds the same stop string twice is rare; tests have it once.
    """
    match node:
        case cst.Subscript() if (found := FIRST.match(node)) is not None:
            yield fill(FROM_BEHIND, found)
        case cst.Call(func=cst.Attribute(text, cst.Name(name) as method), args=args):
            if name not in LAST or not is_called(text, TEXT):
                return
            wanted = 2 if name == "split" else 1
            if len(args) != wanted or any(arg.star for arg in args):
                return
            turned = method.with_changes(value=LAST[name])
            yield node.with_changes(func=node.func.with_changes(attr=turned))
