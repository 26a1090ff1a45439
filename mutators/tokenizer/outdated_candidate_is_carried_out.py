"""A bug in queues whose entries may be out of date."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, walk

POPS = r"heappop|pop|popleft|get|get_nowait"


# Fits one subject: only merging keeps candidates that may be outdated.
@mutator(
    topic="tokenizer",
    family="stale-merge-candidate",
    hints=[
        "Let two merges want the same token. What becomes of the one that comes second?",
        "What was true when an entry went into the queue, and may have changed until it is taken?",
        "An entry is only a hint: before it is carried out, ask whether it still holds.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/tokenizers/issues/2320",
            "a pair that was no longer there got merged",
        ),
        Sighting(
            "https://github.com/huggingface/tokenizers/pull/2327",
            "outdated entries are dropped now",
        ),
    ],
    mutates={
        """
        while queue:
            rank, left = heapq.heappop(queue)
            right = following[left]
            if right == n or ranks.get((ids[left], ids[right])) != rank:
                continue
            join(left, right)
        """: """
        while queue:
            rank, left = heapq.heappop(queue)
            right = following[left]
            if right == n:
                continue
            join(left, right)
        """,
        """
        while heap:
            count, pair = heappop(heap)
            if counts[pair] != count:
                continue
            merge(pair, count)
        """: """
        while heap:
            count, pair = heappop(heap)
            merge(pair, count)
        """,
    },
    spares=[
        """
        while queue:
            job = queue.pop()
            if job.done:
                continue
            run(job)
        """,
        """
        for rank, left in offers:
            if ranks[left] != rank:
                continue
            join(left)
        """,
    ],
)
def outdated_candidate_is_carried_out(
    node: cst.If, context: Context
) -> Iterator[cst.If | cst.RemovalSentinel]:
    """A candidate from the queue is carried out though what it names is no longer there.

    Entries cannot be found again within a heap, so those that have become wrong stay in it. A merge
    that was offered for two tokens is void once one of them has become part of another token, and
    the place then holds something else. That is why each entry is compared with the present state
    when its turn comes.

    With few merges no two of them compete, and every entry is still true when it is taken.
    """
    loop = context.enclosing(node, cst.While)
    taken = [n for line in context.before(node) for n in walk(line) if isinstance(n, cst.Call)]
    if loop is None or not any(is_called(call, POPS) for call in taken):
        return
    match node:
        case cst.If(
            test=test,
            body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Continue()])]),
            orelse=None,
        ):
            match test:
                case cst.BooleanOperation(left, cst.Or(), right) if _compares(right):
                    yield node.with_changes(test=left)
                case cst.Comparison() if _compares(test) and context.can_spare(node):
                    yield cst.RemoveFromParent()


def _compares(test: cst.BaseExpression) -> bool:
    """Tell `looked up now != noted then`."""
    match test:
        case cst.Comparison(
            left=cst.Call() | cst.Subscript(),
            comparisons=[cst.ComparisonTarget(cst.NotEqual(), cst.Name())],
        ):
            return True
    return False
