"""A bug on machines with more than one device."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, assigned, is_called, mutator, name_of, walk

FACTORY = (
    r"arange|zeros|ones|full|empty|tensor|as_tensor|eye|linspace|logspace|asarray|array"
    r"|rand|randn|randint|randperm"
)


@mutator(
    topic="devices",
    family="default-device-context",
    hints=[
        "Put all weights and inputs on an accelerator and leave the default device. What happens?",
        "Which tensors does the code make itself, and who tells them where to live?",
        "A new tensor is made on the device of the tensors that it will meet.",
    ],
    sightings=[
        Sighting(
            "https://github.com/sgl-project/sglang/pull/13623",
            "a tensor went where the surrounding context said",
        ),
        Sighting(
            "https://github.com/deepmodeling/deepmd-kit/pull/3307",
            "tests set a bogus default device to find these",
        ),
    ],
    mutates={
        "column = torch.arange(n_columns, device=lengths.device)": (
            "column = torch.arange(n_columns)"
        ),
        """
        total = torch.zeros(len(a), len(b), dtype=torch.int32, device=a.device)
        """: """
        total = torch.zeros(len(a), len(b), dtype=torch.int32)
        """,
        "index = jnp.asarray(device=k.device, a=rows)": "index = jnp.asarray(a=rows)",
        """
        def mask(x):
            device = x.device
            rows = torch.arange(4, device=device)
            return x[rows], rows < torch.arange(6, device=device)
        """: [
            """
            def mask(x):
                device = x.device
                rows = torch.arange(4)
                return x[rows], rows < torch.arange(6, device=device)
            """,
            """
            def mask(x):
                device = x.device
                rows = torch.arange(4, device=device)
                return x[rows], rows < torch.arange(6)
            """,
        ],
    },
    spares=[
        "column = torch.arange(n_columns)",
        "x = x.to(device=other.device)",
        """
        def rows(n, device=None):
            held = torch.arange(n, device=device)
            return held, torch.zeros(n, device=device)
        """,
        """
        def last(x, lengths):
            row = torch.arange(len(x), device=x.device)
            return x[row, lengths - 1]
        """,
        'noise = torch.empty(n, device="cpu")',
    ],
    crash_is_the_bug=True,
)
def new_tensor_lands_on_the_default_device(node: cst.Call, context: Context) -> Iterator[cst.Call]:
    """A tensor is made on the default device, not on that of its inputs.

    A factory such as `arange` or `zeros` that is not told a device uses the default one. Inputs and
    weights may be elsewhere: on an accelerator, on the second of two, or on the host while the
    default is set to something else. A tensor that is combined with them must be made where they
    are, and the way to know is to ask one of them.

    On a machine with one device the keyword does nothing. Some operations even accept an index from
    the host, so that a part of the code runs and the rest fails, depending on the arguments.
    """
    if not is_called(node, FACTORY) or _only_indexes(node, context):
        return
    for at, given in enumerate(node.args):
        names_it = given.keyword is not None and given.keyword.value == "device"
        if names_it and _is_known(given.value, context) and context.can_spare(given):
            kept = [arg for i, arg in enumerate(node.args) if i != at]
            if at == len(node.args) - 1 and kept:
                kept[-1] = kept[-1].with_changes(
                    comma=given.comma, whitespace_after_arg=given.whitespace_after_arg
                )
            yield node.with_changes(args=kept)


def _is_known(device: cst.BaseExpression, context: Context) -> bool:
    """Tell whether this is the device of a tensor, not one that a caller may leave open."""
    function = context.enclosing(device, cst.FunctionDef)
    if function is None or not isinstance(device, cst.Name):
        return name_of(device) != ""
    params = (*function.params.params, *function.params.kwonly_params)
    return all(param.name.value != device.value for param in params)


def _only_indexes(node: cst.Call, context: Context) -> bool:
    """Tell whether the tensor serves as an index only, which may come from the host."""
    line, function = context.statement(node), context.enclosing(node, cst.FunctionDef)
    found = None if line is None else assigned(line)
    if function is None or found is None or not isinstance(found[0], cst.Name):
        return False
    names = [n for n in walk(function) if isinstance(n, cst.Name) and n.value == found[0].value]
    reads = [n for n in names if context.is_read(n)]
    return all(isinstance(context.parent(n), cst.Index) for n in reads)
