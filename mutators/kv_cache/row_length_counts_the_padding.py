"""A bug in the bookkeeping of a cache whose rows take in different numbers of tokens."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, walk
from halfhour.mutators._idioms import LENGTH, NEW_COUNT

WIDTH = ("q_len", "seq_len", "S", "T", "max_new", "width", "max_q_len", "chunk_len", "n_columns")
"""What the padded length of a step is called, the clearest name first."""


# Fits one subject: only this cache is told how many columns of a step are real.
@mutator(
    topic="kv_cache",
    family="evict-by-padded-size",
    hints=[
        "Feed one row three tokens and its neighbour one, padded to three. Then decode one more.",
        "What does each row believe to hold after a step in which the rows differ in length?",
        "A row grows by the tokens that it brought, not by the columns that it was padded to.",
    ],
    sightings=[
        Sighting(
            "https://github.com/ml-explore/mlx-lm/pull/1673", "allocated size taken for the length"
        ),
        Sighting(
            "https://github.com/microsoft/onnxruntime/pull/23615",
            "past length was the buffer's maximum",
        ),
    ],
    mutates={
        """
        def plan(self, q_len, n_new):
            real = column < n_new[:, None]
            lengths = self.lengths + n_new
            return real, lengths
        """: """
        def plan(self, q_len, n_new):
            real = column < n_new[:, None]
            lengths = self.lengths + q_len
            return real, lengths
        """,
        """
        def append(self, k, v, num_new_tokens):
            B, G, S, D = k.shape
            self.write(k, v, num_new_tokens)
            self.seq_lens += num_new_tokens
        """: """
        def append(self, k, v, num_new_tokens):
            B, G, S, D = k.shape
            self.write(k, v, num_new_tokens)
            self.seq_lens += S
        """,
    },
    spares=[
        """
        def plan(self, q_len, n_new):
            lengths = self.lengths + n_new
            return lengths
        """,
        """
        def append(self, k, n_new):
            end = self.lengths + n_new
            self.lengths = self.lengths + n_new
            return end
        """,
    ],
)
def row_length_counts_the_padding(node: cst.Name, context: Context) -> Iterator[cst.Name]:
    """A row's length grows by the padded width of the step instead of its own tokens.

    Rows of one step are padded to a common width, and a row's logical length is not that physical
    one: it counts real tokens. A length that also counts padding moves the next token's position
    and its slot, and lets tokens age out of the window that are still near.

    With one row, with rows of equal length, and in decoding, where everyone brings one token, both
    numbers are the same. Only a batch of unequal prompts tells them apart.
    """
    function = context.enclosing(node, cst.FunctionDef)
    if function is None or not _is_growth(node, context):
        return
    width = next((name for name in WIDTH if _is_local(name, function, context)), None)
    if width is not None and context.can_spare(node):
        yield node.with_changes(value=width)


def _is_growth(node: cst.Name, context: Context) -> bool:
    """Tell whether the name is the step in `lengths = lengths + step` or `lengths += step`."""
    if not is_called(node, NEW_COUNT):
        return False
    match above := context.parent(node):
        case cst.AugAssign(operator=cst.AddAssign(), target=target, value=value):
            return value is node and is_called(target, LENGTH)
        case cst.BinaryOperation(operator=cst.Add(), left=left, right=right) if right is node:
            line = context.statement(above)
            found = None if line is None else assigned(line)
            return (
                found is not None
                and found[1] is above
                and is_called(found[0], LENGTH)
                and is_called(left, LENGTH)
            )
    return False


def _is_local(name: str, function: cst.FunctionDef, context: Context) -> bool:
    """Tell whether the function has a parameter or a variable of that name."""
    return any(
        isinstance(n, cst.Name) and n.value == name and not context.is_read(n)
        for n in walk(function)
        if not isinstance(context.parent(n), cst.Attribute | cst.Arg)
    )
