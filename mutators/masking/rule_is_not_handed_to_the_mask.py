"""A bug where one function knows a rule of the mask and another one builds it."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator
from halfhour.mutators._idioms import WINDOW, without_optional

RULES = (
    rf"{WINDOW}|chunk|attention_chunk_size|n_sinks?|sinks|prefix_len\w*|(is_)?causal|segment_ids"
    r"|(attn_|attention_|key_padding_|padding_|pad_)?mask"
)


@mutator(
    topic="masking",
    family="mask-argument-never-passed",
    hints=[
        "Ask for one rule at a time, on a text long enough for it to matter. Is each one kept?",
        "Follow each setting from where it is given to where keys are hidden. Where does it stop?",
        "A rule with a default must be handed on by every call on the way to the mask.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/diffusers/issues/8886",
            "the attention mask never reached the attention function",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/issues/39389",
            "a mask was built and not delivered",
        ),
    ],
    mutates={
        """
        def step(q, k, v, keep):
            assert keep.dtype == bool
            mask = keep[:, None, None, :]
            print(mask.shape)
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        """: """
        def step(q, k, v, keep):
            assert keep.dtype == bool
            mask = keep[:, None, None, :]
            print(mask.shape)
            return F.scaled_dot_product_attention(q, k, v)
        """,
        """
        def seen(rows, cols, window=None):
            return rows >= cols if window is None else abs(rows - cols) < window

        def attend(self, q, k):
            return softmax(self.scale * q @ k.T, where=seen(q.pos, k.pos, self.window))
        """: """
        def seen(rows, cols, window=None):
            return rows >= cols if window is None else abs(rows - cols) < window

        def attend(self, q, k):
            return softmax(self.scale * q @ k.T, where=seen(q.pos, k.pos))
        """,
    },
    spares=[
        """
        def seen(rows, cols, window):
            return (rows >= cols) & (rows - cols < window)

        def attend(self, q, k):
            return softmax(self.scale * q @ k.T, where=seen(q.pos, k.pos, self.window))
        """,
        """
        def forward(x, window=None):
            return block(x, window=window)
        """,
    ],
)
def rule_is_not_handed_to_the_mask(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """A rule that was set does not reach the function that hides the keys.

    Windows, chunks, sinks and padding are set in one place and enforced in another, and every call
    in between has to pass them on. Parameters of that kind have a default, mostly "no such rule",
    so that a call which forgets one is as valid as before: it just shows more keys, or fewer.

    Nothing fails at import or at the first step. Texts that are shorter than the window, a batch
    without padding, or a layer that attends to everything give the same result with and without.
    """
    yield from without_optional(node, context, RULES)
