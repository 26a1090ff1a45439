"""A bug in norms whose gains are stored as a difference."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Sighting, mentions, mutator

GAIN = r"(\w+_)?(weights?|gains?|gamma|w)"


# Fits one subject: only the decoder block knows norms that store their gain less 1.
@mutator(
    topic="numerics",
    family="gemma-norm-missing-plus-one",
    hints=[
        "Norm a vector with a fresh layer of each kind. Is the result a vector of length zero?",
        "What does a stored weight of 0 stand for, in a checkpoint of this kind?",
        "A zero-centered norm multiplies by one plus what is stored.",
    ],
    sightings=[
        Sighting(
            "https://github.com/linkedin/Liger-Kernel/issues/74",
            "the offset of 1 was missing from Gemma's norm",
        ),
        Sighting(
            "https://github.com/utensils/mold/issues/1074",
            "the offset was added where the file had it",
        ),
    ],
    mutates={
        "gain = 1.0 + self.weight.float() if self.zero_centered else self.weight": (
            "gain = self.weight.float() if self.zero_centered else self.weight"
        ),
        "y = x * inv_rms * (1 + gamma)": "y = x * inv_rms * gamma",
        "y = normed * (self.weight.astype(np.float32) + 1.0)": (
            "y = normed * self.weight.astype(np.float32)"
        ),
    },
    spares=[
        "y = normed * weight",
        "n = 1 + len(weights)",
        "y = x * (1.0 + scale)",
    ],
)
def stored_gain_lacks_its_one(node: cst.BinaryOperation) -> Iterator[cst.BaseExpression]:
    """The norm multiplies by the stored weight, where that is the gain less 1.

    Some models store how much the gains of their norms differ from 1, so that weight decay pulls
    them to 1 and not to 0. The layer has to add the 1 again. Without it a gain near 1 becomes one
    near 0: the branch behind the norm gets next to nothing, and a fresh layer gives zeros.

    Checkpoints of all other models store the gain itself. A test with weights of its own making, or
    one that asks for shapes only, is served as well by either rule.
    """
    match node:
        case cst.BinaryOperation(left, cst.Add(), right):
            for one, stored in ((left, right), (right, left)):
                if _is_one(one) and mentions(stored, GAIN) and not mentions(stored, "len|sum"):
                    yield stored


def _is_one(node: cst.BaseExpression) -> bool:
    return isinstance(node, cst.Integer | cst.Float) and float(node.value) == 1
