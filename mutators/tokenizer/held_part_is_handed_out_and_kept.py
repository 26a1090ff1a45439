"""A bug in buffers that are emptied by whoever reads them."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assigned,
    is_called,
    mutator,
    same,
    uncommented,
    walk,
)
from halfhour.mutators._idioms import HELD, returned_at_once


# Fits one subject: only a stream has a buffer that is flushed.
@mutator(
    topic="tokenizer",
    family="stop-string-must-align-with-token",
    hints=[
        "Ask for what is left twice in a row, or ask for it after the end was found.",
        "Follow what is held back. When does nobody hold it any more?",
        "Whoever hands out what was held, or decides that it never goes out, empties the buffer.",
    ],
    sightings=[
        Sighting(
            "https://github.com/osaurus-ai/vmlx-swift/pull/109",
            "text held at the stop came at the end",
        ),
        Sighting(
            "https://github.com/sgl-project/sglang/pull/11462", "how beginnings of a stop are held"
        ),
    ],
    mutates={
        """
        def finish(self):
            held, self._held = self._held, ""
            return held
        """: """
        def finish(self):
            return self._held
        """,
        """
        def flush(self):
            text = self.buffer.decode(errors="replace")
            self.buffer = b""
            return text
        """: """
        def flush(self):
            return self.buffer.decode(errors="replace")
        """,
        """
        def push(self, text):
            text = self.pending + text
            if self.matches(text):
                self.pending = ""
                return text[: self.end]
            return text
        """: """
        def push(self, text):
            text = self.pending + text
            if self.matches(text):
                return text[: self.end]
            return text
        """,
    },
    spares=[
        """
        def __init__(self):
            self.buffer = ""
        """,
        """
        def reset(self):
            self.buffer = ""
        """,
        """
        def flush(self):
            text = self.buffer
            # Nothing is left.
            self.buffer = ""
            return text
        """,
    ],
)
def held_part_is_handed_out_and_kept(
    node: cst.IndentedBlock, context: Context
) -> Iterator[cst.IndentedBlock]:
    """What was held back stays in the buffer after its fate is decided.

    Text is held back while it is open whether it may be sent. Once that is settled, because it was
    sent, or because it was part of a stop string and never will be, the buffer has to be empty.
    Otherwise it comes out at the next occasion: the same text twice, or the beginning of a stop
    string at the very end.

    An answer is flushed once and then forgotten, and mostly there is nothing held at that time.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or function.name.value == "__init__":
        return
    for at, line in enumerate(node.body):
        if not isinstance(line, cst.SimpleStatementLine) or not uncommented(line):
            continue
        rest = list(node.body[at + 1 :])
        match line.body:
            case [
                cst.Assign(
                    [
                        cst.AssignTarget(
                            cst.Tuple(
                                [
                                    cst.Element(cst.Name() as taken),
                                    cst.Element(cst.Attribute() as buffer),
                                ]
                            )
                        )
                    ],
                    cst.Tuple([cst.Element(value), cst.Element(empty)]),
                )
            ] if is_called(buffer, HELD) and _is_empty(empty) and _mentions(value, buffer):
                plain = line.with_changes(body=[cst.Assign([cst.AssignTarget(taken)], value)])
                yield node.with_changes(body=returned_at_once([*node.body[:at], plain, *rest]))
        match assigned(line):
            case cst.Attribute() as buffer, empty if is_called(buffer, HELD) and _is_empty(empty):
                if any(_mentions(n, buffer) for n in _lines_above(node, at, context)):
                    yield node.with_changes(body=returned_at_once([*node.body[:at], *rest]))


def _lines_above(node: cst.IndentedBlock, at: int, context: Context) -> Iterator[cst.BaseStatement]:
    yield from node.body[:at]
    yield from context.before(node)


def _is_empty(value: cst.BaseExpression) -> bool:
    match value:
        case cst.SimpleString():
            return value.evaluated_value in ("", b"")
        case cst.List(elements=[]):
            return True
    return is_called(value, "bytearray|bytes|list|None")


def _mentions(node: cst.CSTNode, buffer: cst.BaseExpression) -> bool:
    return any(same(below, buffer) for below in walk(node))
