"""Give local variables and private helpers other names, in code and where remarks mention them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .draws import Draws
from .facts import RESERVED, Facts, Scope
from .vocabulary import FIRST_WORDS, INHERITED, PAIRS, WHOLE, WORDS, synonyms

_OFTEN = 85
"""How many of a hundred names get a synonym, if they have one."""
_WORDS = 60
"""How many of a hundred words within names get one."""

Names = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Renames:
    """Old names and new ones."""

    everywhere: Names
    """Private names of the file: functions, methods, attributes, constants."""
    within: Mapping[str, Names] = field(default_factory=dict)
    """Local variables, by the path of their function."""

    def behind(self, words: frozenset[str]) -> frozenset[str]:
        """Return the old names whose new ones are among these words."""
        tables = [self.everywhere, *self.within.values()]
        return frozenset(old for names in tables for old, new in names.items() if new in words)

    def of(self, path: str) -> Names:
        """Return the local variables of a function that have another name."""
        return self.within.get(path, {})

    def remark(self, text: str, path: str) -> str:
        """Return a comment or a docstring with the new names in it."""
        for old, new in self.everywhere.items():
            text = re.sub(rf"(?<!\w){old}(?!\w)", new, text)
        for old, new in self.of(path).items():
            text = _mentioned(old).sub(new, text)
        return text


def draw_renames(
    facts: Facts,
    draws: Draws,
    *,
    elsewhere: frozenset[str],
    no_longer: frozenset[str],
    width: int,
) -> Renames:
    """Choose new names: no private one for what stands `elsewhere`, and no longer ones for some.

    Lines that cannot be broken shall stay within the width, as far as one can tell beforehand. A
    name that occurs in several functions is called the same in all of them that allow it.
    """
    drawn = _Drawn(draws, no_longer)
    everywhere = _private(facts, drawn, elsewhere, width)
    taken = facts.names | RESERVED | set(everywhere.values())
    within: dict[str, Names] = {}
    for scope in facts.scopes:
        chosen: dict[str, str] = {}
        room = _Room(scope.text, scope.remarks, width)
        for old in facts.locals_of(scope):
            for new in drawn.for_name(old, scope.text):
                free = new not in taken and new not in chosen.values()
                if free and _remarks_stay_true(scope, old, new) and room.takes(old, new):
                    chosen[old] = new
                    break
        within[scope.path] = chosen
    return Renames(everywhere, within)


def _private(facts: Facts, drawn: _Drawn, elsewhere: frozenset[str], width: int) -> dict[str, str]:
    fixed = facts.keywords | facts.strings | facts.imported_names | facts.class_names
    taken = facts.names | facts.attributes | facts.strings | elsewhere | INHERITED
    chosen: dict[str, str] = {}
    room = _Room(facts.text, facts.remarks, width)
    for old in sorted(facts.private_names - fixed - elsewhere - INHERITED):
        for new in drawn.for_name(old, facts.text):
            if new not in taken and new not in chosen.values() and room.takes(old, new):
                chosen[old] = new
                break
    return chosen


class _Room:
    """Lines of strings, comments and docstrings, which cannot be broken, as names in them grow."""

    def __init__(self, text: str, remarks: str, width: int) -> None:
        said = set(remarks.split("\n"))
        self.lines = [
            line for line in text.split("\n") if '"' in line or "#" in line or line in said
        ]
        self.width = width

    def takes(self, old: str, new: str) -> bool:
        """Put a new name in if no line becomes too long."""
        if not any(old in line for line in self.lines):
            return True
        word = re.compile(rf"\b{old}\b")
        lines = [word.sub(new, line) for line in self.lines]
        grown = zip(self.lines, lines, strict=True)
        if any(len(after) > max(self.width, len(before)) for before, after in grown):
            return False
        self.lines = lines
        return True


@dataclass(frozen=True, slots=True)
class _Drawn:
    """Synonyms in the order in which a seed wants them."""

    draws: Draws
    no_longer: frozenset[str]
    """Names for which there is no more room than they take."""

    def for_name(self, name: str, text: str) -> Iterator[str]:
        """Yield what a name may become in a function of that text; at times there is nothing."""
        for other in self._whole(name, text) if name in WHOLE else self._by_words(name):
            if name not in self.no_longer or len(other) <= len(name):
                yield other

    def _whole(self, name: str, text: str) -> Iterator[str]:
        key = PAIRS.get(name, name)
        if self.draws.happens(_OFTEN, "rename", key):
            yield from self.draws.shuffled(synonyms(name, text), "synonym", key)

    def _by_words(self, name: str) -> Iterator[str]:
        """Yield a name with other words in it; a word becomes the same in the whole file."""
        words = name.split("_")
        table = FIRST_WORDS
        for place, word in enumerate(words if len(words) > 1 else []):
            if word in table and self.draws.happens(_WORDS, "word", word):
                words[place] = table[word]
            table = WORDS
        other = "_".join(words)
        if other != name:
            yield other


def _remarks_stay_true(scope: Scope, old: str, new: str) -> bool:
    """Say whether no remark speaks of the old name in a way that would be lost.

    A name that is also a plain word of the language, and stands as one, does no harm where the new
    name has the word in it.
    """
    left = _mentioned(old).sub("", scope.remarks)
    return not re.search(rf"\b{old}\b", left) or old in new.split("_")


def _mentioned(name: str) -> re.Pattern[str]:
    """Return what a remark that means the variable looks like."""
    if "_" in name or any(char.isdigit() for char in name):
        return re.compile(rf"\b{name}\b")
    return re.compile(rf"(?<=`){name}(?=`)|\b{name}(?= ?\[)")
