"""A bug where a length is a whole number of pages."""

from halfhour.mutators import Sighting, mutator

SIZE = r"(\w+_)?(block|page|chunk|tile|piece)_?(size|len)|b|n|d|size"


@mutator(
    topic="kv_cache",
    family="page-read-past-sequence-end",
    hints=[
        "How many pages hold 15, 16 and 17 tokens, if one page holds 16?",
        "Look for the quotient that says how many pages some tokens need.",
        "The number of pages is the quotient rounded up: whole pages need no other one.",
    ],
    sightings=[
        Sighting(
            "https://github.com/pegainfer-project/pegainfer/issues/291",
            "one page too many at block boundaries",
        ),
    ],
    mutates={
        """
        def blocks_for(self, n_tokens):
            return -(-n_tokens // self.block_size)
        """: """
        def blocks_for(self, n_tokens):
            return n_tokens // self.block_size + 1
        """,
        "n_pages = (seq_len + page_size - 1) // page_size": "n_pages = (seq_len // page_size) + 1",
        "n_pages = math.ceil(seq_len / page_size)": "n_pages = seq_len // page_size + 1",
    },
    spares=[
        "n_full = seq_len // page_size",
        "n_pages = math.ceil(seq_len / ratio)",
        "scale = -(-total // shards)",
    ],
    rewrites={
        "-(-$n // $size)": "$n // $size + 1",
        "($n + $size - 1) // $size": "$n // $size + 1",
        "math.ceil($n / $size)": "$n // $size + 1",
    },
    names={"size": SIZE},
)
def full_pages_get_one_more() -> None:
    """A length that fills its pages exactly is given one page more.

    Tokens need as many pages as the quotient rounded up. Dividing down and adding one is the same
    for all lengths but the whole multiples, where it names a page beyond the end. That page belongs
    to nobody or to somebody else: it is reserved in vain, counted as used, or read.

    Only every 16th length shows it, on a fresh pool the page is all zeros, and what is counted too
    high does no harm until memory runs out.
    """
