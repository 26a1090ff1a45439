"""A bug where logarithms of sums travel with partial results."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mentions, mutator

LSE = r"(\w+_)?(lses?|logsumexps?|log_?sum_?exps?|log_z|log_norm\w*)(_\w+)?"
PEAKS = r"(\w+_)?(peaks?|row_max|maxes|maxima|maxs)"
SUMS = r"(\w+_)?(normali[sz]ers?|denom\w*|totals?|sum_exp|exp_sums?|l|l_i|z)"
OTHER_BASE = {"exp": "exp2", "log": "log2", "logaddexp": "logaddexp2"}
SHIFT = r"(\w+_)?(shift|max|peak|m|m_i|top|found|row_max|running_max)"


@mutator(
    topic="attention",
    family="lse-base-mismatch-in-merge",
    hints=[
        "Split the keys into two unequal halves and merge. Is it attention over all of them?",
        "Which logarithms and exponentials belong to one another, and are they of one base?",
        "A log-sum-exp to base e is undone by exp, one to base 2 by exp2.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/28840",
            "base-2 logarithms merged with exp",
        ),
        Sighting(
            "https://github.com/ROCm/fleet-chiplet-megakernel/pull/8",
            "log2 exponent beside a natural mantissa",
        ),
    ],
    mutates={
        "weights = torch.exp(lses - shift)": "weights = torch.exp2(lses - shift)",
        "lse = row_max + torch.log(normalizer)": "lse = row_max + torch.log2(normalizer)",
        "total = np.logaddexp(lse, sink[None, :, None])": (
            "total = np.logaddexp2(lse, sink[None, :, None])"
        ),
        "out = sum((lse_i - lse_all).exp()[..., None] * o for o, lse_i in parts)": (
            "out = sum((lse_i - lse_all).exp2()[..., None] * o for o, lse_i in parts)"
        ),
        "return found - peak - total.log()": "return found - peak - total.log2()",
    },
    spares=[
        "probs = torch.exp(logprobs)",
        "weights = torch.exp2(lses - shift)",
        "bar = logits.amax(dim=-1) + min_p.log()",
        "entropy = -(probs * torch.log(probs)).sum()",
    ],
)
def parts_are_merged_in_another_base(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """A log-sum-exp is written in one base and read in another.

    A part of the keys hands on its output and the logarithm of its sum of exponentials, and whoever
    merges the parts turns the logarithms into weights. Kernels like base 2, which is cheaper, and
    formulas base e. Where the two meet without a factor of ln 2, every weight is the true one
    raised to a power: parts that should count half count too much, or too little.

    A single part has the weight 1 in any base. With two the error is small where their sums are
    alike, and grows with the length of what was split off.
    """
    other = _in_another_base(node)
    if other is None:
        return
    match node:
        case cst.Call(args=[]) if isinstance(node.func, cst.Attribute):
            operand: cst.CSTNode = node.func.value
        case cst.Call(args=[arg, *_]):
            operand = arg.value
        case _:
            return
    if is_called(node, "log"):
        meant = is_called(operand, SUMS) and _meets_a_maximum(node, context)
    elif is_called(node, "exp"):
        meant = isinstance(operand, cst.BinaryOperation) and _is_of_parts(operand)
    else:
        meant = mentions(operand, LSE)
    if meant:
        yield other


def _in_another_base(node: cst.Call) -> cst.Call | None:
    if not isinstance(node.func, cst.Attribute):
        return None
    name = OTHER_BASE.get(node.func.attr.value)
    if name is None or is_called(node.func.value, "math"):
        return None
    return node.with_changes(func=node.func.with_changes(attr=cst.Name(name)))


def _is_of_parts(operand: cst.BinaryOperation) -> bool:
    """Tell `lse_i - lse_all`, `lses - shift`, `peaks - peak`."""
    left, is_difference = operand.left, isinstance(operand.operator, cst.Subtract)
    return is_difference and (is_called(left, LSE) or is_called(left, PEAKS))


def _meets_a_maximum(node: cst.Call, context: Context) -> bool:
    """Tell `row_max + log(total)` from a logarithm of its own."""
    match context.parent(node):
        case cst.BinaryOperation(left=left, operator=cst.Add() | cst.Subtract(), right=right):
            return mentions(left, SHIFT) or is_called(right, SHIFT)
    return False
