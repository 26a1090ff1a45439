"""A bug in batches that mix greedy and random requests."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, pattern
from halfhour.mutators._idioms import TEMPERATURE

GUARDS = [
    pattern("torch.where($cond, 1.0, $t)", t=TEMPERATURE),
    pattern("torch.where($cond, $t, 1.0)", t=TEMPERATURE),
    pattern("np.where($cond, 1.0, $t)", t=TEMPERATURE),
    pattern("$t.masked_fill($cond, 1.0)", t=TEMPERATURE),
    pattern("$t.clamp(min=$least)", t=TEMPERATURE),
    pattern("$t.clamp_min($least)", t=TEMPERATURE),
    pattern("torch.clamp($t, min=$least)", t=TEMPERATURE),
]


@mutator(
    topic="sampling",
    family="temperature-zero-in-mixed-batch",
    hints=[
        "Put a greedy request beside a random one. What are the greedy row's scores?",
        "Which rows reach the division, and what are they divided by?",
        "Temperature 0 means greedy: such a row must be divided by something else than 0.",
    ],
    sightings=[
        Sighting("https://github.com/vllm-project/vllm/pull/24734", "greedy rows turned to NaN"),
        Sighting(
            "https://github.com/sgl-project/sglang/pull/23296",
            "division by zero when the batch is mixed",
        ),
        Sighting(
            "https://github.com/google-deepmind/gemma/issues/562", "three samplers divide by zero"
        ),
    ],
    mutates={
        "x = x / torch.where(temperature == 0, 1.0, temperature)[:, None]": (
            "x = x / temperature[:, None]"
        ),
        "probs = (logits / temps.clamp(min=1e-5)[:, None]).softmax(-1)": (
            "probs = (logits / temps[:, None]).softmax(-1)"
        ),
    },
    spares=[
        "k = torch.where(k < 0, vocab_size, k)",
        "t = torch.where(greedy, 1.0, temperature)",
        "x = x / scale.clamp(min=1e-5)",
    ],
)
def temperature_zero_reaches_the_division(
    node: cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """Greedy rows are divided by their temperature, which is zero.

    In a batch every request has its own temperature, and 0 stands for greedy. The scores of the
    whole batch are divided at once, so greedy rows need a divisor that leaves them alone. Otherwise
    their positive scores become inf, their negative ones -inf and zeros NaN: the arg-max of such a
    row is the first of many infinities, or nothing.

    Batches that are all greedy or all random often take other paths, and only the mixed ones come
    here. Where the best token is the only positive one, even the answer is right.
    """
    found = next((found for form in GUARDS if (found := form.match(node)) is not None), None)
    if found is None or not _is_divisor(node, context):
        return
    if "cond" not in found or context.can_spare(found["cond"]):
        yield found["t"]


def _is_divisor(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node, perhaps with new axes, stands right of a division."""
    for above in context.ancestors(node):
        match above:
            case cst.BinaryOperation(operator=cst.Divide(), right=right):
                return right is node
            case cst.Subscript(value=value) if value is node:
                node = above
            case _:
                return False
    return False
