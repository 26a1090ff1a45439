"""A bug where what a request holds is given back."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, uncommented

GIVES_BACK = (
    r"_?(release|free|evict|preempt|finish|forget|retire|recycle|vacate|detach|remove|drop|requeue)"
    r"(_\w+)?"
)
NOTHING = r"None|False|EMPTY|UNUSED|NO_SLOT|SKIP"


@mutator(
    topic="batching",
    family="recycled-row-keeps-old-mask",
    hints=[
        "Take away from a request all that it holds, and give it a place again. How does it start?",
        "Where things are given back, compare what is handed in with what is still noted.",
        "What was given back is noted as gone: the next owner and the next start have none of it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/issues/43894",
            "a recycled row kept its predecessor's mask",
        ),
        Sighting(
            "https://github.com/ggml-org/llama.cpp/pull/21594", "one sampler was missing from reset"
        ),
    ],
    mutates={
        """
        def release(self, request):
            self.free.append(request.slot)
            request.slot = None
            request.n_computed = 0
        """: [
            """
            def release(self, request):
                self.free.append(request.slot)
                request.n_computed = 0
            """,
            """
            def release(self, request):
                self.free.append(request.slot)
                request.slot = None
            """,
        ],
        """
        def evict(self, row):
            self.mask[row] = False
            self.free_rows.add(row)
        """: """
        def evict(self, row):
            self.free_rows.add(row)
        """,
    },
    spares=[
        """
        def start(self, request):
            request.n_computed = 0
            self.running.append(request)
        """,
        """
        def release(self, request):
            # It is computed again.
            request.n_computed = 0
            self.free.append(request.slot)
        """,
        """
        def release(self, request):
            done = None
            return self.close(request, done)
        """,
    ],
)
def released_request_keeps_its_share(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.RemovalSentinel]:
    """What a request gives back is still noted as its own.

    When a request leaves or has to wait, its row, its memory and its progress go back, and the
    notes on them are reset. If one note stays, the request is continued as if it still had what
    others have now, or the next one in its row starts with it.

    A request that runs from its start to its end in one go never reads the notes again. It takes a
    second life, of the request or of the row.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or not is_called(function.name, GIVES_BACK):
        return
    match assigned(node):
        case cst.Attribute() | cst.Subscript(value=cst.Attribute()), value if _is_nothing(value):
            if uncommented(node) and context.can_spare(node):
                yield cst.RemoveFromParent()


def _is_nothing(value: cst.BaseExpression) -> bool:
    match value:
        case cst.Integer(value="0") | cst.Float(value="0.0") | cst.List(elements=[]):
            return True
        case cst.Name():
            return is_called(value, NOTHING)
    return False
