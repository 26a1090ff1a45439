"""A bug in the order of softmax and bans."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import Sighting, argument, assigned, is_called, mutator, same, uncommented

BANS = r"_?(forbid|ban|block|suppress|mask|process|constrain|apply)(_\w+)?|masked_fill"


# Fits one subject: only sums of log-probabilities over several steps depend on this order.
@mutator(
    topic="decoding",
    family="beam-logsoftmax-before-processors",
    hints=[
        "Forbid the likeliest token of one beam. What becomes of the scores of its other tokens?",
        "On which scale are the scores of different beams, and which step puts them there?",
        "Whether a ban shares out the banned mass is a matter of order, and part of the contract.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/10638",
            "beams compared on different scales",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/pull/19143",
            "answered by a switch to normalise again",
        ),
    ],
    mutates={
        """
        def extend(self, logits):
            logprobs = torch.log_softmax(logits.float(), dim=-1)
            logprobs = forbid_tokens(logprobs, self.tokens)
            return logprobs
        """: """
        def extend(self, logits):
            logprobs = forbid_tokens(logits.float(), self.tokens)
            logprobs = torch.log_softmax(logprobs, dim=-1)
            return logprobs
        """,
        """
        def step(logits, banned):
            scores = logits.log_softmax(-1)
            scores = scores.masked_fill(banned, -INF)
            return scores
        """: """
        def step(logits, banned):
            scores = logits.masked_fill(banned, -INF)
            scores = scores.log_softmax(-1)
            return scores
        """,
    },
    spares=[
        """
        def step(logits, banned):
            scores = logits.masked_fill(banned, -INF)
            scores = scores.log_softmax(-1)
            return scores
        """,
        """
        def step(logits, banned):
            scores = logits.log_softmax(-1)
            others = scores.masked_fill(banned, -INF)
            return scores, others
        """,
    ],
)
def scores_are_normalised_after_the_ban(
    node: cst.IndentedBlock,
) -> Iterator[cst.IndentedBlock]:
    """Bans are applied to the logits, and the softmax shares out the mass of what was banned.

    Beams are ranked by sums of log-probabilities. Taken from the model and then cut, they stay on
    the model's scale: a beam that may not go on as it wants to pays for it. Cut first, the rest of
    the row is scaled up to 1 again, and the beam that was held back most gains most. Either order
    can be meant, but not both in one search.

    Without a ban both orders are the same, and within a row the ranking is the same always. Greedy
    search cannot tell.
    """
    for at, (scores, bans) in enumerate(pairwise(node.body)):
        if not uncommented(scores, bans):
            continue
        match assigned(scores), assigned(bans):
            case (name, cst.Call() as softmax), (again, cst.Call() as ban):
                if not (same(name, again) and is_called(softmax, "log_softmax")):
                    continue
                logits, banned = argument(softmax, 0), argument(ban, 0)
                if logits is None or banned is None or not is_called(ban, BANS):
                    continue
                if same(banned, name):
                    first = ban.deep_replace(banned, logits)
                    second = softmax.deep_replace(logits, name)
                    body = list(node.body)
                    body[at] = _with_value(scores, first)
                    body[at + 1] = _with_value(bans, second)
                    yield node.with_changes(body=body)


def _with_value(line: cst.BaseStatement, value: cst.CSTNode) -> cst.BaseStatement:
    assert isinstance(line, cst.SimpleStatementLine)
    return line.with_changes(body=[line.body[0].with_changes(value=value)])
