"""A bug in the end of generation loops."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, argument, is_called, mutator

DONE = r"_?(\w+_)?(done|is_done|finished|ended|stopped|eos_reached|completed?)"
ALIVE = r"_?(\w+_)?(active|alive|running|unfinished(_sequences)?)"
WANTED = r"(\w+_)?(num_beams|n_beams|beams|beam_size|beam_width|n_best|k)"


@mutator(
    topic="decoding",
    family="beam-stops-on-first-eos",
    hints=[
        "Take candidates that end at different times. Which of them is the last one worked on?",
        "What must be true before the loop may stop: something of one, or of all of them?",
        "The work is over when the last is finished; the first to finish says little.",
    ],
    sightings=[
        Sighting(
            "https://github.com/joeynmt/joeynmt/issues/148",
            "a beam was done when its top hypothesis was",
        ),
        Sighting("https://github.com/ottokart/beam_search/pull/1", "larger beams did worse"),
    ],
    mutates={
        """
        while not all(self.done) and n < limit:
            self.step()
        """: """
        while not any(self.done) and n < limit:
            self.step()
        """,
        """
        for step in range(limit):
            if not bool(active.any()):
                break
            if torch.all(finished):
                break
        """: [
            """
            for step in range(limit):
                if not bool(active.all()):
                    break
                if torch.all(finished):
                    break
            """,
            """
            for step in range(limit):
                if not bool(active.any()):
                    break
                if torch.any(finished):
                    break
            """,
        ],
        """
        def is_done(self, best):
            if len(self.hyps) < self.beam_size:
                return False
            return self.worst >= best
        """: """
        def is_done(self, best):
            if not self.hyps:
                return False
            return self.worst >= best
        """,
    },
    spares=[
        """
        while not any(done):
            step()
        """,
        """
        if not mask.any():
            raise ValueError
        """,
        """
        if len(ids) < k:
            raise ValueError(k)
        """,
    ],
)
def first_to_finish_ends_the_work_of_all(
    node: cst.Call | cst.Comparison, context: Context
) -> Iterator[cst.CSTNode]:
    """What should go on until the last one is finished stops with the first.

    A batch ends at different times in different rows, and a beam search collects as many finished
    hypotheses as it has beams before it compares them. Stopping at the first end cuts off the other
    rows, or returns the hypothesis that was quickest and not the one that is best.

    With one row, or one beam, first and last are the same. And without a length penalty the first
    hypothesis to finish often is the best.
    """
    match node:
        case cst.Call(args=[_, *_] | []):
            flags = argument(node, 0)
            if isinstance(flags, cst.GeneratorExp):
                flags = flags.elt
            if flags is None or not _decides_a_loop(node, context):
                return
            if is_called(node, "all") and is_called(flags, DONE):
                yield node.with_changes(func=_renamed(node.func, "any"))
            if is_called(node, "any") and is_called(flags, ALIVE):
                yield node.with_changes(func=_renamed(node.func, "all"))
        case cst.Comparison(
            left=cst.Call(func=cst.Name("len"), args=[items]),
            comparisons=[cst.ComparisonTarget(cst.LessThan(), wanted)],
        ) if is_called(wanted, WANTED):
            match context.parent(node):
                case cst.If(body=cst.IndentedBlock([cst.SimpleStatementLine([cst.Return()])])):
                    yield cst.UnaryOperation(cst.Not(), items.value)


def _renamed(func: cst.BaseExpression, name: str) -> cst.BaseExpression:
    if isinstance(func, cst.Attribute):
        return func.with_changes(attr=cst.Name(name))
    return cst.Name(name)


def _decides_a_loop(node: cst.CSTNode, context: Context) -> bool:
    """Tell the test of a `while`, and of an `if` that breaks or returns."""
    below = node
    for above in context.ancestors(node):
        match above:
            case cst.While():
                return above.test is below
            case cst.If(body=cst.IndentedBlock([cst.SimpleStatementLine([leaves])])):
                return above.test is below and isinstance(leaves, cst.Break | cst.Return)
            case cst.BaseStatement():
                return False
        below = above
    return False
