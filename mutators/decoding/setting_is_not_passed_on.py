"""A bug in calls with optional arguments."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator, name_of, walk

SETTINGS = (
    r"(\w+_)?(temperature|top_k|top_p|min_p|penalty|eos_id|eos_ids|stop|seed|window|cap|softcap"
    r"|scale|max_\w+|min_\w+|n_sink|ignore_index|zero_centered|eps|side)"
)


@mutator(
    topic="decoding",
    family="spec-target-ignores-sampling-params",
    hints=[
        "Turn each setting to an extreme value, one by one. Which of them changes nothing?",
        "Which calls leave out an argument, and is the default what the caller asked for?",
        "A setting counts only where it arrives: all the way to the line that applies it.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/10198",
            "target probabilities without the request's parameters",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/issues/42744", "some settings skipped on one path"
        ),
    ],
    mutates={
        """
        def to_probs(logits, temperature, top_k=-1):
            return filter(logits / temperature, top_k)

        def verify(self, logits):
            return to_probs(logits, self.config.temperature, self.config.top_k)
        """: """
        def to_probs(logits, temperature, top_k=-1):
            return filter(logits / temperature, top_k)

        def verify(self, logits):
            return to_probs(logits, self.config.temperature)
        """,
        """
        def warp(logits, *, temperature=1.0, top_p=1.0):
            return nucleus(logits / temperature, top_p)

        def target(logits, params):
            return warp(logits, temperature=params.temperature, top_p=params.top_p)
        """: [
            """
            def warp(logits, *, temperature=1.0, top_p=1.0):
                return nucleus(logits / temperature, top_p)

            def target(logits, params):
                return warp(logits, top_p=params.top_p)
            """,
            """
            def warp(logits, *, temperature=1.0, top_p=1.0):
                return nucleus(logits / temperature, top_p)

            def target(logits, params):
                return warp(logits, temperature=params.temperature)
            """,
        ],
    },
    spares=[
        """
        def to_probs(logits, temperature):
            return softmax(logits / temperature)

        def verify(self, logits):
            return to_probs(logits, self.temperature)
        """,
        """
        def to_probs(logits, temperature=1.0):
            return softmax(logits / temperature)

        def verify(self, logits, temperature):
            return to_probs(logits, temperature)
        """,
    ],
)
def setting_is_not_passed_on(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """An optional setting is left out of a call, and the default stands in for it.

    The function can do it, the caller was asked for it, and between the two it is lost: the call
    leaves the argument out. From then on the function does what it does for everybody who wants
    nothing special, on this path only. Speculative and plain decoding then sample differently.

    Defaults are harmless on purpose. Tests that run with the default settings, or with greedy
    decoding, where most settings do not matter, cannot tell.
    """
    candidates = [at for at, arg in enumerate(node.args) if _is_setting(node, at, arg)]
    function = _defined_here(node, context) if candidates else None
    if function is None:
        return
    optional = {
        param.name.value
        for param in (*function.params.params, *function.params.kwonly_params)
        if param.default is not None
    }
    for at in candidates:
        if name_of(node.args[at].value) in optional:
            args = [*node.args[:at], *node.args[at + 1 :]]
            if at == len(args) and args:
                args[-1] = args[-1].with_changes(comma=node.args[at].comma)
            yield node.with_changes(args=args)


def _is_setting(node: cst.Call, at: int, arg: cst.Arg) -> bool:
    """Tell `config.top_k` as the last argument, and `top_k=config.top_k` anywhere."""
    if not isinstance(arg.value, cst.Attribute) or not is_called(arg.value, SETTINGS):
        return False
    if arg.keyword is None:
        return at == len(node.args) - 1
    return arg.keyword.value == name_of(arg.value)


def _defined_here(node: cst.Call, context: Context) -> cst.FunctionDef | None:
    """Return the function or the class's initialiser of that name in the same file."""
    for below in walk(context.module):
        match below:
            case cst.FunctionDef(name=cst.Name(name)) if name == name_of(node):
                return below
            case cst.ClassDef(name=cst.Name(name)) if name == name_of(node):
                return next(
                    (
                        method
                        for method in walk(below)
                        if isinstance(method, cst.FunctionDef) and method.name.value == "__init__"
                    ),
                    None,
                )
    return None
