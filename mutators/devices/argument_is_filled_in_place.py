"""A bug in functions that return a changed tensor."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assignments, mutator

METHODS = (
    "masked_fill",
    "masked_scatter",
    "index_fill",
    "scatter",
    "scatter_add",
    "index_add",
    "mul",
    "add",
    "sub",
    "div",
    "index_copy",
    "fill_diagonal",
    "tril",
)
ALIASES = (
    "float",
    "to",
    "type",
    "double",
    "detach",
    "view",
    "reshape",
    "flatten",
    "squeeze",
    "contiguous",
    "unsqueeze",
    "view_as",
    "transpose",
    "permute",
)


@mutator(
    topic="devices",
    family="inplace-experts-corrupt-shared-input",
    hints=[
        "Call it twice with the same tensors. Are they still what they were?",
        "Which operations write, and into whose tensor?",
        "What a function is given is not its own: it returns a new tensor, and writes into none.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/pull/28939",
            "one branch wrote over the input of the other",
        ),
        Sighting(
            "https://github.com/MooreThreads/vllm-musa/pull/56", "the same in a port to other chips"
        ),
    ],
    mutates={
        """
        def without_padding(tokens, real):
            return tokens.masked_fill(~real, 0)
        """: """
        def without_padding(tokens, real):
            return tokens.masked_fill_(~real, 0)
        """,
        """
        def attend(p, v, unseen):
            v = v.float().masked_fill(unseen[:, None], 0.0)
            return p @ v
        """: """
        def attend(p, v, unseen):
            v = v.float().masked_fill_(unseen[:, None], 0.0)
            return p @ v
        """,
        """
        def open_window(mask, index):
            n_open = mask.sum()
            return mask.scatter(1, index, True), n_open
        """: """
        def open_window(mask, index):
            n_open = mask.sum()
            return mask.scatter_(1, index, True), n_open
        """,
    },
    spares=[
        """
        def attend(q, k, hidden):
            scores = q @ k.mT
            return scores.masked_fill(hidden, -inf)
        """,
        """
        def clean(tokens, real):
            tokens = tokens.clone()
            return tokens.masked_fill(~real, 0)
        """,
        """
        def clean(tokens, real):
            return torch.where(real, tokens, 0)
        """,
    ],
)
def argument_is_filled_in_place(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """A function writes into the tensor that it was given, where it should return a new one.

    One underscore turns an operation into one that writes into its tensor. The value returned is
    the same, but now the caller's tensor has changed, and so has everything that shares its memory:
    a slice of a cache, the logits that are to be reported, the input of a second branch.

    The result of the call is right. Whether anyone notices depends on who looks at the argument
    again, and for an input in 16 bits the cast before may have made a copy.
    """
    match node.func:
        case cst.Attribute(value=receiver, attr=cst.Name(method)) if method in METHODS:
            function = context.enclosing(node, cst.FunctionDef)
            root = _root(receiver)
            if function is None or root is None or not _is_parameter(root, node, function, context):
                return
            yield node.with_changes(func=node.func.with_changes(attr=cst.Name(f"{method}_")))


def _root(value: cst.BaseExpression) -> cst.Name | None:
    """Return `v` of `v.float().view(-1)`; None where a new tensor is made."""
    match value:
        case cst.Name():
            return value
        case cst.Call(cst.Attribute(x, cst.Name(name))) if name in ALIASES:
            return _root(x)
    return None


def _is_parameter(
    root: cst.Name, node: cst.Call, function: cst.FunctionDef, context: Context
) -> bool:
    """Tell whether the variable is still what the function was given."""
    params = function.params
    names = {p.name.value for p in (*params.params, *params.kwonly_params, *params.posonly_params)}
    line = context.statement(node)
    within = [] if line is None else list(assignments(line, root.value))
    return root.value in names and len(list(assignments(function, root.value))) == len(within)
