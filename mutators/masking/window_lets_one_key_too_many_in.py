"""A bug in sliding-window masks."""

from halfhour.mutators import Sighting, mutator
from halfhour.mutators._idioms import WINDOW


@mutator(
    topic="masking",
    family="swa-window-off-by-one",
    hints=[
        "Set the window to 1. Which keys may a token see now, and which should it?",
        "Count the keys that each row of the mask lets through, once the sequence is long enough.",
        "The window counts the query itself: the oldest key in sight is `query - window + 1`.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/26792", "Mistral's mask, one too wide"
        ),
        Sighting("https://github.com/ml-explore/mlx-lm/pull/390", "one value too many: 128 or 129"),
        Sighting(
            "https://github.com/huggingface/transformers/issues/39408",
            "eager and flash attention disagree by one key",
        ),
    ],
    rewrites={
        "$k > $q - $w": "$k >= $q - $w",
        "$q - $w < $k": "$q - $w <= $k",
        "$q - $k < $w": "$q - $k <= $w",
        "$w > $q - $k": "$w >= $q - $k",
        "$q - $k <= $w - 1": "$q - $k <= $w",
        "$k >= $q - $w + 1": "$k >= $q - $w",
        "$k >= $q - ($w - 1)": "$k >= $q - $w",
        "$q - $w + 1 <= $k": "$q - $w <= $k",
        "torch.lt($q - $k, $w)": "torch.le($q - $k, $w)",
        "torch.triu($x, diagonal=1 - $w)": "torch.triu($x, diagonal=-$w)",
        "torch.triu($x, diagonal=-($w - 1))": "torch.triu($x, diagonal=-$w)",
        "torch.triu($x, diagonal=-$w + 1)": "torch.triu($x, diagonal=-$w)",
        "$x.triu(1 - $w)": "$x.triu(-$w)",
        "$x.triu(diagonal=1 - $w)": "$x.triu(diagonal=-$w)",
        "$x.tril(-$w)": "$x.tril(-$w - 1)",
        "$x.tril(diagonal=-$w)": "$x.tril(diagonal=-$w - 1)",
        "torch.tril($x, diagonal=-$w)": "torch.tril($x, diagonal=-$w - 1)",
    },
    names={"w": WINDOW},
    mutates={
        "near = key > query - window": "near = key >= query - window",
        "near = (q_pos[:, None]-k_pos[None, :]) < self.sliding_window": (
            "near = (q_pos[:, None]-k_pos[None, :]) <= self.sliding_window"
        ),
        "allowed = allowed & (window > row - col)": "allowed = allowed & (window >= row - col)",
        "recent = k_pos >= q_pos - window + 1": "recent = k_pos >= q_pos - window",
        "band = torch.triu(ones, diagonal=1 - window).bool()": (
            "band = torch.triu(ones, diagonal=-window).bool()"
        ),
        "blocked = blocked | torch.tril(ones, diagonal=-cfg.window)": (
            "blocked = blocked | torch.tril(ones, diagonal=-cfg.window - 1)"
        ),
    },
    spares=[
        "past = key <= query",
        "recent = key > query - 1",
        "kept = positions >= lengths[:, None] - window",
        "full = length >= window",
    ],
)
def window_lets_one_key_too_many_in() -> None:
    """A sliding window of `w` shows every query `w + 1` keys.

    A window counts the query's own position, so of the keys at or before it the last `w` are in
    sight, and the oldest of them stands at `query - w + 1`. With the edge moved by one, every query
    beyond the first `w` also reads the key just behind its window.

    Nothing crashes, and up to the window's length nothing differs at all: a test whose sequence is
    shorter than the window cannot see it. On longer ones a single extra key changes logits by
    little, until another back end, or a cache that really holds `w` keys, gives other answers.
    """
