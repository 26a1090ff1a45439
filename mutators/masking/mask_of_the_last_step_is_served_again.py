"""A bug where masks are kept from call to call."""

import re
from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, mutator, name_of, uncommented, walk

KEPT = r"_?(\w+_)?(masks?|bias(es)?)(_cache|_by_\w+|_for_\w+)?|_?cached_(mask|bias)\w*"


# Fits one subject: only attention_masks keeps masks between calls.
@mutator(
    topic="masking",
    family="recycled-row-keeps-old-mask",
    hints=[
        "Ask for a mask, let the batch change, and ask again. Is it the mask of the new batch?",
        "What is kept between two calls, and which lines make it invalid?",
        "Whatever is derived from the state and kept must be forgotten wherever the state changes.",
    ],
    sightings=[
        Sighting(
            "https://github.com/vllm-project/vllm/issues/43894",
            "a row kept the mask of its last occupant",
        ),
        Sighting(
            "https://github.com/facebookresearch/xformers/pull/660",
            "a kept mask was tied to one sequence length",
        ),
    ],
    mutates={
        """
        class Masks:
            def append(self, valid):
                self.valid = torch.cat((self.valid, valid), dim=1)
                self._masks.clear()

            def mask(self, spec):
                if spec not in self._masks:
                    self._masks[spec] = build_mask(self.valid, spec)
                return self._masks[spec]
        """: """
        class Masks:
            def append(self, valid):
                self.valid = torch.cat((self.valid, valid), dim=1)

            def mask(self, spec):
                if spec not in self._masks:
                    self._masks[spec] = build_mask(self.valid, spec)
                return self._masks[spec]
        """,
        """
        class Batch:
            def __init__(self):
                self.causal_mask = None

            def drop(self, rows):
                self.lengths = np.delete(self.lengths, rows)
                self.causal_mask = None

            def get(self):
                if self.causal_mask is None:
                    self.causal_mask = make(self.lengths)
                return self.causal_mask
        """: """
        class Batch:
            def __init__(self):
                self.causal_mask = None

            def drop(self, rows):
                self.lengths = np.delete(self.lengths, rows)

            def get(self):
                if self.causal_mask is None:
                    self.causal_mask = make(self.lengths)
                return self.causal_mask
        """,
    },
    spares=[
        """
        class Masks:
            def close(self):
                self.pages.release()
                self._masks.clear()
        """,
        """
        class Layer:
            def reset(self):
                self.mask = None
                self.length = 0

            def forward(self, x):
                return x if self.mask is None else x + self.mask
        """,
    ],
)
def mask_of_the_last_step_is_served_again(
    node: cst.SimpleStatementLine, context: Context
) -> Iterator[cst.RemovalSentinel]:
    """The batch changes, and the masks that were built for the old one stay in use.

    Layers share a mask, so it is built once for a step and kept. It depends on which slots hold
    tokens, and every change of those, a new step, a row that leaves, has to throw it away. Where
    one such place forgets to, the next step is served what was right for the last.

    The mask mostly has a plausible shape, since row counts and lengths change slowly, and a test
    that builds a fresh object for every step never meets a kept mask.
    """
    attribute = _forgotten(node)
    owner = context.enclosing(node, cst.ClassDef)
    method = context.enclosing(node, cst.FunctionDef)
    if attribute is None or owner is None or method is None or method.name.value == "__init__":
        return
    alone = len(method.body.body) == 1
    if not alone and uncommented(node) and _is_built_on_demand(attribute, owner):
        yield cst.RemoveFromParent()


def _forgotten(node: cst.SimpleStatementLine) -> str | None:
    """Return the attribute that `self.x.clear()`, `self.x = None` or `self.x = {}` empties."""
    match node.body:
        case [cst.Expr(cst.Call(cst.Attribute(kept, cst.Name("clear")), args=[]))]:
            pass
        case [cst.Assign([cst.AssignTarget(kept)], cst.Name("None") | cst.Dict(elements=[]))]:
            pass
        case _:
            return None
    if isinstance(kept, cst.Attribute) and re.fullmatch(KEPT, kept.attr.value):
        return kept.attr.value
    return None


def _is_built_on_demand(attribute: str, owner: cst.ClassDef) -> bool:
    """Tell whether some method builds it under a condition that asks for it."""
    for branch in walk(owner):
        if isinstance(branch, cst.If) and _names(branch.test, attribute):
            targets = [n.target for n in walk(branch.body) if isinstance(n, cst.AssignTarget)]
            if any(name_of(target) == attribute for target in targets):
                return True
    return False


def _names(node: cst.CSTNode, attribute: str) -> bool:
    return any(isinstance(n, cst.Name) and n.value == attribute for n in walk(node))
