"""A bug where a flat list is cut into groups of one size."""

from halfhour.mutators import Sighting, mutator

SIZE = r"n|k|size|(\w+_)?(size|len|width|beams|samples|per_\w+|group)|n_\w+|num_\w+"


# Fits one subject: only the block manager cuts a list by the number of a piece.
@mutator(
    topic="batching",
    family="multi-sample-stride",
    hints=[
        "Cut 0..5 into groups of two by the code. Are the groups [0, 1], [2, 3] and [4, 5]?",
        "Where does group number 1 begin, if a group has more than one item?",
        "Group i begins behind i whole groups, at i times their size.",
    ],
    sightings=[
        Sighting(
            "https://github.com/dottxt-ai/outlines/pull/1025",
            "the samples of different prompts were mixed",
        ),
    ],
    mutates={
        "group = flat[i * n : (i + 1) * n]": "group = flat[i : i + n]",
        """
        def chunk(self, tokens, index):
            return tokens[index * self.block_size : (index + 1) * self.block_size]
        """: """
        def chunk(self, tokens, index):
            return tokens[index : index + self.block_size]
        """,
        "outs = [flat[i * num_samples : i * num_samples + num_samples] for i in range(batch)]": (
            "outs = [flat[i : i + num_samples] for i in range(batch)]"
        ),
    },
    spares=[
        "group = flat[i : i + n]",
        "group = flat[i * n : (j + 1) * n]",
        "group = flat[i * stride : i * stride + n]",
    ],
    rewrites={
        "$flat[$i * $n : ($i + 1) * $n]": "$flat[$i : $i + $n]",
        "$flat[$i * $n : $i * $n + $n]": "$flat[$i : $i + $n]",
    },
    names={"n": SIZE},
)
def groups_overlap_instead_of_following() -> None:
    """Group i starts at item i instead of behind the i groups before it.

    A flat list holds groups of n items one behind the other. Group i starts at i times n. A slice
    from i on has the right size and moves by one item only, so that neighbouring groups share all
    but one of their items, and the end of the list is never reached.

    Group 0 is right, and so is everything where n is 1. All shapes are as they should be.
    """
