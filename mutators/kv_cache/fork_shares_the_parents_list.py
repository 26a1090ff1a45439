"""A bug where a sequence is split in two."""

from collections.abc import Iterator

import libcst as cst

from halfhour.mutators import Context, Sighting, is_called, mutator

COPIES = r"clone|copy|deepcopy|list|array"
OWNED = (
    r"(\w+_)?(tokens|output(_ids)?|history|reports|table|pages|blocks|hashes|state|cache|keys"
    r"|values|entries|ids|logprobs)"
)


@mutator(
    topic="kv_cache",
    family="cache-handed-out-by-reference",
    hints=[
        "Split a sequence and let one of the two grow. What does the other one hold afterwards?",
        "What of the original does the second sequence get, and what of it is its own?",
        "Both sides write into what they hold, so each needs a copy of it.",
    ],
    sightings=[
        Sighting("https://github.com/MemTensor/MemOS/pull/2303", "the stored cache was handed out"),
        Sighting("https://github.com/MemTensor/MemOS/pull/2359", "the store grew with every use"),
    ],
    mutates={
        """
        def fork(self, parent, name):
            self.running[name] = Sequence(list(parent.tokens), parent.adapter)
        """: """
        def fork(self, parent, name):
            self.running[name] = Sequence(parent.tokens, parent.adapter)
        """,
        "child = replace(parent, output=parent.output.copy())": (
            "child = replace(parent, output=parent.output)"
        ),
        "return Cache(keys=self.keys.clone(), n_seen=self.n_seen)": (
            "return Cache(keys=self.keys, n_seen=self.n_seen)"
        ),
        "branch = Hypothesis(old.ids[:], score=s)": "branch = Hypothesis(old.ids, score=s)",
    },
    spares=[
        "tokens = list(request.tokens)",
        "child = Sequence(parent.prompt, parent.adapter)",
        "print(list(parent.tokens))",
        "child = Sequence(list(range(n)))",
    ],
)
def fork_shares_the_parents_list(node: cst.Arg, context: Context) -> Iterator[cst.Arg]:
    """The second sequence holds the very list of the first instead of a copy.

    A fork starts with the history of its parent and then goes its own way. What both only read may
    be one object. What grows, tokens, tables, hashes, must be copied, or each of them appends to
    the text of the other.

    At the moment of the fork both hold the right thing, and it stays so for as long as only one of
    them is used. Nothing raises when the shared list grows.
    """
    match context.parent(node):
        case cst.Call(func=cst.Name(value=maker)) if maker == "replace" or maker[0].isupper():
            held = _copied(node.value)
            if held is not None and is_called(held, OWNED):
                yield node.with_changes(value=held)


def _copied(node: cst.BaseExpression) -> cst.Attribute | None:
    """Return `x.tokens` for `list(x.tokens)`, `x.tokens.copy()`, `x.tokens[:]`, `[*x.tokens]`."""
    match node:
        case cst.Call(func=cst.Attribute(value=cst.Attribute() as held), args=[]):
            return held if is_called(node, COPIES) else None
        case cst.Call(args=[cst.Arg(value=cst.Attribute() as held, keyword=None, star="")]):
            return held if is_called(node, COPIES) else None
        case cst.Subscript(
            value=cst.Attribute() as held,
            slice=[cst.SubscriptElement(cst.Slice(lower=None, upper=None, step=None))],
        ):
            return held
        case cst.List(elements=[cst.StarredElement(value=cst.Attribute() as held)]):
            return held
    return None
