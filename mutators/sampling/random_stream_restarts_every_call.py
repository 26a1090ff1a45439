"""A bug in seeded sampling."""

from collections.abc import Iterator, Mapping

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
        """
        @dataclass
        class Row:
            request: Request
            generator: torch.Generator

        class Engine:
            def admit(self, request):
                return Row(request, torch.Generator().manual_seed(request.seed))

            def step(self, probs, rows):
                streams = [row.generator for row in rows]
                return [draw(p, stream) for p, stream in zip(probs, streams)]
        """: """
        @dataclass
        class Row:
            request: Request
            generator: torch.Generator

        class Engine:
            def admit(self, request):
                return Row(request, torch.Generator().manual_seed(request.seed))

            def step(self, probs, rows):
                streams = [row.generator.manual_seed(row.request.seed) for row in rows]
                return [draw(p, stream) for p, stream in zip(probs, streams)]
        """,
        """
        class Decoder:
            def __init__(self, config):
                self.config = config
                self.rng = np.random.default_rng(config.seed)

            def sample(self, probs):
                return self.rng.choice(len(probs), p=probs)
        """: """
        class Decoder:
            def __init__(self, config):
                self.config = config
                self.rng = np.random.default_rng(config.seed)

            def sample(self, probs):
                return np.random.default_rng(self.config.seed).choice(len(probs), p=probs)
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
    if not mentions(node.attr, STREAM) or isinstance(context.parent(node), cst.AssignTarget):
        return
    match node.value:
        case cst.Name("self"):
            stream = _made_by_itself(node, owner, context)
        case cst.Name() as record:
            stream = _made_for(record, node.attr.value, context)
        case _:
            return
    match stream:
        case cst.Call(func=cst.Attribute(attr=cst.Name("manual_seed")) as reseeded):
            yield stream.with_changes(func=reseeded.with_changes(value=node))
        case cst.Call():
            yield stream


def _made_by_itself(
    node: cst.Attribute, owner: cst.ClassDef, context: Context
) -> cst.BaseExpression | None:
    """Return `Random(self.seed)` where a method that sets up assigns it to the attribute."""
    for method in walk(owner):
        if isinstance(method, cst.FunctionDef) and method.name.value in SET_UP:
            found = [pair for line in method.body.body if (pair := assigned(line)) is not None]
            known = {
                value.value: target
                for target, value in found
                if isinstance(value, cst.Name) and name_of(_holder(target)) == "self"
            }
            for target, value in found:
                if same(target, node):
                    return _seeded(value, known, context)
    return None


def _made_for(record: cst.Name, stream: str, context: Context) -> cst.BaseExpression | None:
    """Return what a class of this file was handed as its stream, in terms of its other fields."""
    fields = {
        owner.name.value: [
            name_of(line.body[0].target)
            for line in owner.body.body
            if isinstance(line, cst.SimpleStatementLine) and isinstance(line.body[0], cst.AnnAssign)
        ]
        for owner in walk(context.module)
        if isinstance(owner, cst.ClassDef)
    }
    for call in walk(context.module):
        if isinstance(call, cst.Call) and stream in fields.get(name_of(call), ()):
            names = fields[name_of(call)]
            given = {
                arg.keyword.value if arg.keyword else name: arg.value
                for arg, name in zip(call.args, names, strict=False)
            }
            known: dict[str, cst.BaseExpression] = {
                value.value: cst.Attribute(record, cst.Name(name))
                for name, value in given.items()
                if isinstance(value, cst.Name)
            }
            if stream in given:
                return _seeded(given[stream], known, context)
    return None


def _holder(node: cst.BaseExpression) -> cst.BaseExpression:
    return node.value if isinstance(node, cst.Attribute) else node


def _seeded(
    made: cst.BaseExpression, known: Mapping[str, cst.BaseExpression], context: Context
) -> cst.BaseExpression | None:
    """Return a call that makes a stream from a seed, its parameters replaced by what holds them."""
    function = context.enclosing(made, cst.FunctionDef)
    if not isinstance(made, cst.Call) or not mentions(made, r"(\w+_)?seed") or function is None:
        return None
    params = {param.name.value for param in function.params.params} - {"self"}
    stream: cst.CSTNode = made
    for name in walk(made):
        if isinstance(name, cst.Name) and name.value in params and context.is_read(name):
            if name.value not in known:
                return None
            stream = stream.deep_replace(name, known[name.value])
    assert isinstance(stream, cst.BaseExpression)
    return stream
