"""A bug in softmaxes that are computed tile by tile."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, assigned, is_called, mutator, same, uncommented, walk

MAXIMUM = r"_?(\w+_)?(running_max|row_max|max|m|m_i|m_prev|old_max|peak|maximum|best)"


# Fits one subject: only flash_attention keeps a running maximum from tile to tile.
@mutator(
    topic="attention",
    family="accumulator-in-stale-max-frame",
    hints=[
        "Let the scores rise from tile to tile. Does the result still equal a dense softmax?",
        "Which lines need the maximum before this tile, and which the one after it?",
        "The old maximum is read for the last time before the new one takes its place.",
    ],
    sightings=[
        Sighting(
            "https://github.com/tile-ai/tilelang/pull/2360",
            "review: later blocks used a stale maximum",
        ),
        Sighting(
            "https://github.com/ROCm/rocm-libraries/pull/7194",
            "maximum and sums belonged to different steps",
        ),
    ],
    mutates={
        """
        def update(self, scores, v):
            new_max = torch.maximum(self.running_max, scores.amax(dim=-1))
            correction = torch.exp(self.running_max - new_max)
            weights = torch.exp(scores - new_max[..., None])
            self.total = self.total * correction + weights.sum(dim=-1)
            self.running_max = new_max
        """: """
        def update(self, scores, v):
            new_max = torch.maximum(self.running_max, scores.amax(dim=-1))
            self.running_max = new_max
            correction = torch.exp(self.running_max - new_max)
            weights = torch.exp(scores - new_max[..., None])
            self.total = self.total * correction + weights.sum(dim=-1)
        """,
        """
        for s, v in tiles:
            m_new = np.maximum(m, s.max(-1))
            p = np.exp(s - m_new[:, None])
            alpha = np.exp(m - m_new)
            m = m_new
            acc = acc * alpha[:, None] + p @ v
        """: """
        for s, v in tiles:
            m_new = np.maximum(m, s.max(-1))
            m = m_new
            p = np.exp(s - m_new[:, None])
            alpha = np.exp(m - m_new)
            acc = acc * alpha[:, None] + p @ v
        """,
    },
    spares=[
        """
        def update(self, scores):
            new_max = torch.maximum(self.running_max, scores.amax(dim=-1))
            self.total = self.total + torch.exp(scores - new_max).sum()
            self.running_max = new_max
        """,
        """
        for s in tiles:
            m_new = np.maximum(m, s.max(-1))
            alpha = np.exp(m - m_new)
            # The old one is not needed any more.
            m = m_new
        """,
    ],
)
def maximum_moves_on_before_the_rescaling(
    node: cst.IndentedBlock,
) -> Iterator[cst.IndentedBlock]:
    """The running maximum is replaced while the old one is still needed.

    With every tile the maximum may grow, and what was summed before is scaled by
    `exp(old maximum - new maximum)`. If the new one has taken the old one's place by then, the
    exponent is zero and the factor is one: the sums stay relative to a maximum of the past, and the
    tiles seen so far weigh too much.

    All the lines are there and each looks right. Where the first tile holds the largest score the
    factor is one anyway.
    """
    for later, line in enumerate(node.body):
        found = assigned(line)
        if found is None or not is_called(found[0], MAXIMUM) or not uncommented(line):
            continue
        old, new = found
        if not isinstance(new, cst.Name):
            continue
        made = _line_that_makes(new, node, later)
        if made is None or not _compares(old, node.body[made]):
            continue
        between = node.body[made + 1 : later]
        if any(_subtracts_from(old, below) for below in between):
            body = [*node.body[: made + 1], line, *between, *node.body[later + 1 :]]
            yield node.with_changes(body=body)


def _line_that_makes(new: cst.Name, block: cst.IndentedBlock, later: int) -> int | None:
    for at in range(later):
        found = assigned(block.body[at])
        if found is not None and same(found[0], new):
            return at
    return None


def _compares(old: cst.BaseExpression, line: cst.CSTNode) -> bool:
    """Tell whether the line takes the maximum of the old one and something else."""
    calls = [n for n in walk(line) if isinstance(n, cst.Call) and is_called(n, "maximum|max|fmax")]
    return any(same(below, old) for call in calls for below in walk(call))


def _subtracts_from(old: cst.BaseExpression, line: cst.CSTNode) -> bool:
    return any(
        isinstance(n, cst.BinaryOperation)
        and isinstance(n.operator, cst.Subtract)
        and same(n.left, old)
        for n in walk(line)
    )
