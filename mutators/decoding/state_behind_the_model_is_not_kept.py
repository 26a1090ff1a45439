"""A bug in decoding loops around a model with a cache."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mentions, mutator, same

POSITION = r"(\w+_)?(masks?|positions?|pos|start|offset|step)"
STATE = r"(\w+_)?(states?|caches?|past|past_key_values|pkv|kv|hidden|memory)"


# Fits one subject: elsewhere the model is also given positions or a mask, and a state that lags
# behind them raises.
@mutator(
    topic="decoding",
    family="beam-reorder-result-discarded",
    hints=[
        "Give the model a state that counts its calls. What does the third call get to see?",
        "Follow the state through one step: who makes the new one, and who holds it afterwards?",
        "Every call leaves a new state behind, and the next call must be given that one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/awslabs/sockeye/pull/731", "returned states were not taken over"
        ),
        Sighting(
            "https://github.com/huggingface/transformers/issues/46612",
            "generation went on from another past",
        ),
    ],
    mutates={
        "logits, self.state = self.step_fn(tokens, self.state)": (
            "logits, _ = self.step_fn(tokens, self.state)"
        ),
        """
        for token in prompt:
            out, hidden = rnn(embed(token), hidden)
        """: """
        for token in prompt:
            out, _ = rnn(embed(token), hidden)
        """,
        "logits, cache = model(ids, past_key_values=cache)": (
            "logits, _ = model(ids, past_key_values=cache)"
        ),
    },
    spares=[
        "logits, cache = model(ids, None)",
        "logits, cache = model(ids, mask[:, :stop], positions, cache)",
        "logits, state = model(prompt, ())",
        "logits, attention = model(ids, attention)",
    ],
)
def state_behind_the_model_is_not_kept(
    node: cst.Assign,
) -> Iterator[cst.Assign]:
    """The model's new state is dropped, and the next call gets the old one again.

    A model that is fed token by token returns its logits together with the state behind them. The
    state is the only memory it has: who does not keep it asks every time about the same past, with
    all tokens since then forgotten.

    The first call after the prompt is right, so short answers are, and what comes later is as
    fluent as ever. A cache that is changed in place makes the slip harmless, and many are.
    """
    match node:
        case cst.Assign(
            targets=[cst.AssignTarget(cst.Tuple(elements=[logits, cst.Element(state)]) as pair)],
            value=cst.Call() as call,
        ) if is_called(state, STATE) and any(same(arg.value, state) for arg in call.args):
            if any(mentions(arg.value, POSITION) for arg in call.args):
                return  # the model is told where it is, and would miss what is not in its state
            kept = pair.with_changes(elements=[logits, cst.Element(cst.Name("_"))])
            yield node.with_changes(targets=[node.targets[0].with_changes(target=kept)])
