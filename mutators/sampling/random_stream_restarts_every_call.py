"""A bug in seeded sampling."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mentions, mutator, name_of, same, walk

STREAM = r"_?(rng|generator|gen|random_state|prng)"
SET_UP = ("__init__", "__post_init__")


@mutator(
    topic="sampling",
    family="rng-reseeded-every-step",
    hints=[
        "Draw ten tokens from equal probabilities with a seed. How many different ones come?",
        "Where does the random number of the second step come from?",
        "A seed starts a stream once; every draw then continues it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm-metal/pull/50", "every step drew the same number"
        ),
    ],
    mutates={
        """
        class Sampler:
            def __init__(self, seed):
                self.seed = seed
                self.rng = random.Random(self.seed)

            def __call__(self, probs):
                return draw(probs, self.rng.random())
        """: """
        class Sampler:
            def __init__(self, seed):
                self.seed = seed
                self.rng = random.Random(self.seed)

            def __call__(self, probs):
                return draw(probs, random.Random(self.seed).random())
        """,
    },
    spares=[
        """
        class Sampler:
            def __init__(self, seed):
                self.rng = random.Random(seed)

            def __call__(self, probs):
                return draw(probs, self.rng.random())
        """,
        """
        def sample_token(probs, seed):
            return draw(probs, random.Random(seed).random())
        """,
    ],
)
def random_stream_restarts_every_call(
    node: cst.Attribute, context: Context
) -> Iterator[cst.BaseExpression]:
    """Every call makes a new random stream from the seed, and draws its first number.

    A seeded request owns a stream: the seed fixes where it starts, and each draw moves it on. Made
    anew at every step, the stream never gets beyond its beginning. The request is perfectly
    reproducible, and all its steps share one random number.

    Tests of reproducibility pass better than ever. With confident models the same number still
    leads to different tokens, and without a seed nothing is wrong.
    """
    function = context.enclosing(node, cst.FunctionDef)
    owner = context.enclosing(node, cst.ClassDef)
    if function is None or owner is None or function.name.value in SET_UP:
        return
    if not mentions(node.attr, STREAM) or name_of(node.value) != "self":
        return
    stream = _made_from_a_seed(node, owner)
    if stream is not None:
        yield stream


def _made_from_a_seed(node: cst.Attribute, owner: cst.ClassDef) -> cst.Call | None:
    """Return `Random(self.seed)` where a method that sets up assigns it to the attribute."""
    for method in walk(owner):
        if isinstance(method, cst.FunctionDef) and method.name.value in SET_UP:
            for line in method.body.body:
                match assigned(line):
                    case target, cst.Call(args=[cst.Arg(cst.Attribute(value=holder))]) as made:
                        if same(target, node) and name_of(holder) == "self":
                            return made if mentions(made, r"(\w+_)?seed") else None
    return None
