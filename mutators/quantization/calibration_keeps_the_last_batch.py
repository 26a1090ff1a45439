"""A bug in statistics that are gathered over batches."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, assigned, is_called, mutator, same

RUNNING = r"maximum|minimum|max|min|fmax|fmin"


# Fits one subject: only quantization gathers the extremes of several batches.
@mutator(
    topic="quantization",
    family="calibration-range-of-last-batch",
    hints=[
        "Show the same batches in another order. Is the range still the same?",
        "What does the second batch do to the range that the first one has left?",
        "A running extreme is the extreme of the old one and of what is new.",
    ],
    sightings=[
        Sighting(
            "https://github.com/apple/coremltools/issues/2704",
            "minimum and maximum were those of the last batch",
        ),
    ],
    mutates={
        """
        def update(self, x):
            seen = x.abs().amax(dim=0)
            self.amax = torch.maximum(self.amax, seen)
        """: """
        def update(self, x):
            seen = x.abs().amax(dim=0)
            self.amax = seen
        """,
        """
        def observe(self, batch):
            self.low = min(float(batch.min()), self.low)
            self.high = np.maximum(self.high, batch.max())
        """: [
            """
            def observe(self, batch):
                self.low = float(batch.min())
                self.high = np.maximum(self.high, batch.max())
            """,
            """
            def observe(self, batch):
                self.low = min(float(batch.min()), self.low)
                self.high = batch.max()
            """,
        ],
    },
    spares=[
        """
        def grow(self, n):
            size = max(self.size, n)
            return size
        """,
        """
        def limit(self, n):
            self.room = min(self.limit, n)
        """,
    ],
)
def calibration_keeps_the_last_batch(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.SimpleStatementLine]:
    """The range of a calibration is that of its last batch, not that of all.

    Ranges of activations are gathered over many batches: each one may widen what was seen before,
    and none may narrow it. If a batch replaces the range, the last one alone decides, and whatever
    was larger before is clipped, or its channel is taken for a quiet one.

    One batch is enough for a test, and with several of the same kind the ranges are alike. More
    calibration data then makes nothing better, which looks like a law of nature.
    """
    match assigned(node):
        case cst.Attribute() as kept, cst.Call() as call if is_called(call, RUNNING):
            values = [arg.value for arg in arguments(call)]
            fresh = [value for value in values if not same(value, kept)]
            if len(values) == 2 and len(fresh) == 1 and context.enclosing(node, cst.FunctionDef):
                statement = node.body[0]
                if isinstance(statement, cst.Assign | cst.AnnAssign):
                    yield node.with_changes(body=[statement.with_changes(value=fresh[0])])
