"""A bug in caches whose rows are handed to new requests."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator
from halfhour.mutators._context import body_of
from halfhour.mutators._idioms import LENGTH

FREES = re.compile(r"_?(reset|clear|free|recycle|release|flush)(_\w+)?")
POSITION = r"(\w+_)?(pos|positions?|k_pos|slot_positions|valid|occupied|used)"
COMPUTED = r"(n|num)_(computed|cached|blocks|held)(_\w+)?"
MARKS = f"{LENGTH}|{POSITION}|{COMPUTED}"


@mutator(
    topic="kv_cache",
    family="reset-clears-values-not-length",
    hints=[
        "Serve a request, hand its row to another one, and compare with a fresh cache.",
        "List all that the cache knows about a row. Which of it survives a reset?",
        "A row is empty only when its length and the marks of its slots both say so.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/48509",
            "reset() kept the counter, the next append landed behind it",
        ),
        Sighting(
            "https://github.com/rasbt/LLMs-from-scratch/pull/925", "the write pointer was not reset"
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/issues/43894", "a recycled row kept an old mask"
        ),
    ],
    mutates={
        """
        def reset_rows(self, index):
            self.positions[index] = EMPTY
            self.lengths[index] = 0
        """: [
            """
            def reset_rows(self, index):
                self.lengths[index] = 0
            """,
            """
            def reset_rows(self, index):
                self.positions[index] = EMPTY
            """,
        ],
        """
        def reset(self):
            self.keys.zero_()
            self.values.zero_()
            self.offset = 0
        """: """
        def reset(self):
            self.keys.zero_()
            self.values.zero_()
        """,
        """
        def release(self, request):
            self.free_slots.append(request.slot)
            request.num_computed_tokens = 0
        """: """
        def release(self, request):
            self.free_slots.append(request.slot)
        """,
    },
    spares=[
        """
        def rollback(self, index):
            self.positions[index] = EMPTY
            self.lengths[index] = 0
        """,
        """
        def reset(self):
            self.lengths = torch.zeros_like(self.lengths)
        """,
    ],
)
def reset_leaves_the_last_request_behind(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.RemovalSentinel]:
    """A reset forgets one of the things that a cache knows about a row.

    What a row holds is written down more than once: a length, a position for each slot, the keys
    themselves. A row is empty when all of the marks say so. If the length stays, the next request
    begins in the middle of a text that is not its own; if the slots keep their positions, it
    attends to keys of the request before it, until it has overwritten them.

    The first request of every row is right, and so is every test that makes its cache anew.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or not FREES.fullmatch(function.name.value):
        return
    if _forgets(node) and len(body_of(context.parent(node))) > 1:
        yield cst.RemoveFromParent()


def _forgets(line: cst.BaseStatement) -> bool:
    """Tell whether the line sets a length or the marks of slots to a constant."""
    match assigned(line):
        case target, cst.Integer() | cst.Name() | cst.UnaryOperation():
            held = target.value if isinstance(target, cst.Subscript) else target
            return isinstance(held, cst.Attribute) and is_called(held, MARKS)
    return False
