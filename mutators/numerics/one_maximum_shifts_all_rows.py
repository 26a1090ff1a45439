"""A bug in the shift before an exponential."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, arguments, is_called, mentions, mutator, same, walk

MAXIMUM = r"(\w+_)?(max|maximum|m|top|peak|shift|best|bar|largest)(_\w+)?"


@mutator(
    topic="numerics",
    family="softmax-without-max-shift",
    hints=[
        "Put a row of tiny scores beside a row of huge ones. What becomes of the tiny ones?",
        "Over which axes is the maximum taken that all else is relative to?",
        "Every row is shifted by its own maximum, since that leaves a one in each of them.",
    ],
    sightings=[
        Sighting(
            "https://github.com/intel/xFasterTransformer/pull/326",
            "exponentials were taken without the shift",
        ),
        Sighting(
            "https://github.com/pytorch/pytorch/pull/63132",
            "some elements missed the shift that others had",
        ),
    ],
    mutates={
        """
        top = lses.amax(dim=0)
        weights = torch.exp(lses - top)
        """: """
        top = lses.amax()
        weights = torch.exp(lses - top)
        """,
        """
        m = np.max(x, axis=-1, keepdims=True)
        e = np.exp(x - m)
        """: """
        m = np.max(x)
        e = np.exp(x - m)
        """,
        """
        def update(self, scores):
            new_max = torch.maximum(self.running_max, scores.amax(dim=-1))
            return torch.exp(scores - new_max[..., None])
        """: """
        def update(self, scores):
            new_max = torch.maximum(self.running_max, scores.amax())
            return torch.exp(scores - new_max[..., None])
        """,
    },
    spares=[
        "top = lses.amax(dim=0)",
        """
        amax = x.abs().amax(dim=-1)
        y = torch.exp(x - amax)
        """,
        """
        longest = lengths.amax(dim=0)
        y = torch.exp(x)
        """,
    ],
)
def one_maximum_shifts_all_rows(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """All rows are shifted by the maximum of the whole tensor, not each by its own.

    Before exponentials are taken, the maximum is subtracted, so that none overflows; it cancels
    when the sum is divided out. Any number would cancel, but only the row's own maximum leaves at
    least one exponential of 1. With that of all rows, a row far below it is nothing but zeros, and
    its sum is zero or its result has lost all digits.

    Overflow is prevented either way, and the tensors broadcast. Rows of like size, as random scores
    are, come out the same to the last digit.
    """
    if not is_called(node, "amax|max") or len(arguments(node)) < 2:
        return
    if mentions(arguments(node)[0].value, "abs"):
        return
    function = context.enclosing(node, cst.FunctionDef) or context.module
    line = context.statement(node)
    if line is None or not mentions(function, "exp|exp2|log") or not _shifts(line, function):
        return
    if len(node.args) < len(arguments(node)):
        yield node.with_changes(args=[])
    else:
        yield node.with_changes(args=[node.args[0].with_changes(comma=cst.MaybeSentinel.DEFAULT)])


def _shifts(line: cst.CSTNode, function: cst.CSTNode) -> bool:
    """Tell whether the line keeps a maximum that does not leave the function."""
    match line:
        case cst.SimpleStatementLine(body=[cst.Assign(targets=[cst.AssignTarget(target)])]):
            results = [below.value for below in walk(function) if isinstance(below, cst.Return)]
            leaves = any(_hands_on(result, target) for result in results)
            return is_called(target, MAXIMUM) and not leaves
    return False


def _hands_on(result: cst.BaseExpression | None, target: cst.BaseExpression) -> bool:
    match result:
        case cst.Tuple(elements=elements):
            return any(same(element.value, target) for element in elements)
    return result is not None and same(result, target)
