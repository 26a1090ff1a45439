"""A bug in the round of speculative decoding."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, walk

ACCEPTED = r"(n|num)_(accepted|acc|matches|matched)(_\w+)?|accept(ed)?_(len|length|count)s?"
DRAFTED = r"(n|num)_(draft|drafted|guesses|proposed|speculative)(_\w+)?|draft_(len|length)s?|gamma"


# Fits one subject: only speculative decoding has a row per guess and one more behind them.
@mutator(
    topic="decoding",
    family="spec-wrong-row-after-rejection",
    hints=[
        "Let the target be certain of every token, and reject the first guess of three.",
        "Which row of the target's answer speaks about the place where a guess was rejected?",
        "What takes the place of a rejected guess is the matter of that very place.",
    ],
    sightings=[
        Sighting(
            "https://github.com/openvinotoolkit/openvino.genai/issues/4190",
            "drawn from a row behind the rejected token",
        ),
    ],
    mutates={
        """
        def verify(target, draft, n_draft):
            next_probs = target[rows, n_accepted]
            rejected = n_accepted < n_draft
        """: """
        def verify(target, draft, n_draft):
            next_probs = target[rows, n_draft]
            rejected = n_accepted < n_draft
        """,
        """
        def accept(p, ids, gamma):
            ids[num_accepted] = sample(p[num_accepted])
            return ids[: num_accepted + 1]
        """: [
            """
            def accept(p, ids, gamma):
                ids[gamma] = sample(p[num_accepted])
                return ids[: num_accepted + 1]
            """,
            """
            def accept(p, ids, gamma):
                ids[num_accepted] = sample(p[gamma])
                return ids[: num_accepted + 1]
            """,
        ],
    },
    spares=[
        """
        def verify(target, n_draft):
            return target[: n_accepted + 1]
        """,
        """
        def verify(target):
            return target[n_accepted]
        """,
        """
        def count(stats, n_draft):
            return stats[n_draft]
        """,
    ],
)
def replacement_comes_from_the_bonus_row(node: cst.Name, context: Context) -> Iterator[cst.Name]:
    """After a rejection a step is made with the row behind the last guess.

    The target answers for every guess and once more for what would follow the last of them. If
    guess `n` is rejected, its replacement is drawn from row `n`, against the draft's row `n`, and
    written to place `n`. The last row is right only if all guesses were accepted: otherwise it
    speaks about the continuation of a text that was never said.

    With a good drafter nearly all rounds end there, and a sentence with one word too few still
    reads well.
    """
    index = context.parent(node)
    element = context.parent(index) if isinstance(index, cst.Index) else None
    if not isinstance(element, cst.SubscriptElement) or not is_called(node, ACCEPTED):
        return
    subscript = context.parent(element)
    function = context.enclosing(node, cst.FunctionDef)
    if not isinstance(subscript, cst.Subscript) or subscript.slice[-1] is not element:
        return
    for below in walk(function.params) if function is not None else ():
        if isinstance(below, cst.Param) and is_called(below.name, DRAFTED):
            yield cst.Name(below.name.value)
