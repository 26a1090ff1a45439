"""A bug in rotary position embeddings."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Sighting,
    argument,
    fill,
    integer,
    mentions,
    mutator,
    name_of,
    pattern,
)

ANGLES = r"(\w+_)?(angles?|freqs?|theta|phases?|emb|cos|sin)"
JOINED = pattern("torch.$cat(($x, $x), dim=$d)", cat="cat|concat|concatenate")
JOINED_LIST = pattern("torch.$cat([$x, $x], dim=$d)", cat="cat|concat|concatenate")
NEIGHBOURS = pattern("$x.repeat_interleave(2, dim=$d)")
HALVES = pattern("torch.cat(($x, $x), dim=$d)")


# Fits one subject: only one file lays the angles of both halves out.
@mutator(
    topic="positions",
    family="rope-pairing-versus-table-mismatch",
    hints=[
        "Rotate a vector and compare its length before and after. What should a rotation do to it?",
        "Write down, for a head of four, which two dimensions turn together, and by which angle.",
        "Both members of a pair must turn by the same angle: the table follows the rotation.",
    ],
    sightings=[
        Sighting(
            "https://github.com/raiyanyahya/how-to-train-your-gpt/pull/7",
            "angles per neighbour, rotation by halves",
        ),
        Sighting(
            "https://github.com/baidu/ERNIE-Image/issues/6",
            "interleaved table with half-split rotation",
        ),
    ],
    mutates={
        "angles = torch.cat((angles, angles), dim=-1)": (
            "angles = angles.repeat_interleave(2, dim=-1)"
        ),
        "cos = torch.cat([freqs.cos(), freqs.cos()], dim=-1)": (
            "cos = freqs.cos().repeat_interleave(2, dim=-1)"
        ),
        "sin = torch.sin(freqs).repeat_interleave(2, dim=-1)": (
            "sin = torch.cat((torch.sin(freqs), torch.sin(freqs)), dim=-1)"
        ),
    },
    spares=[
        "turned = torch.cat((-x2, x1), dim=-1)",
        "both = torch.cat((angles, angles), dim=0)",
        "kv = kv.repeat_interleave(2, dim=1)",
    ],
)
def rope_table_and_rotation_pair_differently(node: cst.Call) -> Iterator[cst.CSTNode]:
    """The angles are laid out for neighbours, the rotation pairs the halves, or the other way.

    RoPE turns pairs of dimensions. Llama checkpoints pair dimension `i` with `i + D/2`, so each
    angle stands once in each half of the table (`t0 t1 t0 t1`); others pair neighbours, and the
    angles are repeated in place (`t0 t0 t1 t1`). Table and rotation must follow the same plan.
    Mixed, the members of a pair turn by different angles: lengths are not kept, and a score no
    longer depends on the distance between query and key alone.

    Every shape agrees, position 0 is left alone by both plans, and early positions with their small
    angles come out nearly right, so short prompts look fine.
    """
    found = JOINED.match(node) or JOINED_LIST.match(node)
    if found is not None:
        if integer(found["d"]) == -1 and mentions(found["x"], ANGLES):
            yield fill(NEIGHBOURS, found)
        return
    if name_of(node) == "repeat_interleave":
        x, times, dim = argument(node, 0), argument(node, 1, "repeats"), argument(node, 2, "dim")
        if x is None or dim is None or integer(times) != 2 or integer(dim) != -1:
            return
        if mentions(x, ANGLES):
            yield fill(HALVES, {"x": x, "d": dim})
