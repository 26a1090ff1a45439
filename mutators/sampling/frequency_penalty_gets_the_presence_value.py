"""A bug in passing a request's parameters on."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, same

PAIRS = {
    "frequency": "presence",
    "frequency_penalty": "presence_penalty",
    "frequency_penalties": "presence_penalties",
}


@mutator(
    topic="sampling",
    family="penalty-arguments-swapped",
    hints=[
        "Use a frequency penalty without a presence penalty. Does anything happen?",
        "Follow each parameter of a request to the formula that uses it.",
        "Each penalty is passed under its own name, and with its own value.",
    ],
    sightings=[
        Sighting(
            "https://github.com/mlc-ai/mlc-llm/pull/1693", "the presence value was passed for both"
        ),
        Sighting(
            "https://github.com/huggingface/text-generation-inference/pull/1541",
            "review: a field mapped to the wrong penalty",
        ),
    ],
    mutates={
        "f(x, presence=column('presence_penalty'), frequency=column('frequency_penalty'))": (
            "f(x, presence=column('presence_penalty'), frequency=column('presence_penalty'))"
        ),
        "Params(presence_penalty=r.presence_penalty, frequency_penalty=r.frequency_penalty)": (
            "Params(presence_penalty=r.presence_penalty, frequency_penalty=r.presence_penalty)"
        ),
        "penalties = [params[name] for name in ('presence_penalty', 'frequency_penalty')]": (
            "penalties = [params[name] for name in ('presence_penalty', 'presence_penalty')]"
        ),
    },
    spares=[
        "f(x, frequency=column('frequency_penalty'))",
        "Params(presence_penalty=0.0, frequency_penalty=0.5)",
        "names = ['frequency_penalty', 'top_p']",
        """
        def g(x, a, b):
            return f(x, presence=a, frequency=b)
        """,
    ],
)
def frequency_penalty_gets_the_presence_value(
    node: cst.Call | cst.Tuple | cst.List, context: Context
) -> Iterator[cst.BaseExpression]:
    """The presence penalty's value is passed for both penalties.

    Presence and frequency are a pair: same range, same default, next to each other wherever they
    appear. The one is a price for occurring at all, the other for every occurrence. A line copied
    for the second of them and changed in one place of two passes the first one's value twice: the
    frequency penalty of a request is ignored, and its presence penalty acts as both.

    With both at their default, or both at the same value as in many a demonstration, nothing
    differs.
    """
    if not isinstance(node, cst.Call):
        words = {_word(element.value): element.value for element in node.elements}
        for frequency, presence in PAIRS.items():
            if frequency in words and presence in words:
                yield node.deep_replace(words[frequency], words[presence])
        return
    values = {arg.keyword.value: arg.value for arg in node.args if arg.keyword is not None}
    for frequency, presence in PAIRS.items():
        if frequency not in values or presence not in values:
            continue
        old, new = values[frequency], values[presence]
        if isinstance(old, cst.BaseNumber) or same(old, new) or not context.can_spare(old):
            continue
        args = [a.with_changes(value=new) if a.value is old else a for a in node.args]
        yield node.with_changes(args=args)


def _word(node: cst.BaseExpression) -> object:
    """Return what a string says; None of anything else."""
    return node.evaluated_value if isinstance(node, cst.SimpleString) else None
