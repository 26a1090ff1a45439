"""A bug in undoing what a tokenizer put in front of a text."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, mutator, pattern

PREFIX = pattern("$text.removeprefix($mark)")
FIRST = pattern("$text[1:] if $text.startswith($mark) else $text")
GUARDED = pattern("$text[1:] if $text[:1] == $mark else $text")


# Fits one subject: only a detokenizer takes back the space that a tokenizer had added.
@mutator(
    topic="tokenizer",
    family="metaspace-strips-all",
    hints=[
        "Decode a text that begins with two spaces, or with the indentation of a line of code.",
        "How much is taken away at the beginning, and how much had been added there?",
        "One space was added, so one is taken away; any other belongs to the text.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/tokenizers/pull/2212", "spaces of the text were dropped"
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/47862",
            "two leading spaces became one",
        ),
    ],
    mutates={
        "text = text.removeprefix(' ')": "text = text.lstrip(' ')",
        'text = text[1:] if text.startswith(" ") else text': 'text = text.lstrip(" ")',
        'piece = piece[1:] if piece[:1] == "▁" else piece': 'piece = piece.lstrip("▁")',
    },
    spares=[
        "path = path.removeprefix('./')",
        "text = text.removesuffix(' ')",
        "text = text[1:] if skip else text",
    ],
)
def all_leading_spaces_are_stripped(node: cst.Call | cst.IfExp) -> Iterator[cst.Call]:
    """Every space at the beginning of a text is taken away, not only the one that was added.

    A tokenizer may put one space in front of a text so that its first word looks like any other
    word. Decoding takes that one away. A function that strips takes all there are, and with them
    the indentation of code, the second of two spaces, a line break if it is told so.

    Sentences start with a letter. One space in front of them is all that tests ever see.
    """
    for shape in (PREFIX, FIRST, GUARDED):
        found = shape.match(node)
        if found is None:
            continue
        match found["mark"]:
            case cst.SimpleString() as mark if mark.evaluated_value in (" ", "▁", "Ġ"):
                strip = cst.Attribute(found["text"], cst.Name("lstrip"))
                yield cst.Call(strip, [cst.Arg(mark)])
