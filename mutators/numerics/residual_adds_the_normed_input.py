"""A bug in residual connections."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Context,
    Sighting,
    assigned,
    mutator,
    name_of,
    same,
    swapped,
    uncommented,
    walk,
)


@mutator(
    topic="numerics",
    family="residual-overwritten-before-add",
    hints=[
        "Set the block's last projection to zero. What should come out of the block?",
        "Follow the residual stream from the block's entrance to its exit. Is it touched between?",
        "A pre-norm block adds to its input as it came; only the branch sees it normed.",
    ],
    sightings=[
        Sighting(
            "https://github.com/facebookresearch/multimodal/pull/305",
            "the input's name was reused before the sum",
        ),
    ],
    mutates={
        """
        def forward(self, x):
            h = self.ffn_norm(x)
            return x + self.down(F.silu(self.gate(h)) * self.up(h))
        """: """
        def forward(self, x):
            h = self.ffn_norm(x)
            return h + self.down(F.silu(self.gate(h)) * self.up(h))
        """,
        """
        def forward(self, x):
            h = layer_norm(x)
            branch = self.mlp(h)
            return x + branch
        """: """
        def forward(self, x):
            h = layer_norm(x)
            branch = self.mlp(h)
            return h + branch
        """,
        """
        def forward(self, hidden_states):
            residual = hidden_states
            hidden_states = self.input_layernorm(hidden_states)
            hidden_states = residual + self.attn(hidden_states)
            return hidden_states
        """: """
        def forward(self, hidden_states):
            hidden_states = self.input_layernorm(hidden_states)
            residual = hidden_states
            hidden_states = residual + self.attn(hidden_states)
            return hidden_states
        """,
    },
    spares=[
        """
        def forward(self, x):
            x = self.norm(x)
            x = x + self.mlp(x)
            return x
        """,
        """
        def forward(self, x):
            x = x + self.attention(self.attention_norm(x))
            return x
        """,
        """
        def forward(self, x, y):
            h = self.norm(y)
            return x + self.down(h)
        """,
    ],
)
def residual_adds_the_normed_input(
    node: cst.BinaryOperation | cst.IndentedBlock, context: Context
) -> Iterator[cst.CSTNode]:
    """The residual connection carries the normed input instead of the input.

    A pre-norm block computes `x + f(norm(x))`: the stream itself is never normed between blocks, so
    that what early layers wrote reaches the last one at full size. If the normed copy is added, the
    stream is levelled at every block, and everything before it loses its scale.

    Shapes agree, values stay in a pleasant range, even more so than they should, and the two differ
    by one name that is in scope either way. Expected values taken from the code itself hide it.
    """
    match node:
        case cst.IndentedBlock():
            for at, (kept, normed) in enumerate(pairwise(node.body)):
                if _copies_then_norms(kept, normed) and uncommented(kept, normed):
                    yield swapped(node, at)
        case cst.BinaryOperation(operator=cst.Add(), left=cst.Name() as stream, right=branch):
            lines = [found for line in context.before(node) if (found := assigned(line))]
            for copy, value in lines:
                if isinstance(copy, cst.Name) and not same(copy, stream) and _norms(value, stream):
                    branches = [branch, *(v for target, v in lines if same(target, branch))]
                    if any(same(below, copy) for b in branches for below in walk(b)):
                        yield node.with_changes(left=stream.with_changes(value=copy.value))


def _norms(value: cst.BaseExpression, stream: cst.Name) -> bool:
    """Tell whether the value is a norm of that variable."""
    match value:
        case cst.Call(args=[cst.Arg(value=given)]):
            return same(given, stream) and ("norm" in name_of(value) or name_of(value)[:2] == "ln")
    return False


def _copies_then_norms(kept: cst.BaseStatement, normed: cst.BaseStatement) -> bool:
    """Tell `residual = x` above `x = norm(x)`."""
    match assigned(kept), assigned(normed):
        case (cst.Name(), cst.Name() as stream), (target, value):
            return same(target, stream) and _norms(value, stream)
    return False
