"""A bug in lists of the best."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import Sighting, assigned, is_called, mutator, same, swapped, uncommented


# Fits one subject: the others keep their best with topk, which sorts and cuts at once.
@mutator(
    topic="decoding",
    family="beam-stops-on-first-eos",
    hints=[
        "Fill the list, then enter something better than all of it. Is it in the list?",
        "Which entry is lost when the list is too long: the worst, or the one that came last?",
        "A list of the best is put in order first, and then the end is cut off.",
    ],
    sightings=[
        Sighting(
            "https://github.com/neulab/xnmt/pull/572",
            "the first hypotheses to finish were returned",
        ),
        Sighting("https://github.com/ottokart/beam_search/pull/1", "larger beams did worse"),
    ],
    mutates={
        """
        def add(self, hyp):
            self.items.append(hyp)
            self.items.sort(key=score, reverse=True)
            del self.items[self.k :]
        """: """
        def add(self, hyp):
            self.items.append(hyp)
            del self.items[self.k :]
            self.items.sort(key=score, reverse=True)
        """,
        """
        def best(hyps, n):
            hyps = sorted(hyps, key=score)
            hyps = hyps[:n]
            return hyps
        """: """
        def best(hyps, n):
            hyps = hyps[:n]
            hyps = sorted(hyps, key=score)
            return hyps
        """,
        "best = sorted(hyps, key=score, reverse=True)[:n]": (
            "best = sorted(hyps[:n], key=score, reverse=True)"
        ),
    },
    spares=[
        """
        def add(self, hyp):
            self.items.sort()
            del self.others[self.k :]
        """,
        """
        def add(self, hyp):
            # The worst is the last.
            self.items.sort()
            del self.items[self.k :]
        """,
        "rest = sorted(hyps)[n:]",
    ],
)
def list_is_cut_before_it_is_sorted(
    node: cst.IndentedBlock | cst.Subscript,
) -> Iterator[cst.CSTNode]:
    """A list of the best keeps those that came first.

    A new entry goes to the end of the list, the list is sorted, and what exceeds its size is cut
    off: then the worst entry goes. If the cut comes first, the newest goes, whatever it is worth. A
    full list never changes again, and a beam search returns the hypotheses that were quickest to
    finish.

    Until the list is full both orders are the same, and afterwards it still is sorted and has the
    right size.
    """
    match node:
        case cst.IndentedBlock():
            for at, (sorts, cuts) in enumerate(pairwise(node.body)):
                kept = _sorted(sorts)
                if kept is not None and _cuts(cuts, kept) and uncommented(sorts, cuts):
                    yield swapped(node, at)
        case cst.Subscript(
            value=cst.Call(func=cst.Name("sorted"), args=[items, *_]) as ranked,
            slice=[cst.SubscriptElement(cst.Slice(lower=None, upper=cst.BaseExpression()))],
        ):
            cut = items.with_changes(value=node.with_changes(value=items.value))
            yield ranked.with_changes(args=[cut, *ranked.args[1:]])


def _sorted(line: cst.BaseStatement) -> cst.BaseExpression | None:
    """Return `x` of `x.sort()` and of `x = sorted(x)`."""
    match line:
        case cst.SimpleStatementLine(
            [cst.Expr(cst.Call(func=cst.Attribute(value=items, attr=cst.Name("sort"))))]
        ):
            return items
    match assigned(line):
        case target, cst.Call(args=[given, *_]) as call if is_called(call, "sorted"):
            return target if same(given.value, target) else None
    return None


def _cuts(line: cst.BaseStatement, items: cst.BaseExpression) -> bool:
    """Tell `del x[n:]` and `x = x[:n]`."""
    match line:
        case cst.SimpleStatementLine(
            [cst.Del(cst.Subscript(value=held, slice=[cst.SubscriptElement(cst.Slice())]))]
        ):
            return same(held, items)
    match assigned(line):
        case target, cst.Subscript(value=held, slice=[cst.SubscriptElement(cst.Slice())]):
            return same(held, items) and same(target, items)
    return False
