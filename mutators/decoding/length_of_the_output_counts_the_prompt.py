"""A bug in lengths of outputs."""

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
    walk,
)

PROMPT = r"\w*(prompt|input)(_\w+)?"
SCORES = r"_?(\w+_)?(is_done|score|normali[sz]e|length_penalty|penalize|finalize)"
LIMIT = r"(\w+_)?(max_new_tokens|max_tokens|max_output\w*|output_limit)"
REST = pattern("$total - $prompt")
SLICE = pattern("$tokens[$prompt :]")
LEN = pattern("len($tokens)")
LIMIT_AT = pattern("len($prompt) + $limit", prompt=PROMPT, limit=LIMIT)


@mutator(
    topic="decoding",
    family="beam-length-penalty-counts-prompt",
    hints=[
        "Ask the same with a much longer prompt. Does the output end, or rank, as before?",
        "Which length is meant where outputs are limited or compared: the text's or the output's?",
        "A prompt is no part of the output, and its length is no reason to stop or to prefer.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/issues/2606",
            "scores were divided by prompt plus output",
        ),
        Sighting(
            "https://github.com/huggingface/transformers/issues/26624", "the same divisor, shown"
        ),
    ],
    mutates={
        "score = sum_lp / (len(ids) - prompt_len) ** alpha": "score = sum_lp / len(ids) ** alpha",
        """
        class Search:
            @property
            def n_generated(self):
                return self.tokens.shape[1] - self.prompt.shape[1]

            def run(self):
                while self.n_generated < self.config.max_new_tokens:
                    self.done = self.hyps.is_done(self.best, self.n_generated)
        """: [
            """
            class Search:
                @property
                def n_generated(self):
                    return self.tokens.shape[1] - self.prompt.shape[1]

                def run(self):
                    while self.tokens.shape[1] < self.config.max_new_tokens:
                        self.done = self.hyps.is_done(self.best, self.n_generated)
            """,
            """
            class Search:
                @property
                def n_generated(self):
                    return self.tokens.shape[1] - self.prompt.shape[1]

                def run(self):
                    while self.n_generated < self.config.max_new_tokens:
                        self.done = self.hyps.is_done(self.best, self.tokens.shape[1])
            """,
        ],
        """
        class Request:
            @property
            def output(self):
                return self.tokens[self.n_prompt :]

            def is_full(self):
                return len(self.output) >= self.max_new_tokens
        """: """
        class Request:
            @property
            def output(self):
                return self.tokens[self.n_prompt :]

            def is_full(self):
                return len(self.tokens) >= self.max_new_tokens
        """,
        "limit = len(prompt) + max_new_tokens": "limit = max_new_tokens",
    },
    spares=[
        "n_left = total - prompt_len",
        "limit = len(prompt) + n_columns",
        """
        class Search:
            def n_generated(self):
                return self.tokens.shape[1] - self.start

            def run(self):
                return self.n_generated < self.max_new_tokens
        """,
    ],
)
def length_of_the_output_counts_the_prompt(
    node: cst.BinaryOperation | cst.Attribute | cst.Call, context: Context
) -> Iterator[cst.CSTNode]:
    """The prompt is counted where only the output's length is meant.

    Limits on new tokens and the length in a beam's score are about what was generated. With the
    prompt in them, a long prompt ends the output early, and all hypotheses look almost equally
    long, so that length hardly matters for their rank.

    With short prompts the numbers barely differ, and tests have short prompts. A text that ends
    early still is a text.
    """
    match node:
        case cst.BinaryOperation() if (found := LIMIT_AT.match(node)) is not None:
            if context.can_spare(found["prompt"]):
                yield found["limit"]
        case cst.BinaryOperation() if (found := REST.match(node)) is not None:
            prompt = found["prompt"]
            used = _is_a_base(node, context) or _limits(node, context)
            if used and is_called(prompt, PROMPT) and context.can_spare(prompt):
                yield found["total"]
        case cst.Attribute(value=cst.Name("self")):
            number = _returned(node, context)
            found = REST.match(number) if number is not None else None
            used = _limits(node, context) or _scores(node, context)
            if used and found is not None and mentions(found["prompt"], PROMPT):
                yield found["total"]
        case cst.Call(func=cst.Name("len"), args=[cst.Arg(cst.Attribute() as output)]):
            number = _returned(output, context) if _limits(node, context) else None
            found = SLICE.match(number) if number is not None else None
            if found is not None and mentions(found["prompt"], PROMPT):
                yield fill(LEN, {"tokens": found["tokens"]})


def _returned(node: cst.Attribute, context: Context) -> cst.BaseExpression | None:
    """Return what the property of that name in the same class returns."""
    scope = context.enclosing(node, cst.ClassDef)
    for below in walk(scope.body) if scope is not None else ():
        if isinstance(below, cst.FunctionDef) and below.name.value == name_of(node):
            for line in below.body.body:
                match line:
                    case cst.SimpleStatementLine([cst.Return(value)]) if below.decorators:
                        return value
    return None


def _is_a_base(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node is raised to a power."""
    match context.parent(node):
        case cst.BinaryOperation(left=base, operator=cst.Power()):
            return base is node
    return False


def _limits(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node is compared with a limit on new tokens."""
    above = context.parent(node)
    match above:
        case cst.Comparison(comparisons=[cst.ComparisonTarget(comparator=limit)]):
            return above.left is node and is_called(limit, LIMIT)
    return False


def _scores(node: cst.CSTNode, context: Context) -> bool:
    """Tell whether the node is an argument of what scores or stops a search."""
    arg = context.parent(node)
    call = context.parent(arg) if isinstance(arg, cst.Arg) else None
    return isinstance(call, cst.Call) and is_called(call, SCORES)
