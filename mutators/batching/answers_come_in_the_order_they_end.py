"""A bug where answers are handed out."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, is_called, mutator, pattern

DONE = r"(\w+_)?(done|finished|results?|outputs?|answers?|completed|responses?|by_id|by_index)"
VALUES = pattern("list($done.values())")


# Fits one subject: only static batching returns its answers as a list.
@mutator(
    topic="batching",
    family="results-in-completion-order",
    hints=[
        "Send a long request first and short ones behind it. Which answer belongs to which?",
        "In which order do the answers arrive, and in which do they leave?",
        "Answer i belongs to request i, whichever was finished first.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/issues/394", "inputs and outputs in other orders"
        ),
        Sighting(
            "https://github.com/bespokelabsai/curator/pull/289", "responses went to the wrong row"
        ),
    ],
    mutates={
        "return [done[index] for index in sorted(done)]": "return list(done.values())",
        "answers = [self.results[r.id] for r in requests]": (
            "answers = list(self.results.values())"
        ),
        "out = [finished[i] for i in range(len(prompts))]": "out = list(finished.values())",
    },
    spares=[
        "rows = [table[i] for i in order]",
        "out = [done[i] for i in order if i in done]",
        "out = [f(done[i]) for i in ids]",
    ],
)
def answers_come_in_the_order_they_end(node: cst.ListComp) -> Iterator[cst.CSTNode]:
    """Answers are returned in the order in which they were finished.

    Requests of a batch end at different steps and are collected as they do. Callers expect a list
    in the order of what they sent. A dictionary keeps the order in which it was filled, so its
    values are the answers by the time they took.

    Every answer is a good one, and where all have the same length, or where there is just one
    request, the two orders agree.
    """
    match node:
        case cst.ListComp(
            elt=cst.Subscript(value=done), for_in=cst.CompFor(ifs=[], inner_for_in=None)
        ) if is_called(done, DONE):
            yield fill(VALUES, {"done": done})
