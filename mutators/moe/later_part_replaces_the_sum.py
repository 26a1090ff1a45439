"""A bug where several parts are added up in the rows of one buffer."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, is_called, mutator

SUM = (
    r"(\w+_)?(out|outputs?|results?|total|hidden_states|acc\w*|combined|counts?|y|bags|pooled)"
    r"|final_\w+"
)
REPLACES = {
    "index_add_": "index_copy_",
    "index_add": "index_copy",
    "scatter_add_": "scatter_",
    "scatter_add": "scatter",
}


@mutator(
    topic="moe",
    family="expert-outputs-overwrite",
    hints=[
        "What comes out where two parts meet in one row, and where each row gets one part only?",
        "Which lines write into a buffer at given rows, and can a row be given twice?",
        "Parts that meet in one row add up; a write that only sets the row keeps the last.",
    ],
    sightings=[
        Sighting(
            "https://github.com/AviSoori1x/makeMoE/issues/2",
            "each expert's output replaced the one before",
        ),
    ],
    mutates={
        """
        for expert in range(n_experts):
            token, choice = torch.where(mask[expert])
            y = experts[expert](x[token]) * weights[token, choice, None]
            final_hidden_states.index_add_(0, token, y)
        """: """
        for expert in range(n_experts):
            token, choice = torch.where(mask[expert])
            y = experts[expert](x[token]) * weights[token, choice, None]
            final_hidden_states.index_copy_(0, token, y)
        """,
        """
        for i, expert in enumerate(self.experts):
            rows, nth = np.nonzero(ids == i)
            out[rows] += expert(x[rows]) * w[rows, nth, None]
        """: """
        for i, expert in enumerate(self.experts):
            rows, nth = np.nonzero(ids == i)
            out[rows] = expert(x[rows]) * w[rows, nth, None]
        """,
        "counts = counts.scatter_add(1, ids, ones)": "counts = counts.scatter(1, ids, ones)",
    },
    spares=[
        "out[rows] = expert(x[rows])",
        "out += shared_expert(x)",
        "logits[:, eos_id] += bias",
        "cache.index_copy_(0, token, y)",
    ],
)
def later_part_replaces_the_sum(
    node: cst.Name | cst.AugAssign,
) -> Iterator[cst.Name | cst.Assign]:
    """A row to which several parts belong keeps only the part that came last.

    A token goes to several experts, and its output is the sum of theirs. The experts run one after
    the other, each on its own tokens, and add what they found to the rows of one buffer. If they
    set the rows instead, the last expert wins and all others worked in vain. The same holds for
    counts of tokens and for pooled vectors, where one row is named more than once.

    Each part is right, shapes and scale look as usual, and where a row has one part only, as in
    top-1 routing, setting and adding to zeros are the same.
    """
    match node:
        case cst.Name(value=method) if method in REPLACES:
            yield node.with_changes(value=REPLACES[method])
        case cst.AugAssign(cst.Subscript() as rows, cst.AddAssign(), value) if is_called(rows, SUM):
            yield cst.Assign([cst.AssignTarget(rows)], value)
