"""A bug in streams that hold back the end of a piece."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, same, uncommented
from halfhour.mutators._idioms import HELD


# Fits one subject: only a stream holds back the end of a piece.
@mutator(
    topic="tokenizer",
    family="stop-string-must-align-with-token",
    hints=[
        "Cut the input so that something that belongs together comes in two pieces.",
        "The end of a piece is put aside. Where does it come back in?",
        "What was held back stands in front of the next piece, and both are looked at together.",
    ],
    sightings=[
        Sighting("https://github.com/mzau/mlx-knife/issues/68", "every piece was checked alone"),
        Sighting(
            "https://github.com/graniet/llm/pull/90", "events of a stream that were cut in two"
        ),
        Sighting("https://github.com/clidey/whodb/pull/972", "half a line at the end of a read"),
    ],
    mutates={
        """
        def push(self, piece):
            piece = self._held + piece
            cut = len(piece) - self.n_possible(piece)
            self._held = piece[cut:]
            return piece[:cut]
        """: """
        def push(self, piece):
            cut = len(piece) - self.n_possible(piece)
            self._held = piece[cut:]
            return piece[:cut]
        """,
        """
        *lines, self.rest = (self.rest + chunk).split("\\n")
        """: """
        *lines, self.rest = chunk.split("\\n")
        """,
        "window = self.tail + delta": "window = delta",
    },
    spares=[
        "text = text + piece",
        """
        for chunk in chunks:
            *lines, rest = (rest + chunk).split("\\n")
        """,
        "logits = model(pending + draft.tokens)",
        "self.buffer = self.buffer + piece",
        """
        # What was held comes first.
        piece = held + piece
        """,
        "total = rest + 1",
    ],
)
def held_part_is_left_out_of_the_next(
    node: cst.BinaryOperation | cst.SimpleStatementLine, context: Context
) -> Iterator[cst.CSTNode | cst.RemovalSentinel]:
    """What was held back of one piece is missing when the next one is looked at.

    Bytes of a character, a line of an event, the beginning of a stop string: all of them may be cut
    where two pieces meet. So the end of a piece that is not complete is put aside, and stands in
    front of the piece that follows. Without that, each piece is looked at alone, what was put aside
    never comes out, and what spans two pieces is not recognised.

    Where the cuts happen to fall between two such things nothing is ever put aside.
    """
    match node:
        case cst.SimpleStatementLine():
            match assigned(node):
                case target, cst.BinaryOperation(left, cst.Add(), right):
                    if same(target, right) and is_called(left, HELD) and uncommented(node):
                        yield cst.RemoveFromParent()
        case cst.BinaryOperation(left=left, operator=cst.Add(), right=right):
            line = context.statement(node)
            found = None if line is None else assigned(line)
            if found is not None and any(same(found[0], part) for part in (left, right)):
                return
            if is_called(left, HELD) and isinstance(right, cst.Name) and context.can_spare(left):
                yield right
