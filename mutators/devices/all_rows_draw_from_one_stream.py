"""A bug in seeded sampling of several rows."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, fill, is_called, mutator, pattern, same

STACKED = {
    pattern("torch.stack([torch.rand($n, generator=$g) for $g in $all])"): pattern(
        "torch.rand(len($all), $n, generator=$all[0])"
    ),
    pattern("np.stack([$g.random($n) for $g in $all])"): pattern("$all[0].random((len($all), $n))"),
}
DRAWS = r"(uniform|exponential|normal|geometric|cauchy|random)_"


@mutator(
    topic="devices",
    family="generator-device-dtype-changes-stream",
    hints=[
        "Run a seeded request alone, then as the second of two. Does it get the same tokens?",
        "Count the generators that are given, and those that are drawn from.",
        "A row's random numbers come from its own generator, whatever else is in the batch.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/diffusers/pull/1902",
            "numbers depended on where and how they were drawn",
        ),
        Sighting(
            "https://github.com/pytorch/pytorch/issues/79496", "one seed, other numbers elsewhere"
        ),
    ],
    mutates={
        """
        noise = torch.empty(probs.shape)
        for row, generator in zip(noise, generators, strict=True):
            row.exponential_(generator=generator)
        """: """
        noise = torch.empty(probs.shape)
        noise.exponential_(generator=generators[0])
        """,
        "u = torch.stack([torch.rand(vocab, generator=g) for g in self.generators])": (
            "u = torch.rand(len(self.generators), vocab, generator=self.generators[0])"
        ),
        "u = np.stack([rng.random(n) for rng in streams])": (
            "u = streams[0].random((len(streams), n))"
        ),
    },
    spares=[
        """
        for row in noise:
            row.exponential_(generator=generator)
        """,
        """
        for row, scale in zip(noise, scales):
            row.mul_(scale)
        """,
        "u = torch.rand(len(rows), vocab, generator=generator)",
    ],
)
def all_rows_draw_from_one_stream(node: cst.For | cst.Call) -> Iterator[cst.CSTNode]:
    """The random numbers of the whole batch are drawn at once, from the generator of its first row.

    Every request has a generator with a seed of its own, so that it gets the same tokens whoever
    else is in the batch. One draw for all rows is shorter and faster, and takes the numbers of all
    from one stream: only the first row has its own, and how far that stream moves depends on the
    size of the batch.

    The numbers are as random as before, and a batch of one is reproduced exactly. That is how seeds
    are tested.
    """
    match node:
        case cst.Call():
            for each, whole in STACKED.items():
                if (found := each.match(node)) is not None:
                    yield fill(whole, found)
        case cst.For(
            target=cst.Tuple(elements=[cst.Element(row), cst.Element(generator)]),
            iter=cst.Call(args=[cst.Arg(rows), cst.Arg(generators), *_]) as pairs,
            body=cst.IndentedBlock(
                body=[cst.SimpleStatementLine(body=[cst.Expr(cst.Call() as draw)]) as line]
            ),
            orelse=None,
        ) if is_called(pairs, "zip") and is_called(draw, DRAWS):
            match draw.func, draw.args:
                case cst.Attribute(value=drawn), [*_, cst.Arg(value=given) as last]:
                    if same(drawn, row) and same(given, generator):
                        index = cst.SubscriptElement(cst.Index(cst.Integer("0")))
                        first = last.with_changes(value=cst.Subscript(generators, [index]))
                        whole_draw = draw.with_changes(
                            func=draw.func.with_changes(value=rows), args=[*draw.args[:-1], first]
                        )
                        yield line.with_changes(
                            body=[cst.Expr(whole_draw)], leading_lines=node.leading_lines
                        )
