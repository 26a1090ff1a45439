"""A bug in drafting."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mutator, pattern, walk

DRAFTS = r"_?(\w+_)?(propose|draft|guess|speculate|candidates?|lookahead)(_\w+)?"
PROBS = r"q|q_\w+|(\w+_)?(probs?|probabilities)"
TAKEN = {
    pattern("torch.multinomial($q, 1)"): pattern("$q.argmax(dim=-1, keepdim=True)"),
    pattern("torch.multinomial($q, num_samples=1)"): pattern("$q.argmax(dim=-1, keepdim=True)"),
    pattern("$rng.choice($n, p=$q)"): pattern("$q.argmax()"),
}
BEST = pattern("$q.argmax(dim=-1)")


# Fits one subject: only speculative decoding hands on the distribution that it drew from.
@mutator(
    topic="decoding",
    family="spec-q-is-not-the-sampled-distribution",
    hints=[
        "Draft with a flat distribution, many times. How often is each token proposed?",
        "From what is a guess taken, and what is the other side told that it was taken from?",
        "The distribution that is reported has to be the one that was drawn from.",
    ],
    sightings=[
        Sighting(
            "https://github.com/jaymody/speculative-sampling/issues/3",
            "arg-max draft beside a softmax, author agreed",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/issues/47932",
            "the returned q was not sampled from",
        ),
    ],
    mutates={
        """
        def propose(self, tokens, k):
            probs = self.model(tokens)
            pending = [int(draw(probs, self.generator))]
            self.steps.append(probs)
        """: """
        def propose(self, tokens, k):
            probs = self.model(tokens)
            pending = [int(probs.argmax(dim=-1))]
            self.steps.append(probs)
        """,
        """
        def draft_one(self, ids):
            q = softmax(self.model(ids))
            return self.rng.choice(self.vocab, p=q), q
        """: """
        def draft_one(self, ids):
            q = softmax(self.model(ids))
            return q.argmax(), q
        """,
    },
    spares=[
        """
        def sample(self, probs):
            return draw(probs, self.generator), probs
        """,
        """
        def propose(self, probs):
            return draw(probs, self.generator)
        """,
    ],
)
def draft_takes_the_best_but_reports_the_odds(
    node: cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """The drafter proposes its favourite and reports the distribution that it did not draw from.

    The rule of acceptance undoes the drafter's preferences: a token that it proposes with
    probability `q` is thinned out by `p / q`. That works out only if the token is really proposed
    that often. A favourite that always comes, and is judged as if it came sometimes, is accepted
    too often, and the output leans towards it.

    Greedy decoding is exact all the same, and so is a drafter that is sure of itself. The bias at
    higher temperatures reads like a matter of taste.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or not is_called(function.name, DRAFTS):
        return
    for drawn, best in TAKEN.items():
        found = drawn.match(node)
        if found is not None and _is_reported(found["q"], function):
            yield fill(best, {"q": found["q"]})
    if is_called(node, r"_?(draw|sample)(_token|_from)?") and node.args:
        probs = node.args[0].value
        if _is_reported(probs, function) and context.can_spare(node):
            yield fill(BEST, {"q": probs})


def _is_reported(probs: cst.BaseExpression, function: cst.FunctionDef) -> bool:
    """Tell whether the variable appears again, beside its assignment and the draw."""
    if not isinstance(probs, cst.Name) or not is_called(probs, PROBS):
        return False
    names = [n for n in walk(function.body) if isinstance(n, cst.Name) and n.value == probs.value]
    return len(names) > 2 - any(p.name.value == probs.value for p in function.params.params)
