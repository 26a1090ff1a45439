"""A bug in the order in which merges are applied."""

from collections.abc import Iterator, Sequence

import libcst as cst

from halfhour.mutators import Sighting, is_called, mentions, mutator, pattern, same, walk

MERGES = r"(\w+_)?(merges?|ranks?|merge_ranks)"
POP = pattern("$rank, $place = $heap($queue)", heap="heappop")
BEST = pattern("min($pairs, key=lambda $p: $merges.get($q, $never))", merges=MERGES)


# Fits one subject: only a tokenizer replays merges.
@mutator(
    topic="tokenizer",
    family="bpe-merges-left-to-right",
    hints=[
        "Learn `bc` before `ab`, then encode `abc`. Which two letters end up together?",
        "Several merges apply at once. By what is the next one chosen?",
        "The merge that was learned first goes first, wherever in the word it stands.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ztxz16/fastllm/pull/715", "the leftmost pair went before the best"
        ),
        Sighting(
            "https://github.com/rasbt/LLMs-from-scratch/issues/558", "the same in a teaching book"
        ),
    ],
    mutates={
        """
        def merge(self, ids):
            queue = []
            for place, pair in enumerate(pairwise(ids)):
                if pair in self.merges:
                    heapq.heappush(queue, (self.merges[pair], place))
            while queue:
                rank, place = heapq.heappop(queue)
                join(ids, place, rank)
        """: """
        def merge(self, ids):
            queue = []
            for place, pair in enumerate(pairwise(ids)):
                if pair in self.merges:
                    heapq.heappush(queue, (place, self.merges[pair]))
            while queue:
                place, rank = heapq.heappop(queue)
                join(ids, place, rank)
        """,
        """
        bigram = min(pairs, key=lambda pair: self.bpe_ranks.get(pair, float("inf")))
        """: """
        bigram = next((pair for pair in pairs if pair in self.bpe_ranks), None)
        """,
    },
    spares=[
        """
        def admit(self, jobs):
            for job in jobs:
                heappush(self.queue, (job.priority, job.id))
            while self.queue:
                priority, job_id = heappop(self.queue)
                self.run(job_id, priority)
        """,
        "best = min(pairs, key=lambda pair: counts[pair])",
        """
        def offer(self, place):
            rank = self.merges.get(self.pair(place))
            heappush(self.queue, (rank, place))
        """,
    ],
)
def merges_taken_in_reading_order(node: cst.FunctionDef | cst.Call) -> Iterator[cst.CSTNode]:
    """The next merge is the one that stands leftmost, not the one that was learned first.

    Byte pair encoding replays its training: of all merges that apply to a word, the one learned
    earliest is carried out, and only then is it asked again what applies. Going from left to right
    joins letters that an earlier merge elsewhere in the word had a claim to.

    Any order of merges decodes to the same text, so that every round trip holds. The ids are real
    ids; they are only not those that the model was trained on, and its answers get a little worse.
    """
    match node:
        case cst.Call() if (found := BEST.match(node)) is not None and same(found["p"], found["q"]):
            code = cst.Module([]).code_for_node
            p, pairs, merges = (code(found[hole]) for hole in ("p", "pairs", "merges"))
            yield cst.parse_expression(f"next(({p} for {p} in {pairs} if {p} in {merges}), None)")
        case cst.FunctionDef() if mentions(node, MERGES):
            pops = [n for n in walk(node) if isinstance(n, cst.Assign) and POP.match(n)]
            offers = [pair for n in walk(node) if (pair := _offered(n)) is not None]
            if len(pops) == 1 and offers:
                turned = node.visit(_Turn([pops[0].targets[0].target, *offers]))
                yield cst.ensure_type(turned, cst.FunctionDef)


class _Turn(cst.CSTTransformer):
    """Exchanges the two elements of some pairs."""

    def __init__(self, pairs: Sequence[cst.CSTNode]) -> None:
        super().__init__()
        self.pairs = pairs

    def leave_Tuple(self, original_node: cst.Tuple, updated_node: cst.Tuple) -> cst.Tuple:
        if not any(original_node is pair for pair in self.pairs):
            return updated_node
        first, second = updated_node.elements
        turned = [first.with_changes(value=second.value), second.with_changes(value=first.value)]
        return updated_node.with_changes(elements=turned)


def _offered(node: cst.CSTNode) -> cst.Tuple | None:
    """Return the pair of `heappush(queue, (rank, place))`."""
    match node:
        case cst.Call(args=[_, cst.Arg(value=cst.Tuple(elements=[_, _]) as pair)]):
            return pair if is_called(node, "heappush") else None
    return None
