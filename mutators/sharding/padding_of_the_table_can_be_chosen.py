"""A bug in tables that are larger than the vocabulary."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, uncommented
from halfhour.mutators._idioms import returned_at_once

REAL = (
    r"(\w+_)?(vocab|vocab_size|n_vocab|num_embeddings|org_num_embeddings|n_owned|n_real|n_valid"
    r"|num_experts|n_experts)"
)
INFINITE = r"NEG_INF|MINUS_INF|inf|finfo|min|float"


@mutator(
    topic="sharding",
    family="padded-vocab-logits-unmasked",
    hints=[
        "Make every real score negative. What is the best id now, and how many ids are there?",
        "A table has some rows more than there are ids. Where do these rows leave the results?",
        "Rows of padding are nobody's: no score, no column and no id may come from them.",
    ],
    sightings=[
        Sighting(
            "https://github.com/tenstorrent/tt-metal/pull/47021", "padded columns could be sampled"
        ),
        Sighting(
            "https://github.com/Blaizzy/mlx-vlm/issues/1917", "ids behind the vocabulary came out"
        ),
    ],
    mutates={
        "logits = torch.cat(parts, dim=-1)[..., : self.vocab_size]": (
            "logits = torch.cat(parts, dim=-1)"
        ),
        "table = np.concatenate(tables)[:vocab_size]": "table = np.concatenate(tables)",
        """
        def logits(self, hidden):
            scores = hidden @ self.table.T
            scores[..., self.n_owned :] = float("-inf")
            return scores
        """: """
        def logits(self, hidden):
            return hidden @ self.table.T
        """,
        """
        def sample(self, logits):
            logits[:, self.vocab_size :] = -np.inf
            return self.draw(softmax(logits))
        """: """
        def sample(self, logits):
            return self.draw(softmax(logits))
        """,
    },
    spares=[
        "ids = ids[:max_length]",
        "scores[..., n_kept:] = 0.0",
        "head, tail = row[:vocab_size], row[vocab_size:]",
        """
        def logits(scores):
            # No id lies behind the vocabulary.
            scores[..., vocab_size:] = float("-inf")
            return scores
        """,
    ],
)
def padding_of_the_table_can_be_chosen(
    node: cst.Subscript | cst.IndentedBlock, context: Context
) -> Iterator[cst.CSTNode]:
    """Rows that only fill up a table take part as if they were ids.

    Tables are made larger than the vocabulary, so that they can be shared out evenly. The rows
    behind the last id hold zeros, or anything, and their scores are 0. They have to be cut off, or
    set to minus infinity, before anyone compares: if all real scores are negative, a score of 0
    is the best one, and an id is returned that does not exist.

    The best real score is mostly positive, and a vocabulary that divides evenly has no such rows.
    """
    match node:
        case cst.IndentedBlock(body=lines):
            for at, line in enumerate(lines[:-1]):
                if _masks_padding(line) and context.can_spare(line):
                    rest = returned_at_once([*lines[:at], *lines[at + 1 :]])
                    yield node.with_changes(body=rest)
        case cst.Subscript(value=cst.Call() as whole, slice=slices):
            edges = [_edge(part, "upper") for part in slices]
            upper = edges[-1] if edges[-1] is not None else edges[0]
            others = slices[:-1] if edges[-1] is not None else slices[1:]
            if upper is None or not is_called(upper, REAL) or not all(map(_is_all, others)):
                return
            if context.can_spare(upper):
                yield whole


def _masks_padding(line: cst.CSTNode) -> bool:
    """Tell `scores[..., n_real:] = -inf`."""
    match line:
        case cst.SimpleStatementLine(
            [cst.Assign([cst.AssignTarget(cst.Subscript(slice=[*_, behind]))], value)]
        ):
            lower = _edge(behind, "lower")
            real = lower is not None and is_called(lower, REAL)
            return real and _is_minus_infinity(value) and uncommented(line)
    return False


def _edge(element: cst.SubscriptElement, side: str) -> cst.BaseExpression | None:
    """Return the only edge of `n:` or `:n`; None for any other slice."""
    match element.slice:
        case cst.Slice(lower=cst.BaseExpression() as lower, upper=None) if side == "lower":
            return lower
        case cst.Slice(lower=None, upper=cst.BaseExpression() as upper) if side == "upper":
            return upper
    return None


def _is_all(element: cst.SubscriptElement) -> bool:
    match element.slice:
        case cst.Slice(lower=None, upper=None) | cst.Index(cst.Ellipsis()):
            return True
    return False


def _is_minus_infinity(value: cst.BaseExpression) -> bool:
    match value:
        case cst.Call(func=cst.Name("float"), args=[cst.Arg(value=cst.SimpleString(text))]):
            return "-inf" in text
        case cst.UnaryOperation(operator=cst.Minus(), expression=inner):
            return is_called(inner, INFINITE)
    return is_called(value, INFINITE)
