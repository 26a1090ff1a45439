"""Where in the file a rewriting stands, and what it may know of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import libcst as cst

from .draws import Draws
from .facts import Facts

_OTHER_ARRAYS = {"numpy", "np", "jax", "jnp", "mlx", "mx", "tensorflow", "tf", "pandas", "pd"}


@dataclass(slots=True)
class Place:
    """The file and the function that is being rewritten."""

    facts: Facts
    draws: Draws
    module: cst.Module
    path: str = ""
    """`function` or `Class.function`; empty between functions."""
    plain_owner: bool = False
    """Whether the function belongs to a class that inherits nothing."""
    whole_numbers: frozenset[str] = frozenset()
    """Local variables of the function that hold integers and nothing else."""
    targets: set[int] = field(default_factory=set)
    """Ids of the nodes that are assigned to or deleted."""
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def happens(self, percent: int, kind: str) -> bool:
        """Say whether a variation takes place here, in so many of a hundred places."""
        self.seen[self.path, kind] += 1
        return self.draws.happens(percent, kind, self.path, str(self.seen[self.path, kind]))

    def style(self, percent: int, kind: str) -> bool:
        """Say whether a variation takes place in the whole file."""
        return self.draws.happens(percent, "style", kind)

    @property
    def only_torch(self) -> bool:
        """Say whether what looks like a tensor is one: no other library of arrays is imported."""
        imported = self.facts.imported_names
        return "torch" in self.facts.module_names & imported and not imported & _OTHER_ARRAYS

    def is_module(self, node: cst.BaseExpression) -> bool:
        """Say whether an expression is something imported, or hangs on it: `nn.functional`."""
        while isinstance(node, cst.Attribute):
            node = node.value
        return isinstance(node, cst.Name) and node.value in self.facts.imported_names

    def has_comment(self, node: cst.CSTNode) -> bool:
        """Say whether a comment stands within a node."""
        return any(isinstance(inner, cst.Comment) for inner in walk(node))


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield a node and all below it."""
    yield node
    for child in node.children:
        yield from walk(child)
