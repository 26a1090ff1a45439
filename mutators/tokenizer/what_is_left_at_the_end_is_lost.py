"""A bug at the end of a stream."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, walk

LAST = r"_?(finish|flush|drain|finalize|finalise|end_of_stream|getvalue|remaining|take_rest)"


@mutator(
    topic="tokenizer",
    family="stream-tail-not-flushed",
    hints=[
        "Compare the end of what comes out with the end of what went in.",
        "When nothing more will come, who hands out what was still waiting, and is it used?",
        "At the end all that is left belongs to the result, behind what is there already.",
    ],
    sightings=[
        Sighting(
            "https://github.com/osaurus-ai/vmlx-swift/pull/148",
            "the last characters never came out",
        ),
        Sighting(
            "https://github.com/ohdearquant/lattice/issues/751",
            "the tail was dropped at an end token",
        ),
    ],
    mutates={
        """
        def close(self):
            return self.matcher.finish() + self.decoder.finish()
        """: [
            """
            def close(self):
                return self.decoder.finish()
            """,
            """
            def close(self):
                return self.matcher.finish()
            """,
        ],
        """
        def push(self, text):
            if self.n == self.max_tokens:
                return self.event(text + self._drain(), "length")
            return self.event(text)
        """: """
        def push(self, text):
            if self.n == self.max_tokens:
                return self.event(text, "length")
            return self.event(text)
        """,
        "return Event(self.flush(), 'abort')": """
        return Event("", 'abort')
        """,
        """
        def split(text):
            parts, start = [], 0
            for match in PATTERN.finditer(text):
                parts += words(text[start : match.start()])
                start = match.end()
            return parts + words(text[start:])
        """: """
        def split(text):
            parts, start = [], 0
            for match in PATTERN.finditer(text):
                parts += words(text[start : match.start()])
                start = match.end()
            return parts
        """,
    },
    spares=[
        "text = decoder.push(piece) + suffix",
        "self.stream.flush()",
        "return head + body(text[start:])",
    ],
)
def what_is_left_at_the_end_is_lost(
    node: cst.BinaryOperation | cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """What still waits when the input ends is not part of the result.

    A stream in pieces always owes something: bytes of a character, text that may become a stop
    string, what follows the last separator. Every loop over pieces hands out what is settled, and
    after the last piece somebody has to hand out the rest. There are several ways to come to the
    end, a stop token, the limit, a client that is gone, and each of them needs it.

    Mostly nothing waits at the end, and a missing last word looks like a model that stopped early.
    """
    match node:
        case cst.BinaryOperation(left=left, operator=cst.Add(), right=right):
            if _is_rest(left):
                yield right
            if _is_rest(right) or _is_behind_a_loop(node, right, context):
                yield left
        case cst.Call(args=[cst.Arg(value=value, keyword=None), *others]) if _is_rest(value):
            if others or isinstance(node.func, cst.Attribute):
                first = node.args[0].with_changes(value=cst.SimpleString('""'))
                yield node.with_changes(args=[first, *others])


def _is_rest(value: cst.BaseExpression) -> bool:
    match value:
        case cst.Call(func=cst.Attribute(), args=[]):
            return is_called(value, LAST)
    return False


def _is_behind_a_loop(
    node: cst.BinaryOperation, right: cst.BaseExpression, context: Context
) -> bool:
    """Tell `return parts + f(text[start:])` behind a loop that moves `start`."""
    if not isinstance(context.parent(node), cst.Return) or not isinstance(right, cst.Call):
        return False
    match right.args:
        case [
            cst.Arg(
                value=cst.Subscript(
                    slice=[cst.SubscriptElement(cst.Slice(lower=cst.Name(start), upper=None))]
                )
            ),
            *_,
        ]:
            loops = [line for line in context.before(node) if isinstance(line, cst.For | cst.While)]
            moved = [n for loop in loops for n in walk(loop) if isinstance(n, cst.AssignTarget)]
            return any(is_called(target.target, start) for target in moved)
    return False
