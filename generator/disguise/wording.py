"""Say the same in other words: phrases of docstrings that mean exactly the same."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .draws import Draws

Table = Sequence[Sequence[str]]

_AT_THE_START = r'(?<="""){}\b'
_ANYWHERE = r"(?<![\w`]){}(?![\w`])"

_OPENINGS: Table = (
    ("Say which", "Tell which"),
    ("Say whether", "Tell whether"),
    ("Say what", "Tell what"),
    ("Return how many", "Tell how many"),
    ("Choose", "Pick", "Select"),
    ("Draw one token", "Sample one token"),
    ("Draw a token", "Sample a token"),
    ("Remove", "Drop"),
    ("Refuse", "Reject"),
    ("Forget", "Discard"),
    ("Make an empty", "Create an empty"),
    ("Begin", "Start"),
    ("Collect", "Gather"),
    ("Add up", "Sum up"),
    ("Cut", "Split"),
    ("Duplicate", "Copy"),
    ("Attend from", "Run attention from"),
)
"""How the first sentence may begin."""

_PHRASES: Table = (
    ("gives zeros", "yields zeros"),
    ("give zeros", "yield zeros"),
    ("does not matter", "makes no difference"),
    ("may hold anything", "can hold anything"),
    ("may be anything", "can be anything"),
    ("may stand", "can stand"),
    ("and so on", "and so forth"),
    ("Consecutive query heads share", "Neighbouring query heads share"),
    ("stays as it is", "remains as it is", "is left as it is"),
    ("most likely", "likeliest"),
    ("one behind the other", "one after the other"),
    ("filled up with", "padded with"),
    ("all at once", "all in one go"),
    ("What stands at padding", "Whatever stands at padding"),
    ("are ignored", "count for nothing"),
    ("is ignored", "counts for nothing"),
    ("the same on every device", "the same whatever the device"),
    ("The random numbers are made", "Random numbers are drawn"),
    ("Rows behind", "Rows after"),
    ("rows behind", "rows after"),
    ("none is left", "there are none left"),
    ("must have been", "has to have been"),
    ("is refused", "is rejected"),
    ("are refused", "are rejected"),
    ("A query that sees no key", "A query without any visible key"),
    ("a query that sees no key", "a query without any visible key"),
    ("on the host", "on the CPU"),
)
"""What may stand for each other anywhere."""


def reworded(text: str, draws: Draws, place: str, *, indent: int, width: int) -> str:
    """Return a docstring, quotes and all, with some phrases in other words.

    Its first line starts `indent` columns to the right, the others have their blanks with them, and
    none becomes longer than `width`. Lines of examples stay as they are.
    """
    lines = text.split("\n")
    margin = min((_indent(line) for line in lines[1:] if line.strip()), default=0)
    example = False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if example or (number > 0 and _indent(line) > margin):
            continue
        seed = draws.number("wording", place, str(number))
        room = width if number else width - indent
        begun = line if number else _replaced(line, _OPENINGS, _AT_THE_START, seed, room)
        lines[number] = _replaced(begun, _PHRASES, _ANYWHERE, seed, room)
    return "\n".join(lines)


def _replaced(line: str, table: Table, form: str, seed: int, width: int) -> str:
    """Return the line with phrases of the table, as the form finds them, in other words."""
    for number, phrases in enumerate(table):
        for phrase in phrases:
            found = re.search(form.format(re.escape(phrase)), line)
            if found is None:
                continue
            other = phrases[(seed >> number % 60) % len(phrases)]
            changed = line[: found.start()] + other + line[found.end() :]
            if len(changed) <= width:
                line = changed
            break
    return line


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())
