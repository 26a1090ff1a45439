"""A bug in queues that are kept as heaps."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, same, walk


@mutator(
    topic="tokenizer",
    family="bpe-merges-left-to-right",
    hints=[
        "Put in the smallest entry last. Is it the next to come out?",
        "One function takes the smallest entry from the queue. What does it rely on?",
        "A heap is in order only if every entry goes in by `heappush`.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ztxz16/fastllm/pull/715", "pairs were merged out of their order"
        ),
        Sighting(
            "https://github.com/umran666/UniqToken/issues/8", "a heap of pairs lost live entries"
        ),
    ],
    mutates={
        """
        def merge(ids, ranks):
            queue = []
            for place, pair in enumerate(pairwise(ids)):
                heapq.heappush(queue, (ranks[pair], place))
            while queue:
                rank, place = heapq.heappop(queue)
        """: """
        def merge(ids, ranks):
            queue = []
            for place, pair in enumerate(pairwise(ids)):
                queue.append((ranks[pair], place))
            while queue:
                rank, place = heapq.heappop(queue)
        """,
        """
        class Slots:
            def take(self):
                return heappop(self.free)

            def give_back(self, slot):
                heappush(self.free, slot)
        """: """
        class Slots:
            def take(self):
                return heappop(self.free)

            def give_back(self, slot):
                self.free.append(slot)
        """,
    },
    spares=[
        "heapq.heappush(queue, entry)",
        """
        def collect(entries):
            queue = []
            for entry in entries:
                queue.append(entry)
            heapq.heapify(queue)
            return heapq.heappop(queue)
        """,
    ],
)
def entry_is_appended_to_the_heap(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """A new entry goes to the end of the heap and is not moved to its place.

    A heap is a list in which every entry is at most as large as the two below it, and that alone
    makes the first entry the smallest. `heappush` restores the order after each addition, a plain
    `append` does not, and `heappop` goes on to trust it. From then on the queue gives out entries
    in no order: merges of low rank before better ones, a late slot before an early one.

    No entry is lost, and entries that come in ascending order make a valid heap all by themselves,
    so that small examples agree.
    """
    match node:
        case cst.Call(args=[cst.Arg(value=queue), cst.Arg(value=entry)]):
            if is_called(node, "heappush") and any(_pops(n, queue) for n in walk(context.module)):
                yield cst.Call(cst.Attribute(queue, cst.Name("append")), [cst.Arg(entry)])


def _pops(node: cst.CSTNode, queue: cst.BaseExpression) -> bool:
    match node:
        case cst.Call(args=[cst.Arg(value=taken)]):
            return is_called(node, "heappop") and same(taken, queue)
    return False
