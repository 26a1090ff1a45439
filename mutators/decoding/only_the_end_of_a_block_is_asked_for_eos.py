"""A bug in loops that take several tokens per round."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, is_called, mutator, pattern

EOS = r"(\w+_)?(eos|eot|stop|end)(_(id|token|token_id))?"
LAST = pattern("$new[-1]")
LAST_COLUMN = pattern("$new[..., -1] == $eos")
UP_TO_THE_END = pattern("$new[: $new.index($eos) + 1]")
ANYWHERE = [
    pattern(code)
    for code in (
        "($new == $eos).any()",
        "($new == $eos).any(-1)",
        "($new == $eos).any(dim=-1)",
        "($new == $eos).any(axis=-1)",
        "torch.any($new == $eos)",
        "torch.any($new == $eos, dim=-1)",
        "np.any($new == $eos)",
    )
]


@mutator(
    topic="decoding",
    family="spec-eos-inside-block",
    hints=[
        "Let a round yield three tokens, the second of which is EOS. What is the output?",
        "Which of the new tokens are looked at, and which of them are kept?",
        "A text ends at its first EOS, wherever in a round that is.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/47931",
            "EOS inside the candidates was overlooked",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/31301",
            "the same for drafts from the prompt",
        ),
        Sighting(
            "https://github.com/sgl-project/sglang/issues/39826", "tokens past EOS were counted"
        ),
    ],
    mutates={
        """
        if eos_id in new:
            tokens += new[: new.index(eos_id) + 1]
            break
        """: [
            """
            if new[-1] == eos_id:
                tokens += new[: new.index(eos_id) + 1]
                break
            """,
            """
            if eos_id in new:
                tokens += new
                break
            """,
        ],
        "done = (new_ids == eos_token_id).any(dim=-1)": "done = new_ids[..., -1] == eos_token_id",
    },
    spares=[
        "done = token in eos_ids",
        "bad = (ids == pad_id).any(dim=-1)",
        "head = new[: new.index(sep) + 1]",
    ],
)
def only_the_end_of_a_block_is_asked_for_eos(
    node: cst.Comparison | cst.Call | cst.Subscript,
) -> Iterator[cst.CSTNode]:
    """A text goes on behind an EOS that stands inside a round's tokens.

    A loop that gets one token per step need only look at the newest. With several per round EOS may
    be any of them, and those behind it are guesses about a text that is over. All are to be looked
    at, and what follows the first EOS is to be dropped.

    When EOS happens to be the last of its round everything is right, so the fault comes and goes,
    and with it some words after the end.
    """
    match node:
        case cst.Comparison(left=eos, comparisons=[cst.ComparisonTarget(cst.In(), new)]):
            if is_called(eos, EOS):
                last = cst.ensure_type(fill(LAST, {"new": new}), cst.Subscript)
                yield node.with_changes(
                    left=last, comparisons=[cst.ComparisonTarget(cst.Equal(), eos)]
                )
        case cst.Call():
            for anywhere in ANYWHERE:
                found = anywhere.match(node)
                if found is not None and is_called(found["eos"], EOS):
                    yield fill(LAST_COLUMN, found)
        case cst.Subscript():
            found = UP_TO_THE_END.match(node)
            if found is not None and is_called(found["eos"], EOS):
                yield found["new"]
