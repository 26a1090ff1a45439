"""A bug in generation loops."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mentions, mutator, same

FLAG = (
    r"(\w+_)?(active|alive|running|unfinished(_sequences)?|pending|"
    r"finished|done|is_done|ended|stopped|eos_reached)"
)
STOP = r"(\w+_)?(eos|eos_id|eos_token_id|stop|stop_id|end_id|eot)(_\w+)?"


# Fits one subject: only this decoder keeps a flag per row instead of dropping the row.
@mutator(
    topic="batching",
    family="finished-flag-not-sticky",
    hints=[
        "Let one row of a batch finish early. What does the loop do with it two steps later?",
        "What does the flag of a finished row depend on in the next step?",
        "Finished is for ever: the new flag is the old one combined with what just happened.",
    ],
    sightings=[
        Sighting(
            "https://github.com/awslabs/sockeye/pull/233", "recomputed from the latest tokens only"
        ),
        Sighting(
            "https://github.com/mistralai/mistral-inference/pull/270",
            "rows past their end kept producing tokens",
        ),
    ],
    mutates={
        "active = active & (next_tokens != eos_id)": "active = next_tokens != eos_id",
        "finished |= tok == self.eos_token_id": "finished = tok == self.eos_token_id",
        "done = torch.logical_or(done, tok == eos)": "done = tok == eos",
        "unfinished_sequences = unfinished_sequences.mul(ids.ne(eos_token_id).long())": (
            "unfinished_sequences = ids.ne(eos_token_id).long()"
        ),
    },
    spares=[
        "active = lengths < limit",
        "mask = mask & (tokens != eos_id)",
        "active = active & (budget > 0)",
    ],
)
def finished_row_wakes_up_again(
    node: cst.Assign | cst.AugAssign,
) -> Iterator[cst.Assign]:
    """A row counts as finished only in the step in which it produced EOS.

    A batch goes on until its last row is finished, and the finished ones ride along: what the model
    returns for them means nothing. If the flag is computed anew from the latest token, a row that
    has ended is unfinished again with its next token, and goes on writing behind its own end.

    Where finished rows are forced to repeat EOS the slip is invisible, and so it is in a batch of
    one, which stops at once.
    """
    match node:
        case cst.AugAssign(target=flag, operator=cst.BitAndAssign() | cst.BitOrAssign(), value=new):
            if is_called(flag, FLAG) and mentions(new, STOP):
                yield cst.Assign(targets=[cst.AssignTarget(flag)], value=new)
        case cst.Assign(targets=[cst.AssignTarget(flag)], value=value) if is_called(flag, FLAG):
            event = _joined_with(flag, value)
            if event is not None and mentions(event, STOP):
                yield node.with_changes(value=event.with_changes(lpar=[], rpar=[]))


def _joined_with(flag: cst.BaseExpression, value: cst.BaseExpression) -> cst.BaseExpression | None:
    """Return what the old flag is combined with."""
    match value:
        case cst.BinaryOperation(left, cst.BitAnd() | cst.BitOr() | cst.Multiply(), right):
            parts = (left, right)
        case cst.Call(cst.Attribute(attr=cst.Name("logical_or" | "logical_and")), [a, b]):
            parts = (a.value, b.value)
        case cst.Call(
            cst.Attribute(value=old, attr=cst.Name("mul" | "logical_or" | "logical_and")), [a]
        ):
            parts = (old, a.value)
        case _:
            return None
    others = [part for part in parts if not same(part, flag)]
    return others[0] if len(others) == 1 else None
