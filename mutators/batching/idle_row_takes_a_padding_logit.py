"""A bug in steps in which some rows have nothing to do."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mentions, mutator, same

BUSY = r"n_new|counts?|active|alive|busy|scheduled|has_\w+|num_(new|scheduled)(_tokens)?|q_lens"


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
    },
    spares=[
        "last = torch.where(n_new > 0, logits, zeros)",
        "k = torch.where(k < 0, vocab_size, k)",
    ],
)
def idle_row_takes_a_padding_logit(node: cst.Call, context: Context) -> Iterator[cst.CSTNode]:
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
