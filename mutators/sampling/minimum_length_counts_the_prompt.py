"""A bug in minimum output lengths."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    fill,
    is_called,
    mentions,
    mutator,
    name_of,
    pattern,
    same,
    walk,
)

MINIMUM = r"(\w+_)?min_(new_)?(tokens|length|len)(_\w+)?"
OUTPUT = re.compile(r"out|outputs?|output_ids|generated(_ids)?|completion(_ids)?")
PROMPT = re.compile(r"prompts?|prompt_ids|prompt_tokens")
GENERATED = r"(n|num|len)_(generated|output|new)(_\w+)?|(generated|output|new)_(len|length)"
TEXT = r"(\w+_)?(tokens|ids|token_ids|text|sequence|history)"
COLUMNS = pattern("$text.shape[1]")
LENGTH_OF_TEXT = pattern("len($text)")
LENGTH_OF = pattern("len($output)")
TOTAL_LESS_PROMPT = pattern("$total - $prompt", prompt=r"(\w+_)?(prompt|input)(_\w+)?")
BOTH = pattern("len($prompt) + len($output)")


@mutator(
    topic="sampling",
    family="min-tokens-counts-prompt",
    hints=[
        "Ask for at least three new tokens after a prompt of five. Is EOS blocked at all?",
        "Which tokens are counted when the length is compared with the minimum?",
        "The minimum is about what is generated: the prompt does not count.",
    ],
    sightings=[
        Sighting(
            "https://github.com/NVIDIA/TensorRT-LLM/pull/12358",
            "compared with prompt plus output",
        ),
    ],
    mutates={
        """
        def process(scores, prompts, outputs, params):
            for row, p in enumerate(params):
                if len(outputs[row]) < p.min_new_tokens:
                    scores[row, EOS] = -INF
        """: """
        def process(scores, prompts, outputs, params):
            for row, p in enumerate(params):
                if len(prompts[row]) + len(outputs[row]) < p.min_new_tokens:
                    scores[row, EOS] = -INF
        """,
        """
        def block(scores, cur_len, prompt_len):
            block_eos = cur_len - prompt_len < self.min_tokens
            return block_eos, prompt_len
        """: """
        def block(scores, cur_len, prompt_len):
            block_eos = cur_len < self.min_tokens
            return block_eos, prompt_len
        """,
        """
        def forbid(logprobs, tokens, n_generated, config):
            if n_generated < config.min_new_tokens:
                logprobs[:, config.eos_id] = -INF
            return block_ngrams(logprobs, tokens)

        def step(self, logprobs):
            done = self.tokens.shape[1] == self.limit
            return forbid(logprobs, self.tokens, self.n_generated, self.config), done
        """: """
        def forbid(logprobs, tokens, n_generated, config):
            if n_generated < config.min_new_tokens:
                logprobs[:, config.eos_id] = -INF
            return block_ngrams(logprobs, tokens)

        def step(self, logprobs):
            done = self.tokens.shape[1] == self.limit
            return forbid(logprobs, self.tokens, self.tokens.shape[1], self.config), done
        """,
    },
    spares=[
        """
        def process(scores, outputs, p):
            return len(outputs) < p.min_new_tokens
        """,
        """
        def check(prompts, outputs):
            return len(outputs) < len(prompts)
        """,
    ],
)
def minimum_length_counts_the_prompt(
    node: cst.Comparison | cst.Call, context: Context
) -> Iterator[cst.BaseExpression]:
    """The minimum number of new tokens is compared with prompt and output together.

    `min_new_tokens` promises an output of that length. If the prompt is counted in, every prompt
    that is longer than the minimum switches the promise off, and shorter ones weaken it.

    Answers rarely end so early that anyone would notice; it was a benchmark, which counts tokens,
    that did. An empty prompt, or a minimum above everything, behaves as promised.
    """
    match node:
        case cst.Call():
            yield from _told_the_total(node, context)
        case cst.Comparison(left=left, comparisons=[cst.ComparisonTarget(cst.LessThan(), least)]):
            if not is_called(least, MINIMUM):
                return
            if (found := TOTAL_LESS_PROMPT.match(left)) is not None:
                if context.can_spare(found["prompt"]):
                    yield node.with_changes(left=found["total"])
            elif (found := LENGTH_OF.match(left)) is not None:
                output = found["output"]
                prompt = _prompt_beside(output, node, context)
                if prompt is not None:
                    both = fill(BOTH, {"prompt": prompt, "output": output})
                    yield node.with_changes(left=both)


def _told_the_total(call: cst.Call, context: Context) -> Iterator[cst.Call]:
    """Hand the length of the whole text to a function that wants the output's for its minimum."""
    texts = [a.value for a in call.args if is_called(a.value, TEXT)]
    texts = [text for text in texts if isinstance(text, cst.Name | cst.Attribute)]
    counts = [a.value for a in call.args if is_called(a.value, GENERATED)]
    if len(texts) != 1 or len(counts) != 1 or not context.can_spare(counts[0]):
        return
    wants = [n for n in walk(context.module) if isinstance(n, cst.FunctionDef)]
    if any(n.name.value == name_of(call) and mentions(n, MINIMUM) for n in wants):
        for form in (COLUMNS, LENGTH_OF_TEXT):
            total = fill(form, {"text": texts[0]})
            if any(same(n, total) for n in walk(context.module)):
                told = [
                    arg.with_changes(value=total) if arg.value is counts[0] else arg
                    for arg in call.args
                ]
                yield call.with_changes(args=told)
                return


def _prompt_beside(
    output: cst.BaseExpression, node: cst.CSTNode, context: Context
) -> cst.BaseExpression | None:
    """Return `prompts[row]` for `outputs[row]` where the function has a parameter `prompts`."""
    function = context.enclosing(node, cst.FunctionDef)
    outer = next((n for n in walk(output) if isinstance(n, cst.Name)), None)
    if function is None or outer is None or not OUTPUT.fullmatch(outer.value):
        return None
    for param in function.params.params:
        if PROMPT.fullmatch(param.name.value):
            prompt = output.deep_replace(outer, cst.Name(param.name.value))
            assert isinstance(prompt, cst.BaseExpression)
            return prompt
    return None
