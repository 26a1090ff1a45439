"""The rules of a mutator: one record in, what is wrong with it out."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from libcst import ParserSyntaxError

from halfhour.mutators import Example, Mutator, MutatorError, check_examples, find_sites

from ..certify import MOST_CHANGED_LINES
from ..scaffold import still_open
from ..textdiff import changed_lines

LEAST_WORDS = 3
"""Of a name: fewer say no sentence."""

Rule = Callable[[Mutator], list[str]]

_BEFORE = '"""Kept as it is."""\nnear = [1,2 ,3]    # as somebody wrote it\n\n\n'
_AFTER = "\n\n\n\ndef  after( a,b ) :\n\treturn a+b   # with a tab\n"


def problems(mutator: Mutator) -> list[str]:
    """Return all that is wrong with a mutator; nothing if it keeps every rule."""
    return [problem for rule in RULES for problem in rule(mutator)]


def nothing_is_left_to_fill_in(mutator: Mutator) -> list[str]:
    """A scaffold is filled in before it is shipped."""
    text = Path(mutator.file).read_text(encoding="utf-8")
    return [f"{mutator.file}:{line}: still to fill in: {what}" for line, what in still_open(text)]


def examples_hold(mutator: Mutator) -> list[str]:
    """Each snippet becomes exactly its mutants, and near misses are spared."""
    return check_examples(mutator)


def near_misses_are_named(mutator: Mutator) -> list[str]:
    """Without them nothing says where the bug ends."""
    return _told(
        mutator,
        len(mutator.spares) >= 2,
        "names fewer than two `spares`: code that it leaves alone",
    )


def an_edit_is_a_slip_of_the_hand(mutator: Mutator) -> list[str]:
    """It changes a few lines, and what they mean."""
    return [
        f"{mutator.where}: `{mutator.name}` {problem}"
        for code, mutant in _pairs(mutator)
        if (problem := _no_slip(code, mutant))
    ]


def formatting_is_untouched(mutator: Mutator) -> list[str]:
    """Amid other code, in whatever style, it makes the same edit and no other."""
    return [
        f"{mutator.where}: `{mutator.name}` touches, or is misled by, code around its example:\n"
        f"{example.code}"
        for example in mutator.mutates
        if not _is_the_same_amid_others(mutator, example)
    ]


def the_name_is_a_sentence(mutator: Mutator) -> list[str]:
    """Such as top_p_drops_the_token_that_crosses."""
    return _told(
        mutator,
        len(mutator.name.split("_")) >= LEAST_WORDS,
        f"is no sentence: name the bug in {LEAST_WORDS} words or more",
    )


def the_family_is_a_kind_of_slip(mutator: Mutator) -> list[str]:
    """It is told by an id of two words or more."""
    return _told(
        mutator, "-" in mutator.family, f"has the family {mutator.family!r}: give it two words"
    )


def sightings_say_what_was_seen(mutator: Mutator) -> list[str]:
    """A few words beside each link."""
    return [
        f"{mutator.where}: `{mutator.name}` says {seen.note!r} of {seen.url}: use 2 to 12 words"
        for seen in mutator.sightings
        if not 2 <= len(seen.note.split()) <= 12
    ]


def the_title_states_the_broken_fact(mutator: Mutator) -> list[str]:
    """One sentence, on one line."""
    title = mutator.title
    return [
        *_told(
            mutator, title[0].isupper() and title.endswith("."), "has a title that is no sentence"
        ),
        *_told(mutator, len(title) <= 96, "has a title longer than 96 characters"),
    ]


def the_lesson_tells_the_rule_and_why_nobody_noticed(mutator: Mutator) -> list[str]:
    """Two paragraphs or more, and no essay."""
    paragraphs = mutator.lesson.split("\n\n")
    words = len(mutator.lesson.split())
    return [
        *_told(
            mutator,
            len(paragraphs) >= 2,
            "tells its lesson in one paragraph: say in another why nobody noticed",
        ),
        *_told(mutator, 40 <= words <= 160, f"has a lesson of {words} words: take 40 to 160"),
        *_told(
            mutator,
            all(paragraph.strip().endswith(".") for paragraph in paragraphs),
            "has a paragraph in its lesson that does not end with a full stop",
        ),
    ]


def hints_come_nearer(mutator: Mutator) -> list[str]:
    """The first two ask or send somewhere; the last is the rule, and no question."""
    first, second, rule = mutator.hints
    sentences = all(hint[-1] in ".?" and hint[0] in f"`{hint[0].upper()}" for hint in mutator.hints)
    return [
        *_told(mutator, "?" in first + second, "asks nothing in its first two hints"),
        *_told(
            mutator, rule.endswith("."), "has a third hint that is not the rule, as a statement"
        ),
        *_told(mutator, sentences, "has a hint that is no sentence"),
    ]


def hints_do_not_tell_the_answer(mutator: Mutator) -> list[str]:
    """Neither the name nor the title is in a hint."""
    words = " ".join(mutator.hints)
    return _told(
        mutator,
        mutator.name not in words and mutator.title.rstrip(".") not in words,
        "quotes its name or its title in a hint",
    )


RULES: tuple[Rule, ...] = (
    nothing_is_left_to_fill_in,
    examples_hold,
    near_misses_are_named,
    an_edit_is_a_slip_of_the_hand,
    formatting_is_untouched,
    the_name_is_a_sentence,
    the_family_is_a_kind_of_slip,
    sightings_say_what_was_seen,
    the_title_states_the_broken_fact,
    the_lesson_tells_the_rule_and_why_nobody_noticed,
    hints_come_nearer,
    hints_do_not_tell_the_answer,
)


def edits(mutator: Mutator) -> list[tuple[int, int, str]]:
    """Return what it makes of its examples, as it does; a broken example has no edits."""
    try:
        return [
            (site.start, site.end, site.replacement)
            for example in mutator.mutates
            for site in find_sites(_snippet(example.code), [mutator])
        ]
    except (MutatorError, ParserSyntaxError):
        return []


def _told(mutator: Mutator, fine: bool, problem: str) -> list[str]:
    return [] if fine else [f"{mutator.where}: `{mutator.name}` {problem}"]


def _pairs(mutator: Mutator) -> Iterator[tuple[str, str]]:
    for example in mutator.mutates:
        for mutant in example.mutants:
            yield _snippet(example.code), _snippet(mutant)


def _no_slip(code: str, mutant: str) -> str:
    try:
        same = ast.dump(ast.parse(code)) == ast.dump(ast.parse(mutant))
    except SyntaxError:
        return ""  # the examples tell it
    if same:
        return f"changes only how an example looks, not what it means:\n{mutant}"
    changed = changed_lines(_without_blank_lines(code), _without_blank_lines(mutant))
    if changed > MOST_CHANGED_LINES:
        return f"changes {changed} lines of an example, {MOST_CHANGED_LINES} are a slip:\n{mutant}"
    return ""


def _is_the_same_amid_others(mutator: Mutator, example: Example) -> bool:
    code = _snippet(example.code)
    amid = _BEFORE + code + _AFTER
    try:
        alone = [site.apply(code) for site in find_sites(code, [mutator])]
    except (MutatorError, ParserSyntaxError):
        return True  # the examples tell it
    try:
        found = [site.apply(amid) for site in find_sites(amid, [mutator])]
    except MutatorError:
        return False
    return found == [_BEFORE + mutant + _AFTER for mutant in alone]


def _snippet(code: str) -> str:
    return textwrap.dedent(code).strip("\n") + "\n"


def _without_blank_lines(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.strip())
