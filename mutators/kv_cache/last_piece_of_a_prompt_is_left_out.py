"""A bug in loops that go through a length piece by piece."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mutator, pattern

STEP = (
    r"(\w+_)?(chunk|chunk_size|chunk_len|block|block_size|block_[qkmn]|tile|split|piece|SPLIT_\w+"
    r"|step_size|stride|prefill_chunk|BLOCK\w*|CHUNK\w*)"
)
PIECES = pattern("range(0, $n, $step)", step=STEP)
ROUND = pattern("range(0, max($n - $step + 1, 1), $step)")


@mutator(
    topic="kv_cache",
    family="chunk-loop-drops-tokens",
    hints=[
        "Read a prompt of 10 tokens in pieces of 4. Which tokens has the model seen?",
        "Where does the last piece begin if the length is no multiple of the piece?",
        "The pieces cover the whole length, and the last one is as short as it has to be.",
    ],
    sightings=[
        Sighting(
            "https://github.com/Integral2u/SharpMind/issues/57",
            "tokens between the pieces were never read",
        ),
    ],
    mutates={
        "for start in range(0, len(ids), chunk): feed(ids[start : start + chunk])": (
            "for start in range(0, max(len(ids) - chunk + 1, 1), chunk): "
            "feed(ids[start : start + chunk])"
        ),
        "outs = [f(x[i : i + self.tile]) for i in range(0, x.shape[0], self.tile)]": (
            "outs = [f(x[i : i + self.tile]) "
            "for i in range(0, max(x.shape[0] - self.tile + 1, 1), self.tile)]"
        ),
    },
    spares=[
        "for i in range(0, dim, 2): rotate(i)",
        "for start in range(1, n, chunk): feed(start)",
        "for start in range(0, min(n, room), chunk): feed(start)",
    ],
)
def last_piece_of_a_prompt_is_left_out(node: cst.Call, context: Context) -> Iterator[cst.CSTNode]:
    """A length is gone through in whole pieces only, and what is left over is never read.

    Long prompts, keys and weights are read in pieces of a fixed size. Pieces begin at each multiple
    of the size below the length, so the last may be shorter. A loop that ends where no whole piece
    fits any more skips the rest. The tokens there are in the prompt, and the model never saw them.

    Lengths in tests are round numbers, and a prompt shorter than one piece is read as a whole.
    """
    found = PIECES.match(node)
    if found is None or is_called(found["n"], "max|min"):
        return
    if isinstance(context.parent(node), cst.For | cst.CompFor):
        yield fill(ROUND, found)
