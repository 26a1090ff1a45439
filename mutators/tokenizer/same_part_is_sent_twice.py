"""A bug in cutting a text into parts, one behind the other."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, pattern, same
from halfhour.mutators._idioms import HELD

NOT_BACK = pattern("max($sent, len($text))", sent=r"(\w+_)?(sent|offset|emitted|printed|position)")
BEHIND = pattern("$match.end()", match=r"\w*(match|found|hit)|m")


@mutator(
    topic="tokenizer",
    family="stream-offset-retreats",
    hints=[
        "Put all the parts together again. Is anything in there twice?",
        "After a part is handed out, where does the next one begin?",
        "The next part begins where the last one ended, and what is held back is not sent.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang/issues/31598",
            "the offset of sent text went back",
        ),
        Sighting(
            "https://github.com/SharpAI/SwiftLM/issues/126", "what was held had already been sent"
        ),
    ],
    mutates={
        """
        for match in finditer(pattern, text):
            parts.append(text[start : match.start()])
            start = match.end()
        """: """
        for match in finditer(pattern, text):
            parts.append(text[start : match.start()])
            start = match.start()
        """,
        """
        self.pending = text[n_safe:]
        return text[:n_safe]
        """: """
        self.pending = text[n_safe:]
        return text
        """,
        "self.sent = max(self.sent, len(text))": "self.sent = len(text)",
    },
    spares=[
        "yield match.start(), match.end()",
        "self.width = max(self.width, len(row))",
        """
        self.pending = text[n_safe:]
        return text[:n_sent]
        """,
    ],
)
def same_part_is_sent_twice(node: cst.Call | cst.Return, context: Context) -> Iterator[cst.CSTNode]:
    """A part that was handed out, or that is still held back, is handed out once more.

    Whoever cuts a stream into parts remembers up to where it is done. That place only moves
    forward, and exactly by what was handed out. If it stays behind a separator's beginning, goes
    back because a text has become shorter, or if what is put aside for later is sent now as well,
    some text comes twice.

    While nothing is held back and no separator turns up, every part is there once.
    """
    match node:
        case cst.Call() if NOT_BACK.match(node) is not None:
            line = context.enclosing(node, cst.Assign)
            if line is not None and line.value is node:
                yield node.args[1].value
        case cst.Call(func=cst.Attribute() as method) if BEHIND.match(node) is not None:
            line = context.enclosing(node, cst.Assign)
            if line is not None and line.value is node and context.enclosing(node, cst.For):
                yield node.with_changes(func=method.with_changes(attr=cst.Name("start")))
        case cst.Return(
            value=cst.Subscript(
                whole, [cst.SubscriptElement(cst.Slice(lower=None, upper=cst.Name() as cut))]
            )
        ):
            above = context.before(node)
            found = assigned(above[-1]) if above else None
            match found:
                case (
                    held,
                    cst.Subscript(
                        other,
                        [cst.SubscriptElement(cst.Slice(lower=cst.Name() as edge, upper=None))],
                    ),
                ) if is_called(held, HELD) and same(whole, other) and same(cut, edge):
                    yield node.with_changes(value=whole)
