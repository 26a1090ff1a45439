"""A bug in cutting a text before its bytes are merged."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator

# What a pattern for chunks may say of numbers and spaces, and what older or wrong ones say instead.
PARTS = {
    r"\d{1,3}": r"\d+",
    r"\p{N}{1,3}": r"\p{N}+",
    r"\s+(?!\S)|\s+": r"\s+",
}


# Fits one subject: only a tokenizer has a pattern that cuts text into chunks.
@mutator(
    topic="tokenizer",
    family="pretokenizer-pattern-mismatch",
    hints=[
        "Encode a long number, and two words with several spaces between them.",
        "Before anything is merged the text is cut. Into which chunks, by which rule?",
        "A text is cut just as in training: digits in groups, one space goes with the next word.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ggml-org/llama.cpp/pull/6920", "models need their own chunk pattern"
        ),
        Sighting(
            "https://github.com/ggml-org/llama.cpp/pull/7530",
            "chunks that differed from the reference",
        ),
    ],
    mutates={
        r"""
        SPLIT = re.compile(r" ?\w+|\d{1,3}|\s+(?!\S)|\s+")
        """: [
            r"""
            SPLIT = re.compile(r" ?\w+|\d+|\s+(?!\S)|\s+")
            """,
            r"""
            SPLIT = re.compile(r" ?\w+|\d{1,3}|\s+")
            """,
        ],
        r"""
        PATTERN = (
            r"[^\r\n\p{L}\p{N}]?\p{L}+"
            r"|\p{N}{1,3}"
        )
        """: r"""
        PATTERN = (
            r"[^\r\n\p{L}\p{N}]?\p{L}+"
            r"|\p{N}+"
        )
        """,
    },
    spares=[
        r"""
        DATE = re.compile(r"\d{4}-\d{2}")
        """,
        r"""
        PHONE = re.compile(r"\d{1,3} \d{6}")
        """,
        r"""
        SPACES = re.compile(r"\s+")
        """,
    ],
)
def chunks_are_not_those_of_training(
    node: cst.SimpleString, context: Context
) -> Iterator[cst.SimpleString]:
    """A text is cut into other chunks than the merges were learned on.

    Merges never reach beyond a chunk, so the pattern that cuts the text decides as much about the
    ids as the merges do. Newer ones take digits in groups of three from the left, and of several
    spaces all but the last, which goes with the next word. A pattern of another model, or one
    without the lookahead, gives chunks that training never saw.

    Decoding gives the text back from any chunks. Only models notice, and count worse.
    """
    above = context.parent(node)
    whole = above if isinstance(above, cst.ConcatenatedString) else node
    text = cst.Module([]).code_for_node(whole)
    for part, other in PARTS.items():
        for at in _branches(node.value, part):
            if "|" in text.replace(part, ""):
                changed = node.value[:at] + other + node.value[at + len(part) :]
                yield node.with_changes(value=changed)


def _branches(text: str, part: str) -> Iterator[int]:
    """Yield where the part is a whole branch of an alternation."""
    at = text.find(part)
    while at != -1:
        before, after = text[:at], text[at + len(part) :]
        if before[-1] in "|'\"" and after[0] in "|'\"":
            yield at
        at = text.find(part, at + 1)
