"""A bug in looking for a string in a text that grows."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, mutator, pattern

TEXT = r"(\w+_)?(text|output|answer|window|decoded|generated|completion|content|tail|buffer)"
STRINGS = r"(\w+_)?(stop|special|needle|marker|delimiter|sequence|word|end|stop_str\w*|string)"
INSIDE = pattern("$string in $text", string=STRINGS, text=TEXT)
FOUND = [
    pattern("$text.find($string) != -1", string=STRINGS, text=TEXT),
    pattern("$text.find($string) >= 0", string=STRINGS, text=TEXT),
]


@mutator(
    topic="tokenizer",
    family="stop-string-must-align-with-token",
    hints=[
        "Let what is looked for end in the middle of a token, or with text behind it.",
        "How is it asked whether a text contains a string, and where may the string stand?",
        "A token can be longer than what it ends with: the string may stand anywhere.",
    ],
    sightings=[
        Sighting("https://github.com/vllm-project/vllm/pull/3672", "found only at the very end"),
        Sighting(
            "https://github.com/vllm-project/vllm/issues/3574",
            "a stop string inside a token ran on",
        ),
    ],
    mutates={
        "hits = [stop for stop in stops if stop in text]": (
            "hits = [stop for stop in stops if text.endswith(stop)]"
        ),
        """
        if output_text.find(stop_str) != -1:
            finish("stop")
        """: """
        if output_text.endswith(stop_str):
            finish("stop")
        """,
    },
    spares=[
        "done = [stop for stop in stops if stop in seen]",
        "if token in text_ids:\n    stop = True",
        "if text.find(stop, start) != -1:\n    finish()",
    ],
)
def string_is_found_at_the_end_only(node: cst.Comparison) -> Iterator[cst.Call]:
    """A string is noticed only if the text so far ends with it.

    After every token the text is searched for strings that must not be overlooked: one that ends
    the answer, or a control token in what a user wrote. The text does not grow letter by letter; a
    token brings several, and with some of them behind the string the text no longer ends with it.
    Then the string is missed now, and later all the more.

    Tokenizers often have a token for just that string, and then the text does end with it.
    """
    for shape in (INSIDE, *FOUND):
        if (holes := shape.match(node)) is not None:
            ends = cst.Attribute(holes["text"], cst.Name("endswith"))
            yield cst.Call(ends, [cst.Arg(holes["string"])])
