"""A bug in lengths that have an upper bound."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, assigned, is_called, mutator, same
from halfhour.mutators._idioms import LENGTH

BOUNDED = rf"{LENGTH}|final|(\w+_)?(stop|end|limit|budget|n_cached|n_computed|n_tokens)"


@mutator(
    topic="decoding",
    family="spec-draft-rewind-too-long",
    hints=[
        "Ask for a length beyond what is there. What does the object say about itself afterwards?",
        "Which lengths may shrink but never grow, and where are they set?",
        "What is cut to a length keeps its own if it is shorter: the smaller of the two counts.",
    ],
    sightings=[
        Sighting(
            "https://github.com/lablup/mlxcel/issues/994",
            "the draft cache was not where the rewind thought",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/pull/9730",
            "the draft cache missed the bonus token",
        ),
    ],
    mutates={
        "self.length = min(self.length, length)": "self.length = length",
        "final = min(length + 1, final)": "final = length + 1",
        "self.offset = np.minimum(self.offset, n)": "self.offset = n",
        "lengths = lengths.clamp(max=limit)": "lengths = limit",
    },
    spares=[
        "stop = min(start + chunk, width)",
        "self.length = min(self.length, 4096)",
        "k = torch.minimum(k, vocab)",
    ],
)
def shorter_cache_is_stretched(node: cst.SimpleStatementLine) -> Iterator[cst.CSTNode]:
    """A length is set to its new bound although it was below it already.

    Cutting to `n` means: at most `n`. A drafter's cache often is one token behind the target's,
    because its last guess was never fed back. If the rollback sets its length to that of the text,
    the cache claims a token that it does not hold, and this token will never be read.

    Wherever there is something to cut, setting and bounding are the same. Verification hides what a
    drafter with a hole in its memory proposes: the text is right, and comes more slowly.
    """
    match assigned(node):
        case target, cst.Call(args=[first, *rest]) as call if is_called(target, BOUNDED):
            if is_called(call, "min|minimum") and len(rest) == 1:
                bounds = [first.value, rest[0].value]
            elif is_called(call, "clamp|clip") and isinstance(call.func, cst.Attribute):
                named = first.keyword is not None and first.keyword.value == "max"
                bounds = [call.func.value, first.value] if named and not rest else []
            else:
                return
            others = [b for b in bounds if not same(b, target)]
            if len(others) == 1 and len(bounds) == 2 and not isinstance(others[0], cst.Integer):
                line = node.body[0]
                yield node.with_changes(body=[line.with_changes(value=others[0])])
