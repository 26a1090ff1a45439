"""A bug in numbering what is added to a list."""

from collections.abc import Iterator
from itertools import pairwise

import libcst as cst

from halfhour.mutators import (
    Sighting,
    assigned,
    is_called,
    mutator,
    pattern,
    same,
    uncommented,
    walk,
)

LENGTH_OF = pattern("len($items)")
ADDS = r"append|extend|_?add(_\w+)?|_?push(_\w+)?|_?register(_\w+)?"


# Fits one subject: only a vocabulary grows right behind a length that is kept.
@mutator(
    topic="tokenizer",
    family="added-specials-count-as-text",
    hints=[
        "Which of the entries count as the ones that were added at the end?",
        "A length is noted down. What has been added to the list by then?",
        "A length that separates the old entries from the new ones is taken between the two.",
    ],
    sightings=[
        Sighting(
            "https://github.com/huggingface/transformers/pull/1811",
            "added special tokens stayed in",
        ),
        Sighting(
            "https://github.com/vllm-project/vllm/pull/1044", "special tokens were left in the text"
        ),
    ],
    mutates={
        """
        class Vocabulary:
            def __init__(self, words, specials):
                self.words = list(words)
                self.n_ordinary = len(self.words)
                for special in specials:
                    self.add_special(special)

            def add_special(self, special):
                self.words.append(special)
        """: """
        class Vocabulary:
            def __init__(self, words, specials):
                self.words = list(words)
                for special in specials:
                    self.add_special(special)
                self.n_ordinary = len(self.words)

            def add_special(self, special):
                self.words.append(special)
        """,
        """
        start = len(ids)
        ids.extend(encode(answer))
        labels[start:] = ids[start:]
        """: """
        ids.extend(encode(answer))
        start = len(ids)
        labels[start:] = ids[start:]
        """,
        """
        n_prompt = len(tokens)
        tokens += sample(model, tokens)
        """: """
        tokens += sample(model, tokens)
        n_prompt = len(tokens)
        """,
    },
    spares=[
        """
        n_rows = len(rows)
        order.append(n_rows)
        """,
        """
        n_prompt = len(tokens)
        text = decode(tokens)
        """,
        """
        if specials:
            # Before the specials.
            n_ordinary = len(words)
            words.extend(specials)
        """,
    ],
)
def length_is_taken_after_the_addition(
    node: cst.IndentedBlock | cst.Module,
) -> Iterator[cst.CSTNode]:
    """The length that tells old entries from new ones is noted when the new ones are in.

    A list grows at its end, and its length before that is where the new part begins: the first id
    of a special token, the first generated token, the row of the next request. Noted one line later
    it is the length of the whole, and nothing lies behind it. What asks whether an entry is one of
    the new ones then always hears no.

    Both lengths are right for a list to which nothing is added.
    """
    for at, (noted, adds) in enumerate(pairwise(node.body)):
        found = assigned(noted)
        holes = None if found is None else LENGTH_OF.match(found[1])
        if found is None or holes is None or not uncommented(noted):
            continue
        assert isinstance(noted, cst.SimpleStatementLine)
        if not isinstance(adds, cst.SimpleStatementLine | cst.For):
            continue
        if _mentions(adds, found[0]) or any(line.comment for line in adds.leading_lines):
            continue
        if _adds_to(adds, holes["items"]):
            body = list(node.body)
            body[at], body[at + 1] = (
                adds.with_changes(leading_lines=noted.leading_lines),
                noted.with_changes(leading_lines=adds.leading_lines),
            )
            yield node.with_changes(body=body)


def _adds_to(line: cst.CSTNode, items: cst.BaseExpression) -> bool:
    """Tell whether a line lengthens the list, or calls an adding method of the same object."""
    for node in walk(line):
        match node:
            case cst.AugAssign(target=target, operator=cst.AddAssign()) if same(target, items):
                return True
            case cst.Call(func=cst.Attribute(owner)) if is_called(node, ADDS):
                if same(owner, items):
                    return True
                if isinstance(items, cst.Attribute) and same(owner, items.value):
                    return True
    return False


def _mentions(line: cst.CSTNode, name: cst.BaseExpression) -> bool:
    return any(same(below, name) for below in walk(line))
