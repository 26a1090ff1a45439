"""A bug where only a prefix counts."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, is_called, mutator


@mutator(
    topic="decoding",
    family="spec-accepts-everything",
    hints=[
        "Try the pattern right, wrong, right. How many of the three may count?",
        "Where does the counting go on after something that did not fit?",
        "Only a prefix counts: what comes behind the first miss rests on something that is not so.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/28508",
            "the count of accepted tokens was faulty",
        ),
    ],
    mutates={
        "n_accepted = accepted.long().cumprod(dim=-1).sum(dim=-1)": (
            "n_accepted = accepted.long().sum(dim=-1)"
        ),
        "n = int(np.cumprod(match).sum())": "n = int(match.sum())",
        """
        for guess, token in zip(guesses, tokens):
            if guess != token:
                break
            n_matches += 1
        """: """
        for guess, token in zip(guesses, tokens):
            if guess != token:
                continue
            n_matches += 1
        """,
        """
        for key in keys:
            block = cached.get(key)
            if block is None:
                break
            hits.append(block)
        """: """
        for key in keys:
            block = cached.get(key)
            if block is None:
                continue
            hits.append(block)
        """,
    },
    spares=[
        "alphas = betas.cumprod(dim=0)",
        """
        for token in ranked:
            if mass >= p:
                break
            mass += probs[token]
        """,
        """
        for item in items:
            if item is None:
                break
            return item
        """,
    ],
)
def guesses_behind_a_rejection_are_counted(
    node: cst.Call | cst.Break, context: Context
) -> Iterator[cst.CSTNode]:
    """Hits are counted beyond the first miss, though only an unbroken run of them is of use.

    A guess was made on top of the guesses before it, and a cached block holds what follows the
    blocks before it. Once one of them does not fit, all behind it belong to a text that does not
    exist. The length of the run counts, never the number of hits.

    If everything fits, or nothing behind the first miss does, both numbers agree. And more accepted
    tokens look like a faster program.
    """
    match node:
        case cst.Call() if is_called(node, "cumprod"):
            above = context.parent(node)
            if isinstance(above, cst.Attribute) and is_called(above, "sum") and arguments(node):
                yield arguments(node)[0].value
        case cst.Break():
            check = context.parent(context.parent(context.parent(node) or node) or node)
            if not isinstance(check, cst.If) or not _is_a_miss(check.test):
                return
            below = context.after(check)
            loop = context.parent(context.parent(check) or check)
            if isinstance(loop, cst.For) and below and _counts(below[0]):
                yield cst.Continue()


def _is_a_miss(test: cst.BaseExpression) -> bool:
    """Tell `x is None`, `x not in y`, `x != y`, `not x` and `len(set(x)) > 1`."""
    match test:
        case cst.UnaryOperation(cst.Not()):
            return True
        case cst.Comparison(
            comparisons=[cst.ComparisonTarget(cst.Is() | cst.NotIn() | cst.NotEqual())]
        ):
            return True
        case cst.Comparison(
            left=cst.Call(cst.Name("len")),
            comparisons=[cst.ComparisonTarget(cst.GreaterThan(), cst.Integer("1"))],
        ):
            return True
    return False


def _counts(line: cst.BaseStatement) -> bool:
    match line:
        case cst.SimpleStatementLine([cst.AugAssign(operator=cst.AddAssign())]):
            return True
        case cst.SimpleStatementLine([cst.Expr(cst.Call() as call)]):
            return is_called(call, "append|extend|add")
    return False
