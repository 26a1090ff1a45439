"""A bug in loops that number what they go through."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, walk

TOKEN = r"(\w+_)?(tokens?|token_id|ids?|next_id|cand(idate)?)"
ROW = r"(\w+_)?(row|slot|row_id|row_index|slot_id)"
EOS = r"(\w+_)?(eos|eot|stop|pad)(_(id|token|token_id))?"


@mutator(
    topic="decoding",
    family="beam-candidate-slot-vs-token",
    hints=[
        "Let the order of a list differ from the numbers in it. Who is then taken for whom?",
        "A loop has two numbers in hand, a place and an id. Which of them does each line mean?",
        "A place in a list says where something stands, and nothing about what it is.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NVIDIA/TensorRT-LLM/pull/15621",
            "candidates' places were compared with the end token",
        ),
    ],
    mutates={
        """
        for rank, (score, beam, token) in enumerate(candidates):
            if token != self.eos_id:
                running.append((score, beam, token))
            elif rank < k:
                finished.append(score)
        """: """
        for rank, (score, beam, token) in enumerate(candidates):
            if rank != self.eos_id:
                running.append((score, beam, token))
            elif rank < k:
                finished.append(score)
        """,
        """
        for b, row in enumerate(rows):
            for token, bias in self.biases[row].items():
                scores[b, token] += bias
            scores[b, eos_id] = -np.inf
        """: [
            """
            for b, row in enumerate(rows):
                for token, bias in self.biases[row].items():
                    scores[row, token] += bias
                scores[b, eos_id] = -np.inf
            """,
            """
            for b, row in enumerate(rows):
                for token, bias in self.biases[row].items():
                    scores[b, token] += bias
                scores[row, eos_id] = -np.inf
            """,
        ],
    },
    spares=[
        """
        for i, token in enumerate(tokens):
            if token == eos_id:
                return i
        """,
        """
        for b, row in enumerate(rows):
            out[b] = state[row]
        """,
        """
        for b, request in enumerate(requests):
            out[b] = request
            seen[b] = True
        """,
    ],
)
def place_in_the_list_is_taken_for_the_id(node: cst.Name, context: Context) -> Iterator[cst.Name]:
    """The number of a place in a list is used for what stands there, or the other way round.

    Candidates have a rank and a token id, requests a place in this step's batch and a row of the
    state. Both are small integers. What belongs to the batch is found by the place, what belongs to
    the state by the row, and only a token's id can be compared with the one of EOS.

    The types agree, nothing is out of range as long as the lists are short, and where all rows take
    part in their order the two numbers are the same.
    """
    loop = context.enclosing(node, cst.For)
    while loop is not None:
        match loop:
            case cst.For(
                target=cst.Tuple([cst.Element(cst.Name() as place), cst.Element(held)]),
                iter=cst.Call(func=cst.Name("enumerate")),
            ):
                swap = _mistaken(node, place, held, context)
                if swap is not None and context.can_spare(node):
                    yield swap
                return
        loop = context.enclosing(loop, cst.For)


def _mistaken(
    node: cst.Name, place: cst.Name, held: cst.BaseExpression, context: Context
) -> cst.Name | None:
    """Return `rank` for the `token` of `token == eos`, and `row` for the `b` of `scores[b]`."""
    above = context.parent(node)
    names = {n.value for n in walk(held) if isinstance(n, cst.Name)}
    match above:
        case cst.Comparison(
            left=left,
            comparisons=[cst.ComparisonTarget(cst.Equal() | cst.NotEqual(), comparator=eos)],
        ) if left is node and node.value in names and is_called(node, TOKEN):
            return cst.Name(place.value) if is_called(eos, EOS) else None
        case cst.Index() if isinstance(held, cst.Name) and is_called(held, ROW):
            return cst.Name(held.value) if node.value == place.value else None
    return None
