"""A bug in the numbers of rows that lie in groups."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, name_of, same

SIZE = r"n_\w+|num_\w+|\w*_size|size|beams?|stride|width"
PLACE = r"(\w+_)?(beams?|slots?|place|i|j|offset|local|token|choice|rank|column)"


@mutator(
    topic="decoding",
    family="beam-flat-offset-wrong-stride",
    hints=[
        "Give the second group something else than the first. Whose values does it read?",
        "Where is a place inside a group used as if it were a place among all rows?",
        "The number of a row is the start of its group plus its place in the group.",
    ],
    sightings=[
        Sighting(
            "https://github.com/violet-zct/pytorch_NMT/issues/10",
            "flat offsets wrong for all rows but the first",
        ),
        Sighting(
            "https://github.com/NVIDIA/TensorRT-LLM/pull/15621",
            "places among the candidates taken for ids",
        ),
    ],
    mutates={
        """
        def retire(self, b, num_beams, beam):
            output = self.output(b * num_beams + beam)
            self.finished[b * num_beams] = output
        """: """
        def retire(self, b, num_beams, beam):
            output = self.output(beam)
            self.finished[b * num_beams] = output
        """,
        """
        place = experts[token] * n_slots + slots[token]
        shape = n_experts, n_slots
        """: """
        place = slots[token]
        shape = n_experts, n_slots
        """,
        "slots = [table[i // size] * size + i % size for i in range(table.start, n)]": (
            "slots = [i % size for i in range(table.start, n)]"
        ),
    },
    spares=[
        "score = weight * size + bias",
        """
        def f(tokens, b, num_beams, beam):
            return tokens[b * num_beams + beam]
        """,
        "start = beam * num_beams",
    ],
)
def row_is_counted_inside_its_group_only(
    node: cst.BinaryOperation, context: Context
) -> Iterator[cst.BaseExpression]:
    """A place inside a group is used as the number of a row among all groups.

    The beams of all prompts lie one behind the other, and so do the slots of all experts: place `i`
    of group `g` is row `g * size + i`. Without the start of the group every group means the rows of
    the first, and reads or overwrites them.

    The first group is right, and so is a batch of one. The numbers are smaller than they should be,
    never larger, so no index is out of range.
    """
    match node:
        case cst.BinaryOperation(
            left=cst.BinaryOperation(group, cst.Multiply(), size) as start,
            operator=cst.Add(),
            right=place,
        ):
            named = is_called(size, SIZE) and name_of(group) != "" and _is_place(place, size)
            if named and not isinstance(group, cst.Call) and context.can_spare(start):
                yield place


def _is_place(place: cst.BaseExpression, size: cst.BaseExpression) -> bool:
    """Tell `beam` and `i % size`."""
    match place:
        case cst.BinaryOperation(operator=cst.Modulo(), right=right):
            return same(right, size)
    return is_called(place, PLACE)
