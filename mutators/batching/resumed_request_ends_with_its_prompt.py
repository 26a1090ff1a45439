"""A bug in requests that are computed a second time."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, fill, is_called, mentions, mutator, pattern

HISTORY = r"tokens|token_ids|all_tokens|all_token_ids|history"
REQUEST = r"(\w+_)?(request|req|seq|sequence|group|r)"
BOTH = (
    pattern("$r.prompt + $r.output"),
    pattern("[*$r.prompt, *$r.output]"),
    pattern("$r.prompt_ids + $r.output_ids"),
    pattern("[*$r.prompt_ids, *$r.output_ids]"),
)


# Fits one subject: only the continuous batching computes requests a second time.
@mutator(
    topic="batching",
    family="resumed-request-forgets-output",
    hints=[
        "Let a request lose its memory after some generated tokens. How does it go on?",
        "For a request that starts again, which tokens are counted, and which are fed?",
        "A request that is resumed has its own tokens to read again, not only its prompt.",
    ],
    sightings=[
        Sighting(
            "https://github.com/PaddlePaddle/FastDeploy/pull/3080",
            "after preemption only the prompt was read again",
        ),
    ],
    mutates={
        """
        def fits(self, request):
            return len(request.tokens) <= self.room + request.n_prompt
        """: """
        def fits(self, request):
            return request.n_prompt <= self.room + request.n_prompt
        """,
        "ids = request.prompt_ids + request.output_ids": "ids = request.prompt_ids",
        "todo = [*seq.prompt, *seq.output]": "todo = list(seq.prompt)",
        "last, n = seq.n_computed >= len(seq.token_ids), seq.n_prompt": (
            "last, n = seq.n_computed >= seq.n_prompt, seq.n_prompt"
        ),
    },
    spares=[
        "n = len(request.tokens)",
        "ids = request.prompt + template.output",
        "n = len(request.blocks) + request.n_prompt",
        "n = len(chunk.tokens) + request.n_prompt",
    ],
)
def resumed_request_ends_with_its_prompt(
    node: cst.Call | cst.BinaryOperation | cst.List, context: Context
) -> Iterator[cst.CSTNode]:
    """Of a request that starts again only the prompt counts, not what it had generated.

    When memory runs out a request may lose its keys and values, and is computed anew later. What it
    has to read then is the prompt and all that it had generated so far. Where only the prompt is
    counted, it gets too little room, is sampled too early, or begins its answer again.

    For a request that was never interrupted, prompt and tokens are the same at its start.
    """
    match node:
        case cst.Call(
            func=cst.Name(value="len"),
            args=[cst.Arg(value=cst.Attribute(value=r, attr=cst.Name(value=held)))],
        ) if re.fullmatch(HISTORY, held) and is_called(r, REQUEST):
            if mentions(context.module, "n_prompt"):
                yield fill(pattern("$r.n_prompt"), {"r": r})
        case cst.BinaryOperation() | cst.List():
            for both in BOTH:
                if (found := both.match(node)) is not None:
                    ids = "prompt_ids" if mentions(node, "prompt_ids") else "prompt"
                    kept = f"list($r.{ids})" if isinstance(node, cst.List) else f"$r.{ids}"
                    yield fill(pattern(kept), found)
