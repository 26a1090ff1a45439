"""A bug in masks of padded rows."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, name_of, same, value_of, walk
from halfhour.mutators._idioms import LENGTH, NEW_COUNT

LENGTHS = rf"{LENGTH}|{NEW_COUNT}|len"
MASK = r"(\w+_)?(mask|keep|valid|real|attn|attend|is_token|not_pad\w*|loss_mask)"


@mutator(
    topic="masking",
    family="mask-on-the-wrong-padding-side",
    hints=[
        "Batch a short row with a long one. Which slots of the short one count as tokens?",
        "On which side of a row does the padding stand, and on which side does the mask put it?",
        "Padded on the left, a row's tokens are its last slots; padded on the right, its first.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NVIDIA-NeMo/Automodel/pull/2314",
            "the mask fell on the left padding",
        ),
        Sighting(
            "https://github.com/NVIDIA-NeMo/Automodel/pull/3704",
            "padding was sought at the end only",
        ),
    ],
    mutates={
        """
        def real_columns(lengths, n_columns):
            column = torch.arange(n_columns, device=lengths.device)
            return column < lengths[:, None]
        """: """
        def real_columns(lengths, n_columns):
            column = torch.arange(n_columns, device=lengths.device)
            return column >= n_columns - lengths[:, None]
        """,
        "real = np.arange(x.shape[1]) < seq_lens[:, None]": (
            "real = np.arange(x.shape[1]) >= x.shape[1] - seq_lens[:, None]"
        ),
        """
        def left_pad(prompts, longest):
            mask = np.zeros((len(prompts), longest), dtype=bool)
            for b, prompt in enumerate(prompts):
                mask[b, longest - len(prompt) :] = True
            return mask
        """: """
        def left_pad(prompts, longest):
            mask = np.zeros((len(prompts), longest), dtype=bool)
            for b, prompt in enumerate(prompts):
                mask[b, : len(prompt)] = True
            return mask
        """,
        """
        def valid(lengths, kv_len):
            slot = torch.arange(kv_len)
            return slot >= kv_len - lengths[:, None]
        """: """
        def valid(lengths, kv_len):
            slot = torch.arange(kv_len)
            return slot < lengths[:, None]
        """,
    },
    spares=[
        "first = np.arange(n) < n_experts",
        "late = positions >= lengths[:, None]",
        "tokens[b, longest - len(prompt) :] = prompt",
        "mask[b, : len(prompt)] = True",
        """
        def valid(lengths, kv_len, side):
            slot = torch.arange(kv_len)
            if side == "left":
                return slot >= kv_len - lengths[:, None]
            return slot < lengths[:, None]
        """,
    ],
)
def mask_marks_the_other_side_of_the_row(
    node: cst.Comparison | cst.AssignTarget, context: Context
) -> Iterator[cst.CSTNode]:
    """The mask counts a row's tokens from one end while they stand at the other.

    Rows of a batch are padded to one width, on the left for generation and mostly on the right
    elsewhere. The mask says which slots hold tokens and has to count from the same side. From the
    wrong one it marks just as many slots, drops tokens of the short rows and takes in padding.

    Rows of full width are right on either side, and so are batches of equal lengths. In the others
    shapes and sums agree as well: as many ones as there are tokens.
    """
    if isinstance(node, cst.AssignTarget):
        match node.target:
            case cst.Subscript(value=mask, slice=[*rows, cst.SubscriptElement(cst.Slice() as cut)]):
                count = _counted_from_the_end(cut.lower, context)
                if count is not None and cut.upper is None and re.fullmatch(MASK, name_of(mask)):
                    colon = cst.Colon(whitespace_after=cst.SimpleWhitespace(" "))
                    front = cst.SubscriptElement(cst.Slice(None, count, first_colon=colon))
                    target = node.target.with_changes(slice=[*rows, front])
                    yield node.with_changes(target=target)
        return
    match node:
        case cst.Comparison(left=slot, comparisons=[cst.ComparisonTarget(operator, bound)]):
            width = _width_of(slot, context)
        case _:
            return
    if width is None or not isinstance(operator, cst.LessThan | cst.GreaterThanEqual):
        return
    other = cst.GreaterThanEqual() if isinstance(operator, cst.LessThan) else cst.LessThan()
    count = _counted_from_the_end(bound, context)
    if count is None and is_called(bound, LENGTHS):
        count = cst.BinaryOperation(width, cst.Subtract(), bound)
    if count is not None:
        turned = node.with_changes(comparisons=[cst.ComparisonTarget(other, count)])
        scope = context.enclosing(node, cst.FunctionDef) or context.module
        if not any(same(turned, beside) for beside in walk(scope)):  # a choice of two sides
            yield turned


def _counted_from_the_end(
    bound: cst.BaseExpression | None, context: Context
) -> cst.BaseExpression | None:
    """Return the length in `width - length`, if the width is read elsewhere as well."""
    match bound:
        case cst.BinaryOperation(left=width, operator=cst.Subtract(), right=count):
            if is_called(count, LENGTHS) and context.can_spare(width):
                return count
    return None


def _width_of(slot: cst.BaseExpression, context: Context) -> cst.BaseExpression | None:
    """Return n of `arange(n)`, of a variable that holds it, and of either with a new axis."""
    while isinstance(slot, cst.Subscript):
        slot = slot.value
    numbers = value_of(slot, context.enclosing(slot, cst.FunctionDef))
    while isinstance(numbers, cst.Subscript):
        numbers = numbers.value
    if isinstance(numbers, cst.Call) and is_called(numbers, "arange"):
        positional = [arg.value for arg in numbers.args if arg.keyword is None]
        if len(positional) == 1:
            return positional[0]
    return None
