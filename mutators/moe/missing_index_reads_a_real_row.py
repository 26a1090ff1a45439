"""A bug where an index may stand for nothing."""

import re
from collections.abc import Iterator, Sequence

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, mutator, name_of, same, walk

LOOKUPS = re.compile(r"gather|take|index_select|embedding|take_along_axis|take_along_dim")


@mutator(
    topic="moe",
    family="expert-map-minus-one",
    hints=[
        "What comes out for an entry that has no row of its own, such as a choice without a slot?",
        "Where an index means nothing, something is read all the same. What becomes of that?",
        "What was read at a row that only stands in must be zeroed before anybody adds it up.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/46408",
            "ids of -1 silently read the last entry",
        ),
    ],
    mutates={
        """
        def combine(y, slots, weights):
            parts = y[slots.clamp(min=0)] * weights[..., None]
            parts = parts.masked_fill((slots < 0)[..., None], 0.0)
            return parts.sum(dim=1)
        """: """
        def combine(y, slots, weights):
            parts = y[slots.clamp(min=0)] * weights[..., None]
            return parts.sum(dim=1)
        """,
        """
        def embed(self, ids):
            mine = (ids >= self.start) & (ids < self.stop)
            local = np.where(mine, ids - self.start, 0)
            out = self.table[local]
            out[~mine] = 0
            return reduce(out)
        """: """
        def embed(self, ids):
            mine = (ids >= self.start) & (ids < self.stop)
            local = np.where(mine, ids - self.start, 0)
            out = self.table[local]
            return reduce(out)
        """,
        """
        def lookup(self, ids):
            mine = self.owns(ids)
            rows = F.embedding(self.local(ids, mine), self.weight)
            return torch.where(mine[..., None], rows, 0.0)
        """: """
        def lookup(self, ids):
            mine = self.owns(ids)
            return F.embedding(self.local(ids, mine), self.weight)
        """,
    },
    spares=[
        """
        def attend(scores, v, hidden):
            probs = scores.softmax(dim=-1)
            probs = probs.masked_fill(hidden, 0.0)
            return probs @ v
        """,
        """
        def pick(table, ids, missing):
            rows = table[ids]
            rows = rows.masked_fill(missing, float("-inf"))
            return rows.max()
        """,
        """
        def embed(table, ids, ours):
            rows = table[ids]
            rows = rows.masked_fill(~ours, 0.0)
            return rows
        """,
    ],
)
def missing_index_reads_a_real_row(
    node: cst.SimpleStatementLine | cst.IndentedBlock, context: Context
) -> Iterator[cst.IndentedBlock | cst.RemovalSentinel]:
    """What stands for "no row" is looked up like any other index, and its row counts.

    An index of -1, or of another worker's row, means that there is nothing to read. Tensors have no
    such thing: -1 is the last row, and the usual stand-in is row 0. Either is fine to read, as long
    as what was read is set to zero. Without that, a dropped choice brings in somebody else's
    output, and each worker adds a row that it was never asked for.

    Nothing is out of bounds. On one device, and with room for all, no such index ever comes up.
    """
    above = context.before(node)
    match node:
        case cst.SimpleStatementLine(
            [cst.Assign([cst.AssignTarget(cst.Subscript(read, [place]))], zero)]
        ):
            if _is_zero(zero) and _is_looked_up(read, above) and context.can_spare(place):
                yield cst.RemoveFromParent()
        case cst.SimpleStatementLine():
            found = assigned(node)
            match None if found is None else (found[0], _zeroed(found[1])):
                case target, (kept, mask) if same(target, kept) and _is_looked_up(kept, above):
                    if context.can_spare(mask):
                        yield cst.RemoveFromParent()
        case cst.IndentedBlock([*_, made, cst.SimpleStatementLine([cst.Return(value)])]):
            found = assigned(made)
            match None if value is None else _zeroed(value):
                case kept, mask if found is not None and _is_looked_up(kept, [made]):
                    if context.can_spare(mask):
                        last = made.with_changes(body=[cst.Return(found[1])])
                        yield node.with_changes(body=[*node.body[:-2], last])


def _zeroed(value: cst.BaseExpression) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """Return what a call sets to zero at places, and the mask that tells the places."""
    match value:
        case cst.Call(
            cst.Attribute(kept, cst.Name("masked_fill")), [cst.Arg(mask), cst.Arg(zero)]
        ) if _is_zero(zero):
            return kept, mask
        case cst.Call(
            cst.Attribute(_, cst.Name("where")), [cst.Arg(mask), cst.Arg(kept), cst.Arg(zero)]
        ) if _is_zero(zero):
            return kept, mask
    return None


def _is_zero(value: cst.BaseExpression) -> bool:
    return isinstance(value, cst.Integer | cst.Float) and float(value.value) == 0


def _is_looked_up(kept: cst.BaseExpression, lines: Sequence[cst.BaseStatement]) -> bool:
    """Tell whether the variable was last set to rows of a table at given indices."""
    values = [found[1] for line in lines if (found := assigned(line)) and same(found[0], kept)]
    if not isinstance(kept, cst.Name) or not values:
        return False
    for node in walk(values[-1]):
        match node:
            case cst.Subscript(slice=[cst.SubscriptElement(cst.Index(cst.Name() | cst.Call()))]):
                return True
            case cst.Call() if LOOKUPS.fullmatch(name_of(node)):
                return True
    return False
