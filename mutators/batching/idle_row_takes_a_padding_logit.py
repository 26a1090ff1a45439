"""A bug in steps in which some rows have nothing to do."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    integer,
    is_called,
    mentions,
    mutator,
    pattern,
    same,
    walk,
)
from halfhour.mutators._idioms import LENGTH

BUSY = r"n_new|counts?|active|alive|busy|scheduled|has_\w+|num_(new|scheduled)(_tokens)?|q_lens"
LAST = pattern("$end - 1")


@mutator(
    topic="batching",
    family="idle-row-token-accepted",
    hints=[
        "Prefill a short and a long prompt together in chunks. What is known about the short one?",
        "Which rows have real tokens in the last chunk, and which of them get a new result?",
        "A row without tokens in this step keeps what it had: its index -1 points at padding.",
    ],
    sightings=[
        Sighting(
            "https://github.com/tenstorrent/tt-xla/issues/5830",
            "idle rows gathered index -1 during chunked prefill",
        ),
    ],
    mutates={
        """
        for chunk, n_new in chunks:
            logits = model(chunk, n_new)
            last = torch.where((n_new > 0)[:, None], logits[row, n_new - 1], last)
        """: """
        for chunk, n_new in chunks:
            logits = model(chunk, n_new)
            last = logits[row, n_new - 1]
        """,
        """
        def step(logits, active, state):
            sampled = logits.argmax(-1)
            state = torch.where(~active, state, sampled)
            return state, active
        """: """
        def step(logits, active, state):
            sampled = logits.argmax(-1)
            state = sampled
            return state, active
        """,
        """
        def last_rows(starts, ends):
            return np.where(ends > starts, ends - 1, -1)
        """: """
        def last_rows(starts, ends):
            return np.where(ends >= starts, ends - 1, -1)
        """,
        """
        def last_rows(cu, lengths):
            busy = (lengths > 0).nonzero().flatten()
            return cu[1:][busy] - 1, busy
        """: """
        def last_rows(cu, lengths):
            busy = (lengths >= 0).nonzero().flatten()
            return cu[1:][busy] - 1, busy
        """,
    },
    spares=[
        "last = torch.where(n_new > 0, logits, zeros)",
        "k = torch.where(k < 0, vocab_size, k)",
        "last = torch.where(ends > starts, ends - 1, ends)",
        """
        def busy_rows(lengths):
            return (lengths > 0).nonzero().flatten()
        """,
    ],
)
def idle_row_takes_a_padding_logit(
    node: cst.Call | cst.Comparison, context: Context
) -> Iterator[cst.CSTNode]:
    """A row that brings no token in this step gets a new result all the same.

    Prompts of unequal length, read in chunks, end at different chunks; in the later ones the short
    rows are idle. What the model computes for an idle row belongs to padding, and the index of its
    last token is -1. Its result must be kept from the step in which it really ended.

    A prompt that fits into one chunk, a batch of equal prompts and single requests have no idle
    rows. Nothing raises: -1 is a fine index.
    """
    match node:
        case cst.Call(
            func=cst.Attribute(attr=cst.Name("where")),
            args=[cst.Arg(condition), cst.Arg(chosen), cst.Arg(otherwise)],
        ) if mentions(condition, BUSY) and context.can_spare(condition):
            match context.parent(node):
                case cst.Assign(targets=[cst.AssignTarget(target)]):
                    if same(target, otherwise):
                        yield chosen
                    elif same(target, chosen):
                        yield otherwise
        case cst.Comparison(comparisons=[cst.ComparisonTarget(cst.GreaterThan())]):
            if _tells_who_has_a_last_token(node, context):
                compared = node.comparisons[0]
                least = cst.GreaterThanEqual()
                yield node.with_changes(comparisons=[compared.with_changes(operator=least)])


def _tells_who_has_a_last_token(node: cst.Comparison, context: Context) -> bool:
    """Tell the condition of `where(end > start, end - 1, NONE)` and `(lengths > 0).nonzero()`."""
    match context.parent(node):
        case cst.Arg() as arg:
            match context.parent(arg):
                case cst.Call(args=[cst.Arg(condition), cst.Arg(last), cst.Arg(none)]) as call:
                    found = LAST.match(last)
                    constant = integer(none) is not None or is_called(none, "[A-Z][A-Z_]+")
                    of_the_end = found is not None and same(found["end"], node.left)
                    chosen = is_called(call, "where") and condition is node
                    return chosen and of_the_end and constant
        case cst.Attribute(attr=cst.Name("nonzero")):
            function = context.enclosing(node, cst.FunctionDef)
            counts = is_called(node.left, rf"{BUSY}|{LENGTH}")
            zero = integer(node.comparisons[0].comparator) == 0
            ends = function is not None and any(_is_last(n) for n in walk(function))
            return counts and zero and ends
    return False


def _is_last(node: cst.CSTNode) -> bool:
    """Tell `ends[rows] - 1`."""
    found = LAST.match(node)
    return found is not None and isinstance(found["end"], cst.Subscript)
