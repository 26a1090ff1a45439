"""A bug in what a worker says of ids that are not its own."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, argument, is_called, mutator, walk

OWN = r"(\w+_)?(owns|owned|own|mine|ours|local_mask|in_range|in_shard|is_local|here|input_mask)"
MINUS_INFINITY = ("-inf", "NEG_INF", "MINUS_INF")


# Fits one subject: only workers are asked for ids of others.
@mutator(
    topic="sharding",
    family="out-of-range-id-unmasked-at-tp1",
    hints=[
        "Ask a worker about an id that lies with another one. What should it answer?",
        "How does a worker tell that an id is its own, and what becomes of the others?",
        "For an id of another worker the answer is the neutral one, never that of some row.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NVIDIA/TensorRT-LLM/pull/15233",
            "ids outside a shard were looked up",
        ),
        Sighting(
            "https://github.com/apple/ml-cross-entropy/pull/59", "targets outside the shard matched"
        ),
    ],
    mutates={
        """
        found = logits.gather(-1, local[..., None]).squeeze(-1)
        return peak, found.masked_fill(~self.owns(targets), float("-inf"))
        """: """
        found = logits.gather(-1, local[..., None]).squeeze(-1)
        return peak, found
        """,
        """
        def score(logits, rows, mine):
            return np.where(mine, np.take(logits, rows), -np.inf)
        """: """
        def score(logits, rows, mine):
            return np.take(logits, rows)
        """,
        """
        def owns(self, ids):
            offset = ids - self.first
            return (offset >= 0) & (ids < self.stop) & (offset % self.step == 0)
        """: """
        def owns(self, ids):
            offset = ids - self.first
            return (offset >= 0) & (ids < self.stop)
        """,
    },
    spares=[
        "vectors = vectors.masked_fill(~mine[..., None], 0.0)",
        "scores = scores.masked_fill(~causal, float('-inf'))",
        "every_other = (rows >= 0) | (rows % 2 == 0)",
    ],
)
def row_of_another_worker_counts(
    node: cst.Call | cst.BinaryOperation, context: Context
) -> Iterator[cst.BaseExpression]:
    """A worker answers for an id that is not its own, with what lies in one of its rows.

    Each id lies with one worker. The others are asked as well, look into some row so that nothing
    is out of bounds, and must then say that they have nothing: zero where answers are added up,
    minus infinity where the largest counts. If that is missing, or an id passes for one's own
    because only part of the rule was asked, answers of two workers meet, and one is made up.

    With one worker every id is its own, and a made-up answer that is smaller than the true one
    loses.
    """
    match node:
        case cst.Call() if is_called(node, "masked_fill|where"):
            kept, mask, fill = _filled(node)
            if kept is None or mask is None or fill is None or not _is_minus_infinity(fill):
                return
            inner = mask.expression if isinstance(mask, cst.UnaryOperation) else mask
            if is_called(inner, OWN):
                function = context.enclosing(node, cst.FunctionDef)
                parameters = [] if function is None else [p.name.value for p in _all(function)]
                if context.can_spare(mask) or all(
                    n.value in parameters for n in walk(mask) if isinstance(n, cst.Name)
                ):
                    yield kept
        case cst.BinaryOperation(
            left=left,
            operator=cst.BitAnd(),
            right=cst.Comparison(
                left=cst.BinaryOperation(operator=cst.Modulo()) as rest,
                comparisons=[cst.ComparisonTarget(operator=cst.Equal())],
            ),
        ):
            if context.can_spare(rest):
                yield left


def _filled(
    node: cst.Call,
) -> tuple[cst.BaseExpression | None, cst.BaseExpression | None, cst.BaseExpression | None]:
    """Return what a call keeps, the mask, and what it puts elsewhere."""
    first, second, third = (argument(node, place) for place in range(3))
    return (first, second, third) if is_called(node, "masked_fill") else (second, first, third)


def _is_minus_infinity(value: cst.BaseExpression) -> bool:
    text = cst.Module([]).code_for_node(value)
    return any(word in text for word in MINUS_INFINITY) or text in ("-np.inf", "-math.inf")


def _all(function: cst.FunctionDef) -> list[cst.Param]:
    return [*function.params.params, *function.params.kwonly_params]
