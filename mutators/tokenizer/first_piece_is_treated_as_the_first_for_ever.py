"""A bug in what is done once, at the beginning of a text."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, assigned, is_called, mutator, same, uncommented

FIRST = r"_?(is_|at_)?(\w+_)?(first|start|beginning|started|begun)(_\w+)?"


# Fits one subject: only a stream has a first piece.
@mutator(
    topic="tokenizer",
    family="per-token-decode-loses-space",
    hints=[
        "Stream two words. Is the space between them still there, and the one in front of them?",
        "Something is done at the beginning only. From which moment on is that over?",
        "The beginning is over with the first character that comes, and for good.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Lightning-AI/litgpt/pull/1559",
            "every single token lost its leading space",
        ),
        Sighting(
            "https://github.com/paiml/aprender/pull/2013",
            "what was for the first part met all parts",
        ),
    ],
    mutates={
        """
        def feed(self, text):
            if self._at_start and text:
                self._at_start = False
                text = text.removeprefix(" ")
            return text
        """: [
            """
            def feed(self, text):
                if self._at_start:
                    self._at_start = False
                    text = text.removeprefix(" ")
                return text
            """,
            """
            def feed(self, text):
                if self._at_start and text:
                    text = text.removeprefix(" ")
                return text
            """,
        ],
        """
        if self.first and piece:
            self.first = False
            if self.strips:
                piece = piece[1:]
        """: [
            """
            if piece:
                self.first = False
                if self.strips:
                    piece = piece[1:]
            """,
            """
            if self.first:
                self.first = False
                if self.strips:
                    piece = piece[1:]
            """,
        ],
        """
        for segment in segments:
            if first:
                segment = " " + segment
                first = False
            ids += encode(segment)
        """: """
        for segment in segments:
            if first:
                segment = " " + segment
            ids += encode(segment)
        """,
    },
    spares=[
        """
        if self.first:
            self.count = 0
        """,
        """
        if self.running and text:
            self.running = False
        """,
        """
        if self.first:
            # From here on it is not the first any more.
            self.first = False
            text = text.lstrip()
        """,
    ],
)
def first_piece_is_treated_as_the_first_for_ever(node: cst.If) -> Iterator[cst.If]:
    """The flag for the beginning of a text is lowered never, or by a piece without any text.

    Some tokenizers put a space in front of a text, and whoever decodes takes it away: one space,
    once. A stream comes in many pieces, and the flag that says "nothing has come yet" must fall
    with the first character. If it does not fall, each piece that begins with a space loses it, and
    wordsruntogether. If an empty piece lowers it, the space that comes next stays.

    Text without the option, and text that is decoded as a whole, never meets the flag.
    """
    others: cst.BaseExpression | None = None
    match node.test:
        case cst.BooleanOperation(left, cst.And(), cst.Name() as given):
            flag, others = left, given
        case flag:
            pass
    if not is_called(flag, FIRST) or not isinstance(flag, cst.Name | cst.Attribute):
        return
    if not isinstance(node.body, cst.IndentedBlock) or len(node.body.body) < 2:
        return
    for line in node.body.body:
        match assigned(line):
            case target, cst.Name(value="False") if same(target, flag) and uncommented(line):
                rest = [other for other in node.body.body if other is not line]
                if others is not None:
                    yield node.with_changes(test=flag)
                if not isinstance(rest[0], cst.If):
                    yield node.with_changes(body=node.body.with_changes(body=rest))
                elif others is not None:  # a linter would rather have one condition than two
                    yield node.with_changes(test=others)
