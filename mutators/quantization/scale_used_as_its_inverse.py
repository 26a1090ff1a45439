"""A bug in applying scales."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator
from halfhour.mutators._idioms import SCALE, quantizes


@mutator(
    topic="quantization",
    family="scale-used-as-inverse",
    hints=[
        "Make one row of the weight ten times as large. What becomes of its output?",
        "For every scale, is it the size of a step or the number of steps to one?",
        "Codes times their step give values, values over their step give codes.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/36297",
            "multiplied by the scale where one divides",
        ),
    ],
    mutates={
        """
        def quantize(x, scale):
            return torch.round(x / scale[:, None]).to(torch.int8)
        """: """
        def quantize(x, scale):
            return torch.round(x * scale[:, None]).to(torch.int8)
        """,
        """
        def int8_linear(x, qweight, weight_scale, bias):
            y = x @ qweight.astype(np.float32).T * weight_scale
            return y + bias
        """: """
        def int8_linear(x, qweight, weight_scale, bias):
            y = x @ qweight.astype(np.float32).T / weight_scale
            return y + bias
        """,
        """
        def sample(logits, temperature):
            scale = np.where(temperature == 0, 1.0, temperature)
            return softmax(logits / scale[:, None])
        """: """
        def sample(logits, temperature):
            scale = np.where(temperature == 0, 1.0, temperature)
            return softmax(logits * scale[:, None])
        """,
    },
    spares=[
        """
        def attend(q, k, scale):
            return (q @ k.mT * scale).softmax(-1)
        """,
        """
        def quantize(x, gain):
            return torch.round(x / gain).to(torch.int8)
        """,
        """
        def attend(scores, scale):
            return (scores / scale).softmax(-1)
        """,
    ],
)
def scale_used_as_its_inverse(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BinaryOperation]:
    """One side multiplies by the scale where it should divide, or the other way round.

    A scale is the size of a step. Values divided by it give codes, codes times it give values, and
    inputs are divided by what the weights were multiplied by. One operator mixed up, and a value
    comes back times or over the square of its scale, clipped to the range of the codes.

    With scales near 1 the two are close, and a reference that was written from the same formula
    agrees. Nothing is out of range: clipping sees to that.
    """
    if not is_called(node.right, SCALE) or isinstance(node.right, cst.Call):
        return
    if not quantizes(node, context) and not _is_a_row_divided(node):
        return
    match node.operator:
        case cst.Multiply():
            yield node.with_changes(operator=cst.Divide())
        case cst.Divide():
            yield node.with_changes(operator=cst.Multiply())


def _is_a_row_divided(node: cst.BinaryOperation) -> bool:
    """Tell `x / scale[:, None]`, where every row has a scale of its own."""
    return isinstance(node.operator, cst.Divide) and isinstance(node.right, cst.Subscript)
