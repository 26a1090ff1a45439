"""A bug in greedy decoding."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, assignments, mentions, mutator, name_of

LOGITS = r"(\w+_)?logits"


@mutator(
    topic="sampling",
    family="greedy-fast-path-skips-processors",
    hints=[
        "Ban a token with a bias, at temperature 0. Can it still be chosen?",
        "Which tensor does each way of choosing a token look at?",
        "Temperature 0 changes how a token is chosen, not which scores it is chosen from.",
    ],
    sightings=[
        Sighting(
            "https://github.com/tenstorrent/tt-xla/pull/3415",
            "an all-greedy shortcut ignored biases and bad words",
        ),
    ],
    mutates={
        """
        def sample(self, logits, history, greedy):
            scores = self.process(logits, history)
            drawn = draw(scores.softmax(-1))
            return torch.where(greedy, scores.argmax(dim=-1), drawn)
        """: """
        def sample(self, logits, history, greedy):
            scores = self.process(logits, history)
            drawn = draw(scores.softmax(-1))
            return torch.where(greedy, logits.argmax(dim=-1), drawn)
        """,
        """
        def step(self, next_logits):
            filtered = apply_bias(next_logits, self.bias)
            if self.greedy:
                return torch.argmax(filtered, dim=-1)
            return draw(filtered)
        """: """
        def step(self, next_logits):
            filtered = apply_bias(next_logits, self.bias)
            if self.greedy:
                return torch.argmax(next_logits, dim=-1)
            return draw(filtered)
        """,
    },
    spares=[
        """
        def only_use(self, logits):
            scores = self.process(logits)
            return scores.argmax(-1)
        """,
        """
        def pick(probs, noise):
            race = torch.div(probs, noise)
            return race.argmax(-1), race
        """,
    ],
)
def greedy_skips_the_processors(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """Greedy requests take the arg-max of the raw logits.

    Biases, bans, penalties and minimum lengths say which tokens are possible and at what price;
    temperature says how to choose among them. Greedy is the choice of the best *processed* score.
    An arg-max of the raw logits looks the same and ignores all that the request asked for.

    Processors are tested with sampling switched on, greedy decoding is tested without processors,
    and a greedy answer is never obviously wrong.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if name_of(node) != "argmax" or function is None or not arguments(node):
        return
    scores = arguments(node)[0].value
    if not isinstance(scores, cst.Name) or not context.can_spare(scores):
        return
    raw = _raw_logits(scores.value, function)
    if raw is not None:
        plain = scores.with_changes(value=raw)
        if isinstance(node.func, cst.Attribute) and node.func.value is scores:
            yield node.with_changes(func=node.func.with_changes(value=plain))
        else:
            yield node.with_changes(args=[node.args[0].with_changes(value=plain), *node.args[1:]])


def _raw_logits(scores: str, function: cst.FunctionDef) -> str | None:
    """Return the parameter `logits` where the function has `scores = process(logits, ...)`."""
    parameters = {param.name.value for param in function.params.params}
    for value in assignments(function, scores):
        match value:
            case cst.Call(args=[cst.Arg(cst.Name(value=raw)), *_]):
                if raw in parameters and raw != scores and mentions(value.args[0], LOGITS):
                    return raw
    return None
